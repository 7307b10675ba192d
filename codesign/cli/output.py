"""What leaves a command: streams, formats, files written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from codesign.errors import SpecError


class Format(StrEnum):
    """How an answer is written."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


_ENDINGS = {".json": Format.json, ".csv": Format.csv, ".md": Format.md, ".txt": Format.table}


def say(text: str) -> None:
    """To people, not to programs: stderr, where somebody listens."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr)


def show_traceback() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def _hush(stream: Any) -> None:
    """Point a stream whose reader is gone at nothing, so that the interpreter can close it without a word."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def emit(text: str, output: str | None = None, keep: str | tuple[str, ...] | None = None) -> None:
    """Data to stdout or, all or nothing, to a file. `keep` are input files that must not be overwritten."""
    if output is None or output == "-":
        _emit_stdout(text)
        return
    inputs = (keep,) if isinstance(keep, str) else keep or ()
    if any(_same_file(output, path) for path in inputs):
        raise SpecError(f"-o {output}: this is the input; write to another file")
    _write(output, text)
    say(f"wrote {output}")


def _emit_stdout(text: str) -> None:
    if sys.stdout is None:
        raise SpecError("stdout is closed: nothing can be written; use -o FILE")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _hush(sys.stdout)  # the reader has seen enough: the exit code stays that of the answer
    except OSError as error:
        _hush(sys.stdout)
        raise SpecError(f"stdout: cannot be written: {error.strerror or error}") from error


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _write(output: str, text: str) -> None:
    replace_file(output, text.encode("utf-8", "replace"))


def replace_file(output: str, data: bytes) -> None:
    """Write a file through a temporary one beside it, so that a reader never sees half of it."""
    path = Path(os.path.realpath(output)) if "\0" not in output else Path(output)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)  # a device or a pipe cannot be replaced
            return
        _replace(path, data)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise SpecError(f"-o {output}: cannot be written: {reason}") from error


def _replace(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(0, "it is a directory")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(0, "it is read-only")
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def chosen_format(written: Format | None, output: str | None) -> Format:
    """The format that was asked for, else that of the file's ending."""
    if written is not None or output is None or output == "-":
        return written or Format.table
    ending = Path(output).suffix.lower()
    if ending not in _ENDINGS:
        raise SpecError(f"-o {output}: the ending names no format. Allowed: {', '.join(_ENDINGS)}; or give --format")
    return _ENDINGS[ending]


def json_text(data: Any) -> str:
    """One JSON document; what is not a finite number is null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def yaml_text(data: Any) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def emit_rows(
    shown: Sequence[Mapping[str, Any]], raw: Sequence[Mapping[str, Any]], data: Any, written: Format | None,
    output: str | None, right: Sequence[str] = (),
) -> None:
    """Rows for people (`shown`), rows with plain numbers for csv (`raw`), and the JSON document (`data`)."""
    from codesign.report import text

    form = chosen_format(written, output)
    if form is Format.json:
        emit(json_text(data), output)
    elif form is Format.csv:
        emit(text.csv_text(raw), output)
    elif form is Format.md:
        emit(text.markdown_table(shown), output)
    else:
        emit(text.table(shown, right) + "\n", output)
