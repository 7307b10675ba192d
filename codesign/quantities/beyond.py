"""The quantities of a run beyond its step. Importing this module registers them all.

They stand apart from those of the step, so that planning a step does not load them.
"""

from codesign import graph
from codesign.quantities import (
    data,
    goodput,
    groups,
    loss,
    money,
    policies,
    power,
    reliability,
    run,
    serving,
    serving_communication,
    sites,
)

# what every run is asked for; its sections add theirs
TARGETS = ("phase_tokens_per_s", "productive_s", "run_wall_s", "run_tokens_per_s", "run_accelerator_hours")

_MODULES = (data, goodput, groups, loss, money, policies, power, reliability, run, serving, serving_communication, sites)


def is_beyond(name: str) -> bool:
    """Whether a quantity lies beyond the step."""
    return name in graph.REGISTRY and graph.REGISTRY[name].function.__module__ in {one.__name__ for one in _MODULES}


__all__ = [
    "data", "goodput", "groups", "is_beyond", "loss", "money", "policies", "power", "reliability", "run", "serving",
    "serving_communication", "sites",
]
