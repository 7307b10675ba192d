"""The `review:` section: what a plan of record says about people. No number of a plan rests on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from codesign.spec.fields import Date, Section

if TYPE_CHECKING:
    from codesign.spec.schema import Spec

Words = Annotated[str, Field(min_length=1, max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=120)]


class Assumption(Section):
    """Who answers for one input of the plan, and when it was last looked at. `input`: a name as `codesign explain` takes it."""

    input: Name
    owner: Name | None = None
    date: Date | None = None
    note: Words | None = None


class SignOff(Section):
    """A line of the sign-off table; without a name it is still to be signed."""

    role: Name
    name: Name | None = None
    date: Date | None = None


class Review(Section):
    """What a design review says beside the numbers. `question` replaces the one that the spec itself asks."""

    owner: Name | None = None
    date: Date | None = None
    question: Words | None = None
    decision: Words | None = None
    assumptions: tuple[Assumption, ...] = ()
    open_questions: tuple[Words, ...] = ()
    sign_off: tuple[SignOff, ...] = ()


def conflicts(spec: Spec) -> Iterator[tuple[str, str]]:
    """Fields of `review:` that contradict each other, with the reason."""
    review = spec.review
    if review is None:
        return
    seen: dict[str, int] = {}
    for at, one in enumerate(review.assumptions):
        name = f"review.assumptions.{at}"
        if one.input in seen:
            yield f"{name}.input", f"{name}.input {one.input} is given in review.assumptions.{seen[one.input]} already"
        seen.setdefault(one.input, at)
        if one.owner is None and one.date is None and one.note is None:
            yield name, f"{name} says nothing of {one.input}: write owner, date or note"
    for at, signed in enumerate(review.sign_off):
        if signed.date is not None and signed.name is None:
            name = f"review.sign_off.{at}"
            yield f"{name}.date", f"{name}.date has no meaning without {name}.name: nobody has signed"


__all__ = ["Assumption", "Review", "SignOff", "conflicts"]
