"""A first spec for a model: it fits, it is the fastest of its space, and it loads again as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from codesign import cli
from codesign.errors import SpecError
from codesign.planner import plan
from codesign.report.review import neighbourhood
from codesign.search.find import find
from codesign.search.start import Start, batch, stack, start
from codesign.spec import hf, load

CONFIGS = Path(__file__).parent.parent / "spec" / "hf_configs"


@pytest.mark.parametrize(
    ("accelerators", "sequence", "sequences"),
    [(8, 4096, 512), (128, 4096, 512), (1024, 4096, 1024), (16384, 4096, 2048), (1000, 4096, 1000), (7, 8192, 448),
     (16385, 8192, 16385)],
)
def test_the_batch_is_the_accelerators_times_a_power_of_two_near_four_million_tokens(accelerators, sequence, sequences):
    assert batch(accelerators, sequence) == sequences


def test_a_profile_has_its_usual_stack():
    assert stack("tpu-v5p") == "maxtext" and stack("h100-sxm-80gb") == "megatron-core"


@pytest.mark.parametrize(("model", "accelerators"), [("mixtral-8x7b", 64), ("llama-2-7b", 8), ("qwen3-32b", 256)])
def test_what_init_writes_is_a_plan_that_fits(model, accelerators, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    done = cli.main(["init", "--hf", str(CONFIGS / f"{model}.json"), "--accelerators", str(accelerators), "-o", str(path)])
    assert done == 0
    made = plan(path)
    assert made.feasible and made.problem.spec.name == model
    loaded = load.load(path)
    assert loaded.spec.cluster.accelerators == accelerators
    # the layout is not worse than any with other degrees that fits
    for sets in (["layout.tp=8"], ["layout.tp=2"], ["layout.micro_batch=2"], ["layout.recompute=full"]):
        try:
            other = plan(load.load(path, sets=["layout.dp=null", *sets]))
        except SpecError:  # a combination that the space has not either
            continue
        assert not other.feasible or other.step_s >= made.step_s * (1 - 1e-12)
    # what lies beyond the step is there as comments that load
    text = path.read_text(encoding="utf-8")
    assert "#run:" in text and "#sites:" in text and "assumed by codesign init" in text


def test_a_batch_that_no_power_of_two_brings_near_is_said(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert cli.main(["init", "--model", "llama-3-8b", "--accelerators", "10007", "-o", str(path)]) == 0
    assert "no batch of 2 to 8 Mi tokens divides 10,007 accelerators" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "accelerators"),
    [("llama-2-7b", 64), ("qwen3-32b", 256), ("mixtral-8x7b", 64), ("qwen3-235b-a22b", 512), ("deepseek-v3", 2048)],
)
def test_a_review_finds_nothing_near_that_is_faster_than_what_init_writes(model, accelerators):
    fields, _ = hf.read(CONFIGS / f"{model}.json")
    found = start(fields, accelerators)
    made = plan(found.sections)
    beside = neighbourhood.around(made)
    assert made.feasible and made.step_s == found.step_s == beside.best[0].plan.step_s


def test_a_layer_of_experts_is_recomputed_only_as_far_as_it_must_be():
    """Whole layers again cost a fifth of this step; the modules that fill the memory are enough."""
    fields, _ = hf.read(CONFIGS / "qwen3-235b-a22b.json")
    made = plan(start(fields, 512).sections)
    assert made.resolved()["layout"]["recompute"]["granularity"] == "selective"
    (by_recompute,) = find(made.resolved(), free=["recompute"]).best[:1]
    assert made.step_s <= by_recompute.plan.step_s
    full = load.load(made.resolved(), sets=["layout.recompute=full"])
    seen = neighbourhood.around(plan(full))
    assert seen.best[0].plan.step_s < plan(full).step_s and "selective moe" in seen.searched["recompute"]


def test_a_model_that_fits_nowhere_is_an_answer_and_nothing_is_written(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert cli.main(["init", "--model", "deepseek-v3", "--accelerators", "8", "-o", str(path)]) == 1
    assert "memory" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--accelerators", "3"], "no effect without --hf or --model"),
        (["--profile", "h200-sxm"], "no effect without"),
        (["--software", "maxtext"], "no effect without"),
        (["--sequence", "8192"], "no effect without"),
        (["--model", "llamma"], "Did you mean"),
        (["--model", "llama-3-8b", "--hf", "x.json"], "give one"),
        (["--hf", "nowhere.json"], "nowhere.json"),
        (["--model", "llama-3-8b", "--profile", "h1000"], "h1000"),
        (["--model", "llama-3-8b", "--software", "megatrom"], "megatrom"),
    ],
)
def test_wrong_use_is_one_message(arguments, said, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert cli.main(["init", *arguments, "-o", str(path)]) == 2
    assert said in capsys.readouterr().err and not path.exists()


def test_from_python_the_sections_are_plain_data():
    told = []
    found = start("llama-3-8b", 64, "tpu-v5p", report=lambda done, total: told.append((done, total)))
    assert isinstance(found, Start) and told[-1] == (found.candidates, found.candidates)
    assert yaml.safe_load(yaml.safe_dump(found.sections)) == found.sections
    assert plan(found.sections).step_s == found.step_s
