"""Types of the fields of a spec: numbers with units, counts, shares; and the section that refuses unknown fields."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from codesign import units


def _reader(unit: str, bare: bool, zero: bool, like: str | None = None) -> BeforeValidator:
    def read(value: object) -> float:
        number = units.parse(value, unit, bare=bare, like=like)
        if number < 0 or (number == 0 and not zero):
            raise ValueError(f"{value!r} is not {'0 or more' if zero else 'above 0'}")
        return number

    return BeforeValidator(read)


def _json(unit: str, bare: bool, like: str | None = None) -> WithJsonSchema:
    text = {"type": "string", "pattern": r"^\s*[0-9.][0-9_.eE+-]*\s*[A-Za-zµ][A-Za-z /]*$"}
    what = f"{units.SUFFIXES[unit][0]}, for example '{like or units.example(unit)}'"
    if bare:
        return WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, text], "description": what})
    return WithJsonSchema({**text, "description": what})


def whole(value: object) -> object:
    """1e4 where a count is wanted: a float is accepted if it is whole."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def form(value: object) -> str:
    """Which form of a field is written: a bare name, or a section with fields."""
    return "~section" if isinstance(value, dict | BaseModel) else "~name"


# Strict: pydantic would take `no` for false, true for 1 and the text '8' for 8.
Flag = Annotated[bool, Field(strict=True)]
Bytes = Annotated[float, _reader("B", bare=False, zero=False), _json("B", bare=False)]
BytesPerS = Annotated[float, _reader("Bps", bare=False, zero=False), _json("Bps", bare=False)]
FlopPerS = Annotated[float, _reader("FLOPps", bare=False, zero=False), _json("FLOPps", bare=False)]
Seconds = Annotated[float, _reader("s", bare=False, zero=True), _json("s", bare=False)]
# The same in seconds; the name says in which size people write it, for the examples of messages.
InMilliseconds = Annotated[float, _reader("s", False, True, "30 ms"), _json("s", False, "30 ms")]
InMinutes = Annotated[float, _reader("s", False, True, "15 min"), _json("s", False, "15 min")]
InHours = Annotated[float, _reader("s", False, True, "1 h"), _json("s", False, "1 h")]
InDays = Annotated[float, _reader("s", False, True, "30 d"), _json("s", False, "30 d")]
Duration = Annotated[float, _reader("s", False, False, "2 d"), _json("s", False, "2 d")]
MeanTime = Annotated[float, _reader("s", False, False, "5 y"), _json("s", False, "5 y")]
Watts = Annotated[float, _reader("W", bare=True, zero=False), _json("W", bare=True)]
Tokens = Annotated[float, _reader("tokens", bare=True, zero=False), _json("tokens", bare=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9), BeforeValidator(whole)]
Whole = Annotated[int, Field(strict=True, ge=0, le=10**9), BeforeValidator(whole)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


def _day(value: object) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a date: write YYYY-MM-DD")
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a date: write YYYY-MM-DD, as in 2027-03-01") from None


Date = Annotated[
    datetime.date, BeforeValidator(_day), WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"})
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
