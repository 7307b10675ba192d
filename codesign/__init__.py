"""codesign: one analytic model of a large training run.

    from codesign import load_spec, plan
    plan("examples/llama-3.1-405b-h100.yaml").step_s

Imports are lazy: `import codesign` costs nothing until a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codesign.planner import Plan, plan
    from codesign.spec.load import load_spec

__version__ = "0.1.0"
__all__ = ["Plan", "__version__", "load_spec", "plan"]

_HOME = {"Plan": "codesign.planner", "plan": "codesign.planner", "load_spec": "codesign.spec.load"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'codesign' has no attribute {name!r}")
