"""Every bad spec is refused with one exact message.

The corpus is `bad/*.yaml`: the first line of each file is a comment that holds the first line of the message. What
cannot be a small text file (binary, huge, missing) is made here.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import codesign.spec
from codesign.errors import SpecError
from codesign.spec import load as loader

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
GOOD = """version: 1
model: {layers: 2, hidden: 64, heads: 4, ffn: 128, vocab: 1000}
training: {sequence_length: 128, global_batch_sequences: 8}
layout: {tp: 1, pp: 1, micro_batch: 1}
cluster: {profile: h100-sxm-80gb, accelerators: 8}
software: megatron-core
"""
LLAMA_3_8B = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "vocab": 128256}


@pytest.fixture(autouse=True)
def few_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed list of presets, so that the messages do not change with the shipped list."""
    names = ["deepseek-v3", "gpt3-175b", "llama-3-8b", "llama-3.1-405b", "mixtral-8x7b"]
    stand_in = SimpleNamespace(names=lambda: names, load=lambda name: dict(LLAMA_3_8B))
    monkeypatch.setattr(codesign.spec, "presets", stand_in, raising=False)


def refusal(source: object, sets: tuple[str, ...] = ()) -> SpecError:
    with pytest.raises(SpecError) as caught:
        loader.load(source, sets)  # type: ignore[arg-type]
    for word in ("Traceback", "pydantic", "errors.pydantic", "https:", "Input should"):
        assert word not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def first_line(error: SpecError) -> str:
    return str(error).split("\n")[0]


def test_the_corpus_has_at_least_sixty_files():
    assert len(BAD) >= 60


