"""One critical batch in the headline of several sites, in their table of scale and in the loss."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from codesign import planner
from codesign.laws import batch, semisync
from codesign.report import run_outcome, run_sites
from codesign.run import RunPlan, run_plan
from codesign.search import sites as strategies
from codesign.spec import datafiles, load

TEN_MILLION = load.load(datafiles.root("examples") / "ten-million.yaml").resolved()


def made(loss: dict[str, Any] | None = None, sync: dict[str, Any] | None = None) -> RunPlan:
    """The shipped run of ten million, with these fields of its loss and its sync in place of its own."""
    return _made(json.dumps({
        **TEN_MILLION, "run": {"loss": {"law": "besiroglu", **(loss or {})}}, "sync": {**TEN_MILLION["sync"], **(sync or {})},
    }))  # fmt: skip


@cache
def _made(text: str) -> RunPlan:
    return run_plan(planner.plan(json.loads(text)))


def test_headline_and_table_of_scale_waste_the_same_share_of_the_tokens():
    run = made()
    scale = strategies.regimes(run, [run.value("run_accelerators")])
    assert scale.critical_batch_tokens == run.value("critical_batch_tokens[main]")
    row = next(row for row in scale.rows if row["strategy"] == strategies.SEMI)
    assert row["sites"] == 100 and row["batch_tokens"] == pytest.approx(run.value("phase_step_tokens[main]"))
    assert row["batch_waste"] == pytest.approx(1.0 / run.value("batch_worth"), rel=1e-12) and row["batch_waste"] > 50
    assert row["loss_multiplier"] == pytest.approx(run.value("sync_loss_multiplier"), rel=1e-12)
    text = " ".join(" ".join(run_outcome.lines(run)).split())
    assert "for one replica): ABOVE it it wastes 99.0 % of its tokens; 1.0 % of the run's count" in text
    critical = f"({run.value('critical_batch_tokens[main]'):.3g} tokens)"
    assert critical in " ".join("\n".join(run_sites.regime_lines(scale)).split())


def test_a_stated_critical_batch_holds_in_both():
    given = {"critical_batch": {"tokens": 2e9, "source": "own sweep"}}
    run = made(given)
    scale = strategies.regimes(run, [run.value("run_accelerators")])
    assert scale.critical_batch_tokens == 2e9 and not any("Step Law" in text for text in scale.assumed)
    row = next(row for row in scale.rows if row["strategy"] == strategies.SEMI)
    # 100 replicas stand 100^0.34 = 4.8 times as large a batch: 10.5e9 tokens are then 1.1 times the critical one
    over = run.value("batch_over_critical[main]")
    assert over == pytest.approx(1_280_000 * 8192 / (2e9 * 100**0.3399), rel=1e-9)
    assert row["batch_waste"] == pytest.approx((1 + over) / 2) == pytest.approx(1 / run.value("batch_worth"))
    told = made({**given, "batch": "told"})
    rows = strategies.regimes(told, [1e6, 1e7])
    assert all(row["batch_waste"] == 1.0 for row in rows.rows) and any("told" in text for text in rows.assumed)
    assert told.value("final_loss") < run.value("final_loss")


def test_replicas_that_take_every_step_together_stand_no_larger_batch():
    every, rarely = made(sync={"inner_steps": 1, "fragments": 1, "delay": 0.0}), made()
    assert every.value("replicas_batch_factor") == 1.0
    factor = semisync.diloco_joint_batch_tokens(np.full(1, 1e9), np.full(1, 100.0)) / semisync.diloco_joint_batch_tokens(
        np.full(1, 1e9), np.ones(1)
    )
    assert rarely.value("replicas_batch_factor") == pytest.approx(factor[0])
    assert every.value("batch_worth") < rarely.value("batch_worth")


def test_worth_of_a_token_is_one_up_to_the_critical_batch_and_falls_above_it():
    over = np.array([1e-6, 0.5, 1.0, 3.0, 1e3])
    assert batch.tokens_worth(over).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.5, 2.0 / 1001.0])


def test_few_inner_steps_and_late_fragments_say_what_is_not_known_of_their_loss():
    notes = " ".join(made(sync={"inner_steps": 2, "fragments": 1, "delay": 1.5}).inputs.notes)
    assert "used for 2: no law of H is published; below 30 an upper bound, all of it from the second inner step on" in notes
    assert "fragments 1.5 inner steps late: their loss is not counted" in notes and "0.7% (corrected for it) to 13%" in notes
    assert "below 30" not in " ".join(made().inputs.notes)
