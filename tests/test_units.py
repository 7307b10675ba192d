"""Units: the closed table is exact, mistakes are named, and what is shown reads back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import units


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("400 Gb/s", "Bps", 50e9),
        ("400Gbit/s", "Bps", 50e9),
        ("450 GB/s", "Bps", 450e9),
        ("1 KiB/s", "Bps", 1024.0),
        ("80 GiB", "B", 80 * 2**30),
        ("80 GB", "B", 80e9),
        ("2.5 us", "s", 2.5e-6),
        ("2.5 µs", "s", 2.5e-6),
        ("7 d", "s", 604800.0),
        ("2 y", "s", 63115200.0),
        ("1979 TFLOP/s", "FLOPps", 1979e12),
        ("989 TFLOPS", "FLOPps", 989e12),
        ("700 W", "W", 700.0),
        ("15.6 T tokens", "tokens", 15.6e12),
        ("16_384", "1", 16384.0),
        ("-1.5e3", "1", -1500.0),
        (".5", "1", 0.5),
        (7, "1", 7.0),
        (0, "Bps", 0.0),
    ],
)
def test_written_quantity_is_read_into_the_base_unit(text: object, unit: str, expected: float):
    assert units.parse(text, unit, bare=unit in ("1", "W", "tokens")) == expected


@pytest.mark.parametrize(
    ("value", "unit", "message"),
    [
        (400, "Bps", "400 has no unit: write for example '400 Gb/s'"),
        (True, "B", "True is not a number with a unit (for example '80 GiB')"),
        (None, "B", "None is not a number with a unit (for example '80 GiB')"),
        ("fast", "Bps", "'fast' is not a number with a unit (for example '400 Gb/s')"),
        ("", "s", "'' is not a number with a unit (for example '2.5 us')"),
        (math.inf, "W", "inf is not finite"),
        (math.nan, "W", "nan is not finite"),
        ("1e308 TB", "B", "'1e308 TB' is not finite"),
        (10**400, "B", "a number of more than 80 digits is not finite"),
        ("٣ GiB", "B", "'٣ GiB' is not a number with a unit (for example '80 GiB')"),
        (
            "80 GB/s",
            "B",
            (
                "unknown unit 'GB/s' in '80 GB/s' (GB/s measures bytes per second, per direction, not bytes). "
                "Did you mean 'GB'? Allowed: B, with one of the prefixes k M G T P E Ki Mi Gi Ti Pi"
            ),
        ),
        ("3 weeks", "s", "unknown unit 'weeks' in '3 weeks'. Allowed: ns, us, µs, ms, s, min, h, d, y"),
    ],
)
def test_mistake_is_named(value: object, unit: str, message: str):
    with pytest.raises(ValueError) as caught:
        units.parse(value, unit, bare=False)
    assert str(caught.value) == message


def test_long_text_is_refused_unread():
    with pytest.raises(ValueError, match="is not a number with a unit"):
        units.parse("1" * 10**6 + "\n x", "B")


def test_case_that_decides_between_bit_and_byte_is_asked_back():
    with pytest.raises(ValueError, match="Did you mean 'GB/s' or 'Gb/s'"):
        units.parse("400 gb/s", "Bps")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5.2e10, "B", "48.43 GiB"),
        (5e10, "Bps", "50 GB/s"),
        (989.4e12, "FLOPps", "989.4 TFLOP/s"),
        (0.0, "s", "0 s"),
        (0.0, "Bps", "0 B/s"),
        (90.0, "s", "90 s"),
        (2.5e-6, "s", "2.5 us"),
        (86400.0, "s", "1 d"),
        (700.0, "W", "700 W"),
        (2.5e6, "W", "2.5 MW"),
        (3.0, "J", "3 J"),
        (4096.0, "tokens", "4,096 tokens"),
        (15.6e12, "tokens", "1.56e+13 tokens"),
        (3.8e25, "FLOP", "3.8e+25 FLOP"),
        (16384.0, "1", "16,384"),
        (0.4123456, "1", "0.4123"),
        (None, "s", "-"),
        (math.inf, "s", "inf"),
    ],
)
def test_value_is_shown_as_people_read_it(value: float | None, unit: str, text: str):
    assert units.show(value, unit) == text


@given(st.floats(min_value=1e-30, max_value=1e30), st.sampled_from(["B", "Bps", "FLOPps", "s", "W"]))
def test_base_unit_text_reads_back_exactly(value: float, unit: str):
    assert units.parse(f"{value!r} {units.base(unit)}", unit, bare=False) == value


@given(st.floats(min_value=1e-8, max_value=1e20), st.sampled_from(["B", "Bps", "FLOPps", "s", "W"]))
def test_what_is_shown_reads_back_to_four_digits(value: float, unit: str):
    assert units.parse(units.show(value, unit), unit) == pytest.approx(value, rel=6e-3)


def test_every_unit_of_the_table_has_a_legend_and_an_example():
    for unit, allowed in units.UNITS.items():
        assert unit in units.SUFFIXES
        assert units.parse(units.example(unit), unit, bare=False) > 0
        assert allowed[units.base(unit)] == 1.0


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("nic_Bps", "Bps"),
        ("step_s", "s"),
        ("rate_tokens_per_s", "tokens_per_s"),
        ("mfu", "1"),
        ("failures_per_s", "per_s"),
    ],
)
def test_suffix_of_a_name(name: str, suffix: str):
    assert units.suffix(name) == suffix


def test_a_unit_of_something_else_gets_no_neighbour_by_letters_but_the_same_as_a_rate():
    with pytest.raises(ValueError) as caught:
        units.parse("100 ms", "Bps")
    assert "Did you mean" not in str(caught.value) and "ms measures seconds" in str(caught.value)
    with pytest.raises(ValueError, match="Did you mean 'GB/s'"):
        units.parse("100 GB", "Bps")


def test_the_example_of_a_message_is_of_the_size_of_the_field():
    with pytest.raises(ValueError, match="for example '15 min'"):
        units.parse(15, "s", bare=False, like="15 min")