def test_further_problems_are_listed_under_the_first(tmp_path: Path):
    """Five of them with their places; the first line counts all."""
    text = GOOD.replace("tp: 1, pp: 1", "tp: 0, pp: 0").replace("heads: 4", "heads: 0")
    lines = str(refusal(made(tmp_path, text))).split("\n")
    assert lines[0].endswith("model.heads must be a whole number from 1 to 1,000,000,000, not 0 (and 2 more)")
    assert [line.partition("spec.yaml")[2] for line in lines[3:]] == [
        ":4:14: layout.tp must be a whole number from 1 to 1,000,000,000, not 0",
        ":4:21: layout.pp must be a whole number from 1 to 1,000,000,000, not 0",
    ]
    many = refusal(made(tmp_path, GOOD + "".join(f"{at:x}y: 1\n" for at in range(1000))))
    assert "(and 999 more)" in many.message and len(str(many).split("\n")) == 3 + 5


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_file_is_refused_with_its_exact_message(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(path.parent)
    text = path.read_text(encoding="utf-8")
    error = refusal(path.name)
    assert first_line(error) == text.split("\n")[0].removeprefix("# ")
    assert error.place is not None
    if error.place.source_line:
        shown = str(error).split("\n")
        assert len(shown) == 3 + len(error.more)
        assert shown[1].endswith(text.split("\n")[error.place.line - 1].replace("\t", " "))
        assert shown[2].index("^") == shown[1].index("| ") + 1 + error.place.column


def test_caret_stands_under_the_field():
    error = refusal(Path(__file__).parent / "bad" / "typo-training.yaml")
    assert str(error).split("\n")[1:] == ["    11 |   sequence_lenght: 8192", "       |   ^"]


def made(folder: Path, data: bytes | str) -> Path:
    path = folder / "spec.yaml"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


MADE: dict[str, tuple[bytes | str, str]] = {
    "empty": (b"", "spec.yaml:1:1: the file is empty: `codesign init` writes a starter"),
    "nul": (b"version: 1\nna\x00me: x\n", "spec.yaml:2:3: the control character U+0000 is not text"),
    "escape": ("version: 1\nname: \x1b[31m\n", "spec.yaml:2:7: the control character U+001B is not text"),
    "latin-1": (
        "version: 1\nname: café\n".encode("latin-1"),
        "spec.yaml:2:10: not UTF-8 text: byte 0xe9 cannot be read. Save the file as UTF-8",
    ),
    "utf-16": (
        GOOD.encode("utf-16"),
        "spec.yaml:1:1: not UTF-8 text: byte 0xff cannot be read. Save the file as UTF-8",
    ),
    "gzip": (
        b"\x1f\x8b\x08\x00\x00\x00",
        "spec.yaml:1:2: not UTF-8 text: byte 0x8b cannot be read. Save the file as UTF-8",
    ),
    "huge": (b"# " + b"x" * 2**20, "spec.yaml: larger than 1 MiB: this is not a spec"),
    "huge-depth": ("a: " + "{a: " * 200_000, "spec.yaml:1:64: nested deeper than 16 levels: this is not a spec"),
    "huge-integer": (
        GOOD.replace("tp: 1", "tp: " + "9" * 5000),
        "spec.yaml:4:14: layout.tp: " + "9" * 57 + "... is too large for a number",
    ),
    "long-integer": (
        GOOD.replace("tp: 1", "tp: " + "9" * 250),
        "spec.yaml:4:14: layout.tp must be a whole number from 1 to 1,000,000,000, not 1e+250",
    ),
    "long-name": (
        GOOD + "x" * 1000 + ": 1\n",
        (
            f"spec.yaml:7:1: unknown field '{'x' * 57}...' at the top. "
            "Allowed: version, name, model, training, layout, cluster, software, input, search, run, sites, links, sync"
        ),
    ),
    "windows-lines": (
        GOOD.replace("tp: 1", "tp: 0").replace("\n", "\r\n"),
        "spec.yaml:4:14: layout.tp must be a whole number from 1 to 1,000,000,000, not 0",
    ),
    "byte-order-mark": (
        b"\xef\xbb\xbf" + GOOD.replace("version: 1", "version: 3").encode(),
        "spec.yaml:1:10: version must be 1, not 3: this release reads no other",
    ),
    "wide-characters": (
        GOOD.replace("{tp: 1", "{stages: \"层层\", tp: 0"),
        "spec.yaml:4:28: layout.tp must be a whole number from 1 to 1,000,000,000, not 0",
    ),
    "a-hundred-thousand-errors": (
        GOOD + "".join(f"{i:x}y: 1\n" for i in range(100_000)),
        (
            "spec.yaml:7:1: unknown field '0y' at the top. Allowed: version, name, model, training, layout, cluster, "
            "software, input, search, run, sites, links, sync (and 99999 more)"
        ),
    ),
    "many-errors": (
        GOOD.replace("tp: 1", ", ".join(f"x{i}: 1" for i in range(5000))),
        (
            "spec.yaml:4:10: unknown field 'x0' in layout. Allowed: tp, pp, dp, vpp, cp, ep, etp, micro_batch, "
            "schedule, sharding, sharding_group, reshard_after_forward, prefetch, sequence_parallel, cp_style, "
            "recompute, stages, first_stage_layers, last_stage_layers, offload, cuda_graphs, overlap, "
            "expert_groups_per_token, order (and 4999 more)"
        ),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_made_file_is_refused_with_its_exact_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data, expected = MADE[name]
    made(tmp_path, data)
    monkeypatch.chdir(tmp_path)
    assert first_line(refusal("spec.yaml")) == expected


def test_missing_files_and_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert str(refusal("spec.yml")) == "spec.yml: no such file. Did you mean 'spec.yaml'?"
    assert str(refusal("other.txt")) == "other.txt: no such file."
    assert str(refusal("no/spec.yaml")) == "no/spec.yaml: no such file. There is no folder 'no'."
    assert str(refusal(".")) == ".: is a directory, not a file"
    assert str(refusal("a\0b")) == "'a\\x00b': cannot be read: embedded null byte"
    assert str(refusal("x" * 300)).endswith("cannot be read: File name too long")
    assert str(refusal("spec.yaml/x")) == "'spec.yaml/x': cannot be read: Not a directory"


SETS = {
    "training.sequence_lenght=4": (
        "--set training.sequence_lenght=4: unknown field 'sequence_lenght' in training. Did you mean 'sequence_length'?"
    ),
    "layout.tp=0": "--set layout.tp=0: layout.tp must be a whole number from 1 to 1,000,000,000, not 0",
    "layout.tp=08": (
        "--set layout.tp=08: layout.tp: 08 begins with 0, which may be read as octal: write 8, or '08' if it is text"
    ),
    "layout.tp=1e999": "--set layout.tp=1e999: layout.tp: 1e999 is too large for a number",
    "layout.tp": "--set layout.tp: a field and a value are wanted, as in --set layout.tp=8",
    "=3": "--set =3: a field and a value are wanted, as in --set layout.tp=8",
    "layout..tp=3": "--set layout..tp=3: a field and a value are wanted, as in --set layout.tp=8",
    "layout.tp.x=3": "--set layout.tp.x=3: layout.tp is 1, which has no fields to set",
    "layout.order=[tp": "--set layout.order=[tp: the '[' here is not closed before the end of the file",
    "model.preset=mixtral-8x22b": (
        "--set model.preset=mixtral-8x22b: unknown model preset 'mixtral-8x22b'. Did you mean 'mixtral-8x7b'?"
    ),
    "cluster.override.scale_out.nic_Bps=400": (
        "--set cluster.override.scale_out.nic_Bps=400: cluster.override.scale_out.nic_Bps: 400 has no unit: "
        "write for example '400 Gb/s'"
    ),
    "version=2": "--set version=2: version must be 1, not 2: this release reads no other",
    "software.stak=x": "--set software.stak=x: unknown field 'stak' in software. Did you mean 'stack'?",
    "layout.sequence_parallel=on": (
        "--set layout.sequence_parallel=on: layout.sequence_parallel must be true or false, not 'on'. Write true"
    ),
}


@pytest.mark.parametrize("argument", SETS)
def test_bad_set_is_refused_by_its_own_name(argument: str, tmp_path: Path):
    assert str(refusal(made(tmp_path, GOOD), (argument,))) == SETS[argument]


def test_bad_plain_data_is_refused_without_a_place():
    spec = yaml.safe_load(GOOD)
    assert str(refusal({**spec, "layout": {"tp": 0}})).startswith("layout.tp must be a whole number")
    assert str(refusal({**spec, "layout": {"tp": object()}})) == "layout.tp: plain data is wanted, not a object"
    assert str(refusal({**spec, "layout": {"micro_batch": float("nan")}})).endswith("at most 1,000,000, not nan")
    assert str(refusal({})) == "'version' is missing: write 'version: 1' in the first line"
    endless: dict[str, object] = {}
    endless["layout"] = endless
    assert str(refusal(endless)).endswith("nested deeper than 16 levels: this is not a spec")


def test_unsupported_hugging_face_family_is_refused_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read(path: Path) -> tuple[dict[str, object], list[str]]:
        raise SpecError(f"{path.name}: model_type 'mamba' has state-space layers, which are not supported")

    monkeypatch.setattr(codesign.spec, "hf", SimpleNamespace(read=read), raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    made(tmp_path, GOOD.replace("{layers: 2, hidden: 64, heads: 4, ffn: 128, vocab: 1000}", "{hf: config.json}"))
    reason = "config.json: model_type 'mamba' has state-space layers, which are not supported"
    assert first_line(refusal("spec.yaml")) == f"spec.yaml:2:13: model.hf: {reason}"


def test_mamba_config_is_refused_by_name_through_the_real_importer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    made(tmp_path, GOOD.replace("{layers: 2, hidden: 64, heads: 4, ffn: 128, vocab: 1000}", "{hf: config.json}"))
    message = first_line(refusal("spec.yaml"))
    assert message.startswith("spec.yaml:2:13: model.hf: config.json: ")
    assert "'mamba'" in message


SAME_IN_PYTHON = [
    "tab-indent", "two-colons", "at-sign", "unclosed-bracket", "indentation", "truncated-name", "truncated-quote",
    "tag-python", "alias-bomb", "merge-key", "deep-nesting", "second-document", "duplicate-field", "octal",
]  # fmt: skip


@pytest.mark.parametrize("name", SAME_IN_PYTHON)
def test_parser_without_libyaml_refuses_alike(name: str, monkeypatch: pytest.MonkeyPatch):
    """PyYAML may be installed without libyaml: its own parser leads to the same message."""
    path = Path(__file__).parent / "bad" / f"{name}.yaml"
    monkeypatch.setattr(loader, "_PARSER", yaml.SafeLoader)
    monkeypatch.chdir(path.parent)
    expected = path.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ")
    assert first_line(refusal(path.name)).partition(": ")[2] == expected.partition(": ")[2]
