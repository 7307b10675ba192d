"""From the arguments of a command to a loaded spec and to its plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.cli.output import say
from codesign.errors import SpecError

if TYPE_CHECKING:
    from codesign.planner import Plan
    from codesign.run import RunPlan
    from codesign.search.joint import Chooser
    from codesign.spec.load import Loaded
    from codesign.spec.schema import Spec


def loaded_spec(spec: str, sets: Sequence[str] | None) -> Loaded:
    """The checked spec of a file, with the `--set` arguments in it."""
    from codesign.spec import load

    return load.load(Path(spec), tuple(sets or ()))


def say_step_only(spec: Spec, file: str) -> None:
    """On stderr, of a command that looks at the step alone: which sections of the spec play no part in its answer."""
    from codesign.spec.run import SECTIONS

    written = [f"{name}:" for name in SECTIONS if getattr(spec, name)]
    if written:
        step = "the step on cluster: alone, the template of the sites" if spec.sites else "the step alone"
        say(f"note: the answer is about {step}, without {', '.join(written)} of {file}; codesign plan reads them")


def chooser(spec: str, sets: Sequence[str] | None, free: Sequence[str] | None, workers: int) -> Chooser | None:
    """The layout search of a spec, where its layout is open or opened by --free; none where there is nothing to choose."""
    from codesign.spec import domains

    opened = domains.load(spec, tuple(sets or ()), tuple(free or ()))
    if not free and not opened.is_open:
        return None
    from codesign.cli.progress import Progress
    from codesign.search.joint import Chooser

    return Chooser(opened, workers, Progress("layouts").show)


def planned(loaded: Loaded, override: Sequence[str] | None = None) -> Plan:
    """The plan, with quantities fixed by hand where asked; refuses an override that would change nothing here."""
    import numpy as np

    from codesign import graph
    from codesign.planner import plan as make

    if not override:
        return make(loaded)
    from codesign.quantities.beyond import is_beyond  # not loaded for a plan that fixes nothing

    given = _read_overrides(override)
    for name in given:
        if is_beyond(name):
            how = "change what it follows from with --set, and see that with codesign explain"
            message = f"--override {name}: a quantity of the run, and --override fixes those of the step: {how}"
            raise SpecError(message, field=name)
    base = make(loaded)
    used = {key[0] for key in base.values if isinstance(key, tuple)}
    inputs = {key.partition("[")[0] for key in base.values if isinstance(key, str)}
    for name in given:
        if name in inputs:
            raise SpecError(f"--override {name}: an input, not a quantity; change the spec with --set", field=name)
        if name in graph.REGISTRY and name not in used:
            raise SpecError(f"--override {name}: it plays no part in this plan", field=name)
    with np.errstate(all="ignore"):  # a counterfactual may divide by its zero; what is not finite is refused below
        made = make(loaded, overrides=given)
    if not (math.isfinite(made.step_s) and made.step_s > 0):
        raise SpecError(f"--override {', '.join(given)}: leaves a step of {made.step_s:g} s, which is no step")
    return made


def run_of(loaded: Loaded, plan: Plan) -> RunPlan | None:
    """The run beyond the step, where the spec has a `run:` section or sites."""
    from codesign.run import run_of as found

    return found(loaded, plan)


def _read_overrides(texts: Sequence[str]) -> dict[str, float]:
    from codesign import units

    given: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise SpecError(f"--override {text!r}: write QUANTITY=VALUE, for example tp_exposed_s=0")
        if name in given:
            raise SpecError(f"--override {name} is given twice")
        try:
            given[name] = units.parse(value, units.suffix(name))
        except ValueError as error:
            raise SpecError(f"--override {name}: {error}", field=name) from None
        if given[name] < 0:
            raise SpecError(f"--override {name}: {value} is below zero", field=name)
    return given
