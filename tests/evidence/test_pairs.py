"""Confidence of a ranking: the method on made-up runs whose error is known, and what it says on the measured ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from codesign import planner
from codesign.evidence import pairs
from codesign.spec import stacks


def made_up(groups: int, rows: int, noise: float, seed: int = 1) -> pairs.Pairs:
    """All pairs inside groups of runs whose log times lie between 0 and 1 and are predicted with a normal error."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0.0, 1.0, (groups, rows))
    told = truth + random.normal(0.0, noise / np.sqrt(2.0), (groups, rows))
    one, other = np.triu_indices(rows, 1)
    count = groups * len(one)
    of = np.repeat(np.arange(groups), len(one))
    predicted, measured = ((x[:, one] - x[:, other]).ravel() for x in (told, truth))
    return pairs.Pairs(np.full(count, "layout"), np.full(count, "dense"), predicted, measured, np.stack([of, of]))


def test_noise_is_the_difference_of_two_errors():
    """The median of |x|, x normal, is 0.6745 standard deviations; its 95th percentile 1.96."""
    table = pairs.table(made_up(60, 12, 0.1))
    noise = dict(zip(table["shares"], table["cells"]["layout x dense"]["noise"], strict=True))
    assert noise[0.5] == pytest.approx(0.06745, rel=0.07)
    assert noise[0.95] == pytest.approx(0.196, rel=0.07)


def test_confidence_is_the_share_that_is_ranked_rightly():
    """True gaps that are about as frequent near 0 as far from it: told and true agree in every class of gaps."""
    rows = [row for row in pairs.calibration(made_up(80, 15, 0.08)) if row["scope"] == "layout"]
    assert len(rows) >= 5
    for row in rows:
        assert row["right"] == pytest.approx(row["confidence"], abs=3 * row["standard_error"] + 0.015), row


def test_a_group_counts_once_however_many_pairs_it_has():
    few, many = made_up(20, 4, 0.01), made_up(20, 30, 0.3, seed=2)
    both = pairs.Pairs(
        *(np.concatenate([getattr(few, name), getattr(many, name)]) for name in ("scope", "kind", "predicted", "measured")),
        np.concatenate([few.groups, many.groups + 20], axis=1),
    )
    assert float(np.sum(both.weights[: few.noise.size])) == pytest.approx(20.0)
    assert float(np.sum(both.weights)) == pytest.approx(40.0)
    cell = pairs.table(both)["cells"]["layout x dense"]
    assert cell["groups"] == 40
    assert cell["noise"][3] < 0.03 < cell["noise"][6]  # at 0.4 the small errors of half of the groups, at 0.7 the large ones


def test_a_cell_of_two_groups_is_left_out():
    assert pairs.table(made_up(2, 9, 0.1))["cells"] == {}


# ---------------------------------------------------------------------------------------------------- the measured runs


def shipped(scope: str) -> list[dict]:
    rows = json.loads((stacks.DATA / "error_summary.json").read_text(encoding="utf-8"))["ranking_confidence"]
    return [row for row in rows if row["scope"] == scope]


@pytest.mark.parametrize("scope", ["any", "layout", "size"])
def test_measured_pairs_are_ranked_rightly_as_often_as_is_said(scope):
    """Each group told by the others. Above 2 %, what the same run measured twice differs by, nothing is promised that is not
    held within two standard errors; at worst 0.2 less is promised than is held."""
    rows = [row for row in shipped(scope) if row["gap_from"] >= 0.02]
    assert len(rows) == 5
    for row in rows:
        assert row["confidence"] <= row["right"] + 2 * row["standard_error"] + 0.01, row
        assert row["confidence"] >= row["right"] - 2 * row["standard_error"] - 0.2, row


def test_precision_pairs_that_are_close_are_the_known_weakness():
    """mxfp8 against fp8-current on Blackwell is ranked the wrong way round: such gaps must not be called decided."""
    close = [row for row in shipped("precision") if row["gap_to"] is not None and row["gap_to"] <= 0.05]
    assert all(row["right"] < 0.5 for row in close)  # once this fails, the weakness is gone: say so in the README
    assert planner.ranking_confidence("precision", "dense", 0.04).share < 2.0 / 3.0
    assert all(row["right"] > 0.8 for row in shipped("precision") if row["gap_from"] >= 0.05)


def test_every_scope_has_a_cell_of_measured_pairs():
    table = json.loads((stacks.DATA / "error_model.json").read_text(encoding="utf-8"))["ranking"]
    for scope in planner.SCOPES:
        for kind in ("any", "dense", "moe"):
            held = table["cells"][f"{scope} x {kind}"]
            assert held["noise"] == sorted(held["noise"]) and held["noise"][0] > 0
            assert held["groups"] >= pairs.FEWEST_GROUPS and len(held["noise"]) == len(table["shares"])
