"""Units: the suffix legend of names, the closed table of units that input text may use, and formatting.

Every quantity carries its unit as a suffix of its name (`step_s`, `peak_B`, `nic_Bps`). Inputs may be written with a
unit (`400 Gb/s`, `80 GiB`); they are read into the base unit once, here, at the edge.
"""

from __future__ import annotations

import difflib
import math
import re

# suffix -> (meaning, powers of the base dimensions second, byte, watt). FLOP, tokens and counts are pure numbers.
SUFFIXES: dict[str, tuple[str, tuple[int, int, int]]] = {
    "s": ("seconds", (1, 0, 0)),
    "B": ("bytes", (0, 1, 0)),
    "Bps": ("bytes per second, per direction", (-1, 1, 0)),
    "FLOP": ("floating-point operations, a multiply-add is two", (0, 0, 0)),
    "FLOPps": ("floating-point operations per second", (-1, 0, 0)),
    "W": ("watts", (0, 0, 1)),
    "J": ("joules", (1, 0, 1)),
    "tokens": ("tokens", (0, 0, 0)),
    "tokens_per_s": ("tokens per second", (-1, 0, 0)),
    "per_s": ("events per second", (-1, 0, 0)),
    "kg": ("kilograms", (0, 0, 0)),
    "1": ("a count or a ratio", (0, 0, 0)),
}

_SI = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_IEC = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}


def _table() -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {"B": {}, "Bps": {}, "FLOPps": {}, "s": {}, "W": {}, "tokens": {}}
    for prefix, factor in {**_SI, **_IEC}.items():
        table["B"][f"{prefix}B"] = factor
        table["Bps"][f"{prefix}B/s"] = factor
        table["Bps"][f"{prefix}b/s"] = factor / 8
        table["Bps"][f"{prefix}bit/s"] = factor / 8
    for prefix, factor in _SI.items():
        table["FLOPps"][f"{prefix}FLOP/s"] = factor
        table["FLOPps"][f"{prefix}FLOPS"] = factor
    table["s"] = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    table["s"]["y"] = 365.25 * 86400.0
    table["W"] = {"W": 1.0, "kW": 1e3, "MW": 1e6, "GW": 1e9}
    table["tokens"] = {"tokens": 1.0, "k tokens": 1e3, "M tokens": 1e6, "B tokens": 1e9, "T tokens": 1e12}
    return table


UNITS = _table()
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_NUMBER = re.compile(rf"([+-]?(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(.*)", re.DOTALL)
_LONGEST = 80  # characters of a written quantity; longer text is refused unread


def parse(value: object, unit: str, *, bare: bool = True, like: str | None = None) -> float:
    """Read `value` (a number, or text with a unit) into the base unit `unit`.

    `bare=False` refuses a number without a unit, where bit/byte or GB/GiB is the usual mistake. `like`: a usual value of
    the field, for messages.
    Raises ValueError with the reason and what is allowed.
    """
    number, name = _split(value, like or example(unit))
    allowed = UNITS.get(unit, {})
    if not name:
        if not bare and number:
            raise ValueError(f"{value!r} has no unit: write for example {like or example(unit)!r}")
        return number
    if name not in allowed:
        raise ValueError(_unknown(name, value, unit, allowed))
    factor = allowed[name]
    # the inverse of a small factor is a whole number: dividing by it rounds once, so '2.5 us' is exactly 2.5e-6
    scaled = number * factor if factor >= 1 else number / round(1 / factor)
    if not math.isfinite(scaled):
        raise ValueError(f"{value!r} is not finite")
    return scaled


