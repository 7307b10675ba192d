"""What a run over sites answers: its own step and verdict first, every site counted, nothing left from another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codesign import planner, run, site_steps
from codesign.cli import app
from codesign.decisions import ladder
from codesign.errors import SpecError
from codesign.report import over_sites
from codesign.search import site_tables
from codesign.spec import load

ROOT = Path(__file__).parents[2]
BASE = {
    "version": 1, "model": "llama-3-8b",
    "training": {"sequence_length": 8192, "global_batch_sequences": 384, "tokens": 1e12},
    "layout": {"tp": 4, "pp": 2, "micro_batch": 1, "sharding": "zero1", "recompute": "selective"},
    "cluster": {"profile": "h100-sxm-80gb", "accelerators": 256}, "software": "megatron-core",
}
TWO = [{"name": "west"}, {"name": "east"}]
LINK = {"between": ["west", "east"], "bandwidth": "400 Gb/s", "route_km": 1000}
FAILS = {"failures": {"rates": "pooled"}, "checkpoint": {"storage_Bps": "200 GB/s"}}
SMALL = {"override": {"accelerator.memory_B": "10 GB"}}


def spec(sites=TWO, links=(LINK,), **fields):
    return {**BASE, "sites": list(sites), **({"links": list(links)} if links else {}), **fields}


def runs(data) -> run.RunPlan:
    return run.run_plan(planner.plan(data))


def asked(tmp_path, data, *more: str):
    path = tmp_path / "spec.yaml"
    path.write_text(json.dumps(data), encoding="utf-8")
    return CliRunner().invoke(app, ["plan", str(path), *more])


# ---------------------------------------------------------------------------------------------------- one run after another


def test_a_run_after_another_on_the_same_sites_is_the_run_alone():
    """Steps of sites are remembered; what fails is not of the step."""
    others = [
        {**FAILS, "failures": {"rates": "pooled", "mtbf": {"accelerator": "100 d"}}}, {**FAILS, "policy": "hot-spares"},
        None, FAILS,
    ]
    kept = [runs(spec(run=section) if section else spec()).to_dict() for section in others]
    for section, before in zip(others, kept, strict=True):
        site_steps._remembered.clear()
        assert runs(spec(run=section) if section else spec()).to_dict() == before


def test_one_site_is_no_sites_for_a_whole_run():
    path = ROOT / "examples" / "gpt4-retrain.yaml"
    alone, one = (runs(load.load(path, sets)).to_dict() for sets in ((), ("sites=[{name: solo}]",)))
    assert {name: one[name] for name in alone} == alone


# ---------------------------------------------------------------------------------------------------- the verdict


def test_a_site_that_does_not_fit_is_the_verdict(tmp_path):
    found = asked(tmp_path, spec([TWO[0], {"name": "east", "cluster": SMALL}]), "--format", "json")
    data = json.loads(found.stdout)
    assert found.exit_code == 1 and data["verdict"]["feasible"] is False
    assert any(text.startswith("site east") for text in data["verdict"]["violations"])
    text = asked(tmp_path, spec([TWO[0], {"name": "east", "cluster": SMALL}])).stdout
    assert text.startswith("NOT FEASIBLE\n  - site east")


def test_a_template_that_does_not_fit_is_no_verdict(tmp_path):
    roomy = {"override": {"accelerator.memory_B": "80 GB"}}
    data = spec([{**site, "cluster": roomy} for site in TWO], cluster={**BASE["cluster"], **SMALL})
    assert not planner.plan(data).feasible and runs(data).feasible
    found = asked(tmp_path, data, "--format", "json")
    assert found.exit_code == 0 and json.loads(found.stdout)["verdict"] == {"feasible": True, "violations": []}
    assert asked(tmp_path, data).stdout.startswith("FEASIBLE\n")


def test_the_head_is_the_step_over_the_sites_and_names_the_one_site_plan(tmp_path):
    data = spec(run=FAILS)
    found = runs(data)
    step_s = found.value("phase_run_step_s[main]")
    shown = json.loads(asked(tmp_path, data, "--format", "json").stdout)
    assert shown["step"]["step_s"] == step_s and shown["step"]["accelerators"] == 512
    assert shown["step"]["tokens_per_s"] == pytest.approx(384 * 8192 / step_s)
    assert shown["one_site"]["site"] == "west" and shown["one_site"]["step"]["step_s"] < step_s
    assert shown["run"]["uninterrupted_s"] == found.value("productive_s") == pytest.approx(shown["run"]["steps"] * step_s)
    screen = asked(tmp_path, data).stdout
    head, _, rest = screen.partition("one site: west")
    assert "512 accelerators" in head and "step time" in head and "256 h100" in rest.split("\n\n")[0].replace("\n", " ")
    assert max(map(len, screen.split("\n"))) <= 80
    parts = over_sites.parts(found)
    assert sum(row["s"] for row in parts) == pytest.approx(step_s) and sum(row["share"] for row in parts) == pytest.approx(1)
    assert asked(tmp_path, data, "--format", "md").stdout.startswith("# ")


def test_a_template_that_no_site_is_like_is_said():
    others = [{**site, "cluster": {"accelerators": 128}} for site in TWO]
    assert any("template" in note for note in runs(spec(others)).inputs.notes)
    assert not any("template" in note for note in runs(spec()).inputs.notes)


def test_notes_are_printed_once_and_spares_are_no_accelerators_of_the_layout(tmp_path):
    text = asked(tmp_path, spec(run={**FAILS, "spares": {"count": 8}, "policy": "hot-spares"})).stdout
    assert text.count("exchange between sites: ") == 1
    assert "sites: 2, 512 accelerators, synchronous; 64 spare" in text


def test_nothing_is_set_by_hand_over_sites():
    with pytest.raises(SpecError, match="pp_bubble_s"):
        run.run_plan(planner.plan(spec(), overrides={"pp_bubble_s": 0.0}))


def test_the_ladder_climbs_on_the_site_that_paces():
    small = [{**site, "cluster": {"accelerators": 128}} for site in TWO]
    found = runs(spec(small, run={**FAILS, "loss": {}, "ladder": {}}))
    made = ladder.ladder(found)
    site = found.steps["main"]
    assert site.problem.spec.cluster != found.templates["main"].problem.spec.cluster
    for rung in made.system_rungs:
        assert rung.accelerators == site.problem.spec.cluster.accelerators * rung.dp // site.problem.spec.layout.dp
        assert rung.full_over_this == pytest.approx(found.value("phase_run_step_s[main]") / rung.step_s)
    assert any("in one site" in note for note in made.notes)
    assert all(rung.accelerators <= site.problem.spec.cluster.accelerators for rung in made.loss_rungs)


# ---------------------------------------------------------------------------------------------------- nothing is ignored


@pytest.mark.parametrize(("link", "sync", "words"), [
    ({}, {"overlap": "backward"}, "one chunk"),
    ({"paths": 4}, {}, "flows is missing"),
    ({"paths": 4, "transport": "go-back-n", "loss": 1e-6}, {}, "flows is missing"),
], ids=["backward in one chunk", "paths without flows", "lossy paths without flows"])
def test_what_would_be_taken_silently_is_refused(link, sync, words):
    with pytest.raises(SpecError, match=words):
        runs(spec(links=[{**LINK, **link}], sync=sync))


def test_a_list_is_reached_by_number_on_the_command_line(tmp_path):
    wide = asked(tmp_path, spec(), "--set", "links.0.bandwidth=1 Tb/s")
    assert wide.exit_code == 0 and "links.0.bandwidth: '1 Tb/s' = 125 GB/s" in wide.stdout
    assert runs(spec(links=[{**LINK, "bandwidth": "1 Tb/s"}])).value("run_wall_s") == json.loads(
        asked(tmp_path, spec(), "--set", "links.0.bandwidth=1 Tb/s", "--format", "json").stdout
    )["run"]["quantities"]["run_wall_s"]
    for place in ("links.1.bandwidth=1 Tb/s", "links.east.bandwidth=1 Tb/s", "links.-1.bandwidth=1 Tb/s"):
        refused = asked(tmp_path, spec(), "--set", place)
        assert isinstance(refused.exception, SpecError) and not refused.stdout
        assert "links is a list: its entries are links.0" in refused.exception.message


def test_tables_and_verdict_agree():
    found = runs(spec([TWO[0], {"name": "east", "cluster": SMALL}]))
    assert set(site_tables.violations(found)) <= set(found.violations)
