"""What holds for all laws of a run together: bits of a batch of one, no warnings, every published check in one place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from published import HERE, checks

from codesign.laws import (
    batch,
    checkpoints,
    compression,
    distributions,
    economics,
    extrapolation,
    multisite,
    power,
    reliability,
    repeated_data,
    scaling,
    semisync,
    serving,
    transport,
    triage,
    two_tier,
)

MODULES = (
    batch, checkpoints, compression, distributions, economics, extrapolation, multisite, power, reliability, repeated_data,
    scaling, semisync, serving, transport, triage, two_tier,
)

CHECK_IDS = [  # of topics 5 to 12: loss, code length, reliability, triage, sites, economics, inference, money and power
    "C043", "C086", "C087", "C120", "C121", "C122", "C123", "C124", "C125", "C126", "C127", "C128", "C129", "C130", "C131",
    "C132", "C133", "C134", "C135", "C136", "C137", "C139", "C140", "C141", "C142", "C143", "C144", "C145", "C146", "C147",
    "C148", "C149", "C150", "C151", "C152", "C153", "C154", "C155", "C157", "C158", "C159", "C160", "C161", "C162", "C170",
    "C171", "C172", "C173", "C174", "C175", "C180", "C181", "C182", "C183", "C184", "C185", "C186", "C187", "C188", "C189",
    "C190", "C191", "C192", "C193", "C194", "C195", "C196", "C197", "C198", "C199", "C200", "C201", "C202", "C203", "C204",
    "C205", "C206", "C207", "C208", "C209", "C220", "C221", "C222", "C223", "C224", "C225", "C226", "C227", "C228", "C240",
    "C241", "C242", "C243", "C244", "C245", "C246", "C247", "C248", "C249", "C260", "C261", "C262", "C263", "C264", "C265",
    "C266", "C267", "C268", "C269", "C270", "C280", "C281", "C282", "C283", "C284", "C285", "C286", "C287", "C288", "C289",
    "C290", "C300", "C301", "C302", "C303",
]


def test_every_published_check_of_these_topics_is_held_once():
    """Once among the copied checks, and once by name in the test that computes it."""
    assert sorted(checks(*range(5, 13))) == CHECK_IDS and len(set(CHECK_IDS)) == len(CHECK_IDS) == 125
    named: dict[str, int] = dict.fromkeys(CHECK_IDS, 0)
    for path in HERE.glob("test_*.py"):
        if path.name != "test_laws_of_a_run.py":
            text = re.sub(r'CHECKS\["C\d{3}"\]', "", path.read_text(encoding="utf-8"))
            for key in re.findall(r'"(C\d{3})"', text):
                if key in named:
                    named[key] += 1
    assert {key: count for key, count in named.items() if count != 1} == {}


# ---------------------------------------------------------------------------------------------------- batch of one

UNIT = (0.05, 0.95)
RANGES: dict[str, tuple[float, float]] = {  # by name of an argument; anything else is a size between 1 and 1,000
    "probability": UNIT, "confidence": UNIT, "significance": (1e-4, 0.1), "success": UNIT, "share": UNIT,
    "power": UNIT, "log_probability": (-40.0, -1e-6), "target": UNIT, "above": UNIT, "loss": (0.0, 0.01), "memory_share": UNIT,
    "replaced_share": (0.0, 1.0), "failed_share": UNIT, "slow_share": UNIT, "utilised_share": UNIT,
    "hardware_prior": UNIT, "windowed_share": UNIT, "network_share": UNIT, "loss_per_repeat": UNIT,
    "exponent": (0.1, 0.9), "memory": UNIT, "early_per_s": (1e-4, 1e-3), "settled_per_s": (1e-6, 1e-5),
    "rate_per_s": (0.0, 1e-3), "replica_rate_per_s": (0.0, 1e-4), "sparsity": (8.0, 48.0), "parameters": (1e8, 1e12),
    "tokens": (1e9, 1e13), "compute_FLOP": (1e20, 1e27), "unique_tokens": (1e10, 1e13), "served_tokens": (0.0, 1e14),
    "active": (1e8, 1e11), "loss_before": (3.0, 4.0), "loss_after": (2.0, 3.0), "irreducible": (1.0, 1.9),
    "gamma": (0.1, 0.2), "alpha": (0.2, 0.5), "vocabulary": (3e4, 3e5), "floor": (1.5, 2.0), "mu": (-0.2, -0.1),
    "nu": (-0.2, -0.1), "b": (-0.2, -0.1), "reference_loss": (1.8, 2.2), "top_k": (1.0, 8.0), "experts": (16.0, 512.0),
    "chunks": (1.0, 64.0), "busy_W": (500.0, 900.0), "idle_W": (100.0, 400.0), "repeated": (0.0, 30.0),
    "detect_s": (0.0, 1e4), "lost": (1.0, 1.5), "replicas": (2.0, 900.0), "machines": (1000.0, 2000.0),
    "faults": (0.0, 900.0), "events": (0.0, 900.0), "first_events": (0.0, 900.0), "second_events": (1.0, 900.0),
    "count": (2.0, 90.0), "trials": (100.0, 1000.0), "mean": (0.1, 100.0), "x": (0.1, 1e5), "window": (1.0, 1000.0),
    "discount": (0.0, 0.1),
}
WHOLE = {
    "count", "trials", "events", "faults", "first_events", "second_events", "nodes", "shape", "freedom", "machines",
    "lost", "replicas", "stages_beyond", "micro_batches", "segments", "faults_on_node", "spare_units", "units",
}
STRUCTURES: dict[Callable[..., Any], list[dict[str, Any]]] = {
    semisync.diloco_loss: [{"replicas": m} for m in semisync.DILOCO_LOSS],
    semisync.diloco_batch_tokens: [{"replicas": m} for m in semisync.DILOCO_BATCH],
    transport.delivered_Bps: [{"transport": kind} for kind in ("lossless", "go-back-n", "selective-repeat", "tcp")],
    **{law: [{"law": scaling.BESIROGLU.law}] for law in (
        scaling.loss, scaling.optimum, scaling.balance, scaling.inference_aware_optimum,
        repeated_data.data_bound_FLOP, scaling.tokens_for, scaling.compute_for_FLOP,
    )},
}
# draws take a generator, laws of a law take no array, curves lie on the last axis and cannot be cut there
NOT_ELEMENTWISE = {
    scaling.draw_parameters, scaling.parameter_exponent, scaling.compute_exponent, triage.dispersion, triage.dispersion_p_value,
    compression.curve_code_bits, extrapolation.fit_line, extrapolation.prediction_sd,
}
FUNCTIONS = [
    function for module in MODULES for _, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not function.__name__.startswith("_") and function not in NOT_ELEMENTWISE
]
ROWS = 301


def drawn(rng: np.random.Generator, name: str, annotation: str) -> Any:
    low, high = RANGES.get(name, (1.0, 1000.0))
    values = rng.uniform(low, high, ROWS)
    values = np.floor(values) if name in WHOLE else values
    if name == "arrivals_s":
        return [values, values + 100.0, values + 250.0]
    return [values, values[::-1] + 0.0, values * 0.5] if annotation.startswith(("Sequence", "list")) else values


def cut(value: Any, at: int) -> Any:
    return [one[at : at + 1] for one in value] if isinstance(value, list) else value[at : at + 1]


def flat(result: Any) -> list[np.ndarray]:
    if isinstance(result, (tuple, list)):
        return [array for one in result for array in flat(one)]
    return [np.asarray(result)]


def named(function: Callable[..., Any]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


@pytest.mark.parametrize("function", FUNCTIONS, ids=named)
def test_batch_of_one_is_the_row_bit_for_bit(function):
    rng = np.random.default_rng(7)
    for structure in STRUCTURES.get(function, [{}]):
        wanted = inspect.signature(function).parameters
        given = {n: drawn(rng, n, str(p.annotation)) for n, p in wanted.items() if n not in structure}
        together = flat(function(**given, **structure))
        assert not any(np.isnan(array).any() for array in together)
        for at in (0, 1, ROWS // 2, ROWS - 2, ROWS - 1):
            alone = flat(function(**{n: cut(value, at) for n, value in given.items()}, **structure))
            for one, many in zip(alone, together, strict=True):
                assert one.shape[0] == 1 and np.array_equal(one[0], np.broadcast_to(many, (ROWS, *many.shape[1:]))[at])


def test_laws_broadcast_over_a_grid():
    rate, interval = np.array([1e-5, 1e-4])[:, None], np.array([60.0, 600.0, 6000.0])
    assert checkpoints.goodput(interval, np.array([5.0]), rate, np.array([300.0])).shape == (2, 3)
    nodes, confidence = np.array([64.0, 2048.0])[:, None], np.array([0.9, 0.99, 0.999])
    assert reliability.spares(nodes, np.array([1e-3]), np.array([2.0]), confidence).shape == (2, 3)
    best = scaling.inference_aware_optimum(scaling.BESIROGLU.law, np.array([1e23, 1e25])[:, None], np.array([0.0, 1e12, 1e13]))
    assert best.parameters.shape == (2, 3)
    drawn_laws = scaling.draw_parameters(np.random.default_rng(1), 7)
    assert scaling.loss(drawn_laws, np.array([1e9, 1e11])[:, None], np.array([1e12])).shape == (2, 7)