def _split(value: object, like: str) -> tuple[float, str]:
    """The number and the name of the unit ('' where there is none) as written."""
    if isinstance(value, str) and len(value) <= _LONGEST and (found := _NUMBER.fullmatch(value.strip())):
        number, name = float(found[1].replace("_", "")), found[2]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number, name = _float(value), ""
    else:
        raise ValueError(f"{_clip(value)} is not a number with a unit (for example {like!r})")
    if not math.isfinite(number):
        raise ValueError(f"{_clip(value)} is not finite")
    return number, name


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _clip(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**_LONGEST:
        return "a number of more than 80 digits"  # Python refuses to print the longest ones
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + "..." + text[-1]


def _unknown(name: str, value: object, unit: str, allowed: dict[str, float]) -> str:
    """Why `name` is not a unit of `unit`, and which one was probably meant."""
    other = next((u for u, names in UNITS.items() if name in names), None)
    kind = f" ({name} measures {SUFFIXES[other][0]}, not {SUFFIXES[unit][0]})" if other and unit in SUFFIXES else ""
    near = [known for known in allowed if known.lower() == name.lower()]
    if other and not near:  # no slip of the pen: the nearest letters would mislead
        near = [known for known in (name.removesuffix("/s"), f"{name}/s") if known in allowed]
    near = sorted(near) or ([] if other else difflib.get_close_matches(name, list(allowed), 1, 0.4))
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"unknown unit {name!r} in {value!r}{kind}. {hint}Allowed: {_allowed(unit)}"


def _allowed(unit: str) -> str:
    prefixes = "with one of the prefixes k M G T P E Ki Mi Gi Ti Pi"
    compact = {
        "B": f"B, {prefixes}",
        "Bps": f"B/s, b/s or bit/s, {prefixes}",
        "FLOPps": "FLOP/s or FLOPS, with one of the prefixes k M G T P E",
    }
    return compact.get(unit) or ", ".join(UNITS.get(unit, {})) or "a bare number"


def example(unit: str) -> str:
    """A text that `parse` reads in this unit, for messages."""
    return {
        "B": "80 GiB",
        "Bps": "400 Gb/s",
        "FLOPps": "989 TFLOP/s",
        "s": "2.5 us",
        "W": "700 W",
        "tokens": "15.6 T tokens",
    }.get(unit, "1")


def suffix(name: str) -> str:
    """The unit suffix of a quantity's name, '1' where it has none: `nic_Bps` -> `Bps`."""
    for length in (3, 2, 1):
        tail = "_".join(name.split("_")[-length:])
        if tail != name and tail in SUFFIXES and tail != "1":
            return tail
    return "1"


# base unit -> the steps in which people read it, largest first
_STEPS: dict[str, list[tuple[float, str]]] = {
    "s": [(86400.0, "d"), (3600.0, "h"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")],
    "B": [(2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")],
    "Bps": [(1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")],
    "FLOPps": [(1e18, "EFLOP/s"), (1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1.0, "FLOP/s")],
    "W": [(1e9, "GW"), (1e6, "MW"), (1e3, "kW"), (1.0, "W")],
}
_WORDS = {"tokens": "tokens", "tokens_per_s": "tokens/s", "FLOP": "FLOP", "J": "J", "per_s": "per s", "kg": "kg"}


def base(unit: str) -> str:
    """How the base unit is written in text that `parse` reads: 'Bps' -> 'B/s'."""
    return {"Bps": "B/s", "FLOPps": "FLOP/s"}.get(unit, unit)


def _scaled(value: float, steps: list[tuple[float, str]]) -> str:
    for factor, name in steps:
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.4g} {name}"
    factor, name = steps[-1]
    return f"{value / factor:.3g} {name}"


def show(value: float | None, unit: str) -> str:
    """`value` in the base unit `unit`, as people read it: 5.2e10 B -> '48.43 GiB'; nothing to show is '-'."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if unit in _STEPS:
        return _scaled(value, _STEPS[unit]) if value else f"0 {base(unit)}"
    if unit in ("tokens", "tokens_per_s"):
        text = f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.4g}"
    elif unit != "FLOP" and value == int(value) and abs(value) < 1e9:
        text = f"{int(value):,}"
    else:
        text = f"{value:.4g}"
    return f"{text} {_WORDS[unit]}" if unit in _WORDS else text
