"""Whole-number arithmetic as a shell's `$(( ... ))` has it: + - * / and brackets, read as data."""

from __future__ import annotations

import re

_ALLOWED = re.compile(r"[0-9+\-*/ ()]{1,200}")


def calculate(text: str) -> int | None:
    """The value of a text of at most 200 characters with numbers of at most 18 digits; None where it is anything else."""
    if not _ALLOWED.fullmatch(text) or "**" in text:
        return None
    tokens = re.findall(r"\d+|[-+*/()]", text)
    try:
        value = _sum(tokens)
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return None if tokens else value


def _sum(tokens: list[str]) -> int:
    value = _product(tokens)
    while tokens and tokens[0] in "+-":
        value = value + _product(tokens) if tokens.pop(0) == "+" else value - _product(tokens)
    return value


def _product(tokens: list[str]) -> int:
    value = _number(tokens)
    while tokens and tokens[0] in "*/":
        value = value * _number(tokens) if tokens.pop(0) == "*" else value // _number(tokens)
    return value


def _number(tokens: list[str]) -> int:
    token = tokens.pop(0)
    if token == "-":
        return -_number(tokens)
    if token == "(":
        value = _sum(tokens)
        if tokens.pop(0) != ")":
            raise ValueError(token)
        return value
    if not token.isdigit() or len(token) > 18:
        raise ValueError(token)
    return int(token)
