"""Where the data folders are: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def root(name: str) -> Path:
    """The folder of data called `name` (`hardware_profiles`, `measured_runs`, `examples`), or the file `app.py`.

    A checkout is known by the `pyproject.toml` beside the package; a wheel carries the folders in `codesign/_data`.
    """
    checkout = _PACKAGE.parent
    return checkout / name if (checkout / "pyproject.toml").is_file() else _PACKAGE / "_data" / name
