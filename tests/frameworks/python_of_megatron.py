"""What Megatron-LM's sources want of Python beyond this one."""

from __future__ import annotations

import typing


def prepare() -> None:
    """Megatron-LM is written for Python 3.12; its arguments and configurations need no more than its `typing.override`."""
    if not hasattr(typing, "override"):
        import typing_extensions

        typing.override = typing_extensions.override  # type: ignore[attr-defined]
