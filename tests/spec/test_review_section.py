"""The `review:` section: people and dates beside the plan, of which no number and no hash takes notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.planner import plan
from codesign.search.attribution import changes
from codesign.spec import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "llama-3.1-405b-h100.yaml"
REVIEW = {
    "owner": "A. Lead", "date": "2027-01-31", "question": "Shall we?", "decision": "Yes.",
    "assumptions": [{"input": "taper", "owner": "B", "date": "2027-01-30", "note": "measured"}],
    "open_questions": ["Which site?"], "sign_off": [{"role": "lead", "name": "C", "date": "2027-02-01"}],
}  # fmt: skip


@pytest.fixture
def signed() -> load.Loaded:
    return load.load({**load.parse_yaml(EXAMPLE.read_text(), "x").data, "review": REVIEW})


def test_a_review_changes_no_number_and_no_hash(signed):
    bare = plan(EXAMPLE)
    made = plan(signed)
    assert made.to_dict() == bare.to_dict()
    assert changes(bare, made) == ()


def test_a_review_is_kept_in_the_resolved_spec(signed):
    assert signed.resolved()["review"] == REVIEW
    assert load.load(signed.resolved()).resolved() == signed.resolved()
    assert plan(signed).resolved()["review"] == REVIEW
    assert "review" not in plan(EXAMPLE).resolved()
