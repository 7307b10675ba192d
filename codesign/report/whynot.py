"""The answer to `why-not` as text."""

from __future__ import annotations

from codesign import graph, units
from codesign.report import search, text
from codesign.search.asked import Answer

SMALLEST = 0.02  # of the difference: parts that moved less are shown together


def screen(answer: Answer) -> str:
    """Refused, with what lifts it; or slower than the best, by which terms."""
    lines: list[str] = []
    if answer.asked is None:
        lines.append("IT CANNOT RUN")
        if answer.not_whole and not answer.candidates:
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in answer.not_whole.items())
            lines.append(text.wrap(f"no way to complete it is whole in: {reasons}"))
        lines += [search.refusal(refusal) for refusal in answer.refusals]
        if answer.best is not None:
            lines += ["", text.wrap(f"the best that can: {_words(answer, best=True)}", "  ", "")]
        return "\n".join(lines) + "\n"
    lines.append(text.wrap(f"IT CAN RUN: {_words(answer, best=False)}", "  ", ""))
    if answer.best is None:
        return "\n".join(lines) + "\n"
    asked, best = answer.asked.plan, answer.best.plan
    slower = asked.step_s / best.step_s - 1.0
    if answer.asked.fields == answer.best.fields or slower == 0.0:
        lines.append("and it is the best of the space.")
        return "\n".join(lines) + "\n"
    lines.append(text.wrap(f"the best: {_words(answer, best=True)}", "  ", ""))
    verb = "slower" if slower > 0 else "faster"
    lines.append(
        f"{abs(slower):.1%} {verb} than the best of the space ({units.show(abs(asked.step_s - best.step_s), 's')} a step):"
    )
    moved = sorted(answer.parts.items(), key=lambda item: -abs(item[1]))
    total = sum(abs(value) for _, value in moved)
    rest = 0.0
    for name, value in moved:
        if abs(value) < SMALLEST * total:
            rest += value
            continue
        what = " ".join(graph.REGISTRY[name].doc.split()).partition(". ")[0].rstrip(".")
        lines.append(text.wrap(what, " " * 41, f"  {_signed(value):>12}  {name:25}"))
    if rest:
        lines.append(f"  {_signed(rest):>12}  all other parts")
    room = asked.value("peak_B") - best.value("peak_B")
    lines.append(f"  memory of the fullest rank: {units.show(abs(room), 'B')} {'more' if room > 0 else 'less'}")
    return "\n".join(lines) + "\n"


def _signed(seconds: float) -> str:
    return ("+" if seconds >= 0 else "-") + units.show(abs(seconds), "s")


def _words(answer: Answer, best: bool) -> str:
    candidate = answer.best if best else answer.asked
    assert candidate is not None
    return search.words(candidate)


__all__ = ["screen"]
