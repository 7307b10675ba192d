"""How numbers are made that are no quantities of the graph: each has an entry in the appendix under its name here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    title: str
    text: str
    source: str


METHODS = {
    "interval": Method(
        "80 % interval of a plan",
        "The prediction times the 10 % and 90 % quantiles of measured over predicted in one cell of measured runs (accelerator "
        "family, stack, dense or MoE), each group of runs held out in turn. The first cell with enough groups speaks, from "
        "the most specific to all runs.",
        "codesign/spec/data/error_model.json, fitted on the measured runs",
    ),
    "elasticity": Method(
        "Elasticity of the step",
        "d ln(step time) / d ln(input) by central differences of 0.1 % either way: the per cent by which the step changes for "
        "one per cent more of the input. Over all inputs, rates less durations sum to -1.",
        "all equations of the step, evaluated again",
    ),
    "share": Method("Share", "A part over its total, both shown beside it.", "arithmetic"),
    "exposed": Method(
        "Exposed communication",
        "Each exposed term evaluated again with one level of the network, or all, without limit: the level that removes most of "
        "it carries it. What stays beside endless compute has nothing to run beside.",
        "all equations of the step, evaluated again",
    ),
    "hidden": Method(
        "Hidden communication",
        "Time that the communication of the slowest rank takes on its links in a step, less what is exposed of it: what "
        "codesign timeline draws beside compute. Of the pipeline the hand-overs that the rank sends.",
        "the times of each collective, and the exposed terms",
    ),
    "search": Method(
        "Layouts around the plan's own",
        "Every combination of the values listed is a plan of its own, by the same equations, as in `codesign search`. "
        "A layout that breaks a limit is counted under the first one it breaks.",
        "codesign search",
    ),
    "measured": Method(
        "Measured run beside its prediction",
        "A published step time, and the step time that this version predicts for the same configuration; error = predicted / "
        "measured - 1. Runs are near by accelerator, stack, kind of model, precision, size and layout.",
        "measured_runs/, scored by `codesign validate`",
    ),
    "footing": Method(
        "Footing",
        "Inputs under the step time, counted by how each is known. The weakest kind among them is named.",
        "the kind that the spec, the profile, the stack or the fit states for each input",
    ),
    "rates": Method(
        "Goodput over published failure rates",
        "The run evaluated again at the two ends of the 80 % interval of published failure rates.",
        "published failure records; see the inputs component_unit_per_s",
    ),
    "bearable": Method(
        "What the run would bear",
        "All failure rates scaled together until the goodput of the run's policy meets the target.",
        "the equations of goodput, evaluated on a grid of factors",
    ),
    "by_component": Method(
        "Cost of a component's failures",
        "Rework, restart and down time, divided between components in proportion to how often each fails.",
        "the goodput budget",
    ),
    "draws": Method(
        "Interval of the loss",
        "2,000 joint draws of the constants of the scaling law, fixed seed; the 10 % and 90 % quantiles. It is the error of the "
        "constants, not of the form of the law.",
        "the bootstrap that the law's authors published",
    ),
    "joint": Method(
        "Interval of days, cost and energy",
        "500 joint draws, fixed seed: one error of the step for all phases, from the residuals of measured runs, and one factor "
        "for all published failure rates; the 10 % and 90 % quantiles. The exchange between sites stays as planned.",
        "the intervals of the step and of the failure rates",
    ),
    "over_sites": Method(
        "Interval of a step over sites",
        "The 80 % interval of the slowest site's step, and on both ends the exchange between sites as planned.",
        "the interval of the step",
    ),
    "laws": Method(
        "The same run by every scaling law",
        "Each law that has an L(N, D) evaluated on the same parameters and tokens.",
        "the constants that each paper prints",
    ),
    "calendar": Method("Date", "`run.start` plus the time to the end of the phase. No clock is read.", "run.start"),
    "launch": Method(
        "Launch now or wait",
        "The run evaluated again after each wait, faster by what improves meanwhile, with the failures that are left.",
        "run.launch",
    ),
    "ladder": Method(
        "The de-risking ladder",
        "Loss rungs keep the tokens a parameter of the run at less compute, system rungs keep a replica and use fewer of them. "
        "Thresholds are the upper ends of 80 % intervals.",
        "run.ladder, the law of loss and the plan of each smaller run",
    ),
    "sites": Method(
        "Traffic and strategies between sites",
        "The exchange that each strategy makes over the stated links, by the same equations; each strategy is a run of its own.",
        "sites, links and sync of the spec",
    ),
    "replay": Method(
        "Replay of the schedule",
        "Each rank works in the order that the authors of the schedule publish and starts a pass as soon as its input has "
        "arrived; the plan counts with a closed form. The two share no equation.",
        "codesign timeline",
    ),
    "change": Method(
        "Effect of a field",
        "The fields that differ are switched from before to now one by one; the mean of one order and its reverse, which adds up "
        "to the whole move.",
        "all equations of the step, evaluated again",
    ),
    "confidence": Method(
        "Confidence in the order of two plans",
        "How often, among pairs of measured runs that differ in the same scope, a predicted gap of this size had the right sign.",
        "codesign/spec/data/error_model.json",
    ),
    "difference": Method(
        "Difference", "One number less another, or their ratio less one, both shown beside it.", "arithmetic"
    ),
    "field": Method(
        "Field of the spec", "As the spec says, or as it follows from what it says; see the resolved spec.", "the spec"
    ),
    "counted": Method("Count", "Counted in the spec or in the list it stands beside.", "counting"),
}

__all__ = ["METHODS", "Method"]
