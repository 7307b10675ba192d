"""Megatron-LM's arguments (a launch script, or the arguments alone) as a spec. Read as data; nothing is executed.

The options are those that `codesign.export.megatron` writes, with Megatron's own defaults where they are left out. What
arguments cannot say (the hardware above all) is read from the comment lines `#: field: value` that an export writes, or
given with `--set`. Checked against the parser at the commit that data/megatron_flags.yaml names.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from codesign.errors import Place, SpecError
from codesign.spec import load, shell, stacks

STACK = "megatron-core"
FILL_IN = "FILL_IN"
HEADER = re.compile(r"#: ([a-z_.]+): (.*)")
# Fields that comment lines may carry: what no argument decides, or decides in part only.
CARRIED = frozenset((
    "name", "model.name", "model.moe.imbalance", "model.moe.shared_experts", "training.tokens",
    "training.packing.mean_document_tokens", "training.packing.length_dispersion", "layout.dp", "cluster.profile",
    "cluster.accelerators", "cluster.fabric", "cluster.override", "software.stack", "software.date",
    "software.attention_kernel", "software.host_layer_s", "input",
))  # fmt: skip

POSITIONS = {"rope": "rotary", "yarn": "rotary", "learned_absolute": "learned", "none": "none"}
NORMS = {"RMSNorm": "rmsnorm", "LayerNorm": "layernorm"}
OPTIMIZERS = {"adam": "adamw", "sgd": "sgd", "muon": "muon", "dist_muon": "muon"}
CP_STYLES = {"p2p": "ring", "all_gather": "all-gather", "a2a": "all-to-all"}
FP8_RECIPES = {"delayed": "fp8-tensor", "tensorwise": "fp8-current", "blockwise": "fp8-block", "mxfp8": "mxfp8"}
KERNELS = {"unfused": ("unfused",), "flash": ("fa2", "fa3", "fa1"), "fused": ("cudnn",)}
STRATEGIES = {"no_shard": "none", "optim": "zero1", "optim_grads": "zero2", "optim_grads_params": "zero3"}

# Arguments that change the model or the step in a way that no field of a spec says: refused, never left out in silence.
REFUSED = (
    "account-for-embedding-in-pipeline-split", "account-for-loss-in-pipeline-split", "attention-output-gate",
    "cpu-offloading-num-layers", "decoder-num-layers", "decoder-seq-length", "encoder-num-layers", "encoder-seq-length",
    "expert-tensor-parallel-num-weight-shards", "external-cuda-graph", "enable-cuda-graph",
    "fine-grained-activation-offloading", "fp32-residual-connection", "heterogeneous-layers-config-path",
    "heterogeneous-layers-config-encoded-json", "hierarchical-context-parallel-sizes", "hybrid-context-parallel",
    "hybrid-layer-pattern", "hybrid-override-pattern", "experimental-attention-variant", "linear-attention-freq",
    "moe-expert-rank-capacity-factor", "moe-latent-size", "mtp-use-repeated-layer", "multimodal", "num-moe-experts",
    "optimizer-offload-fraction", "rampup-batch-size", "spec", "step-batch-size-schedule",
    "tensor-parallel-num-weight-shards", "use-torch-fsdp2", "yaml-cfg", "fp8-recipe-custom", "qk-l2-norm",
    "apply-residual-connection-post-layernorm", "enable-full-sharding-in-hsdp", "outer-dp-sharding-strategy",
    "squared-relu", "moe-layer-recompute", "distribute-saved-activations", "use-legacy-models",
)  # fmt: skip


@dataclass
class _Given:
    """The arguments that were given: name -> values, with the line; and which were read."""

    script: shell.Script
    values: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    ranks: int | None = None
    read: set[str] = field(default_factory=set)

    def wrong(self, name: str, message: str) -> SpecError:
        line = self.values[name][1] if name in self.values else 0
        return SpecError(f"--{name} {message}", place=self.script.place(line) if line else Place(self.script.file, 1, 1))

    def has(self, name: str) -> bool:
        self.read.add(name)
        return name in self.values

    def text(self, name: str, default: str | None = None, allowed: Sequence[str] = ()) -> str | None:
        self.read.add(name)
        if name not in self.values:
            return default
        value = self.values[name][0][0]
        if shell.UNKNOWN in value:
            raise self.wrong(name, "has a value that only running the script could tell: write it out")
        if allowed and value not in allowed:
            raise self.wrong(name, f"{value}: not understood here. Allowed: {', '.join(allowed)}")
        return value

    def number(self, name: str, default: int | None = None) -> int | None:
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"\d{1,15}", text):
            raise self.wrong(name, f"{text}: a whole number is wanted")
        return int(text)

    def needed(self, name: str) -> int:
        value = self.number(name)
        if value is None:
            raise SpecError(f"--{name} is missing: the arguments do not say it", place=Place(self.script.file, 1, 1))
        return value


def read(source: str | Path, sets: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """The spec of a launch script or argument list as plain data, and notes on what was left out or assumed.

    `sets` are `field=value` texts that take precedence. Raises SpecError with file and line for an argument that Megatron-LM
    does not have, has no room in a spec, contradicts another or is missing.
    """
    path = Path(source)
    return read_text(load.read_text(path), str(path), sets)


def read_text(text: str, file: str = "<text>", sets: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """As `read`, from text; `file` names it in messages."""
    script = shell.read(text, file)
    given = _arguments(script)
    carried = _header(script)
    data, notes = _spec(given, carried)
    left = sorted(set(given.values) - given.read)
    for name in left:
        if name in REFUSED:
            raise given.wrong(name, "has an effect that no field of a spec says; leave it out to import the rest")
    notes = [*script.notes, *notes]
    if left:
        notes.append(f"left out, no field of a spec says them: {', '.join('--' + name for name in left)}")
    document = load.document(data)
    for one in sets:
        load.apply_set(document, one)
    _check_complete(document.data, file)
    load.load(document.data)
    return document.data, notes


def _check_complete(data: Mapping[str, Any], file: str) -> None:
    wanted = {
        "cluster.profile": "h100-sxm-80gb", "cluster.accelerators": "64", "model.vocab": "128256",
        "training.global_batch_sequences": "1024",
    }  # fmt: skip
    missing = [name for name in wanted if name.split(".")[1] not in data.get(name.split(".")[0], {})]
    if missing:
        sets = " ".join(f"--set {name}={wanted[name]}" for name in missing)
        raise SpecError(f"{file}: the arguments do not say {', '.join(missing)}; add for example {sets}", field=missing[0])


# ---------------------------------------------------------------------------------------------------- words to arguments


@cache
def flags() -> dict[str, str]:
    """Every argument of Megatron-LM -> how many values it takes: switches, one, three or many."""
    data = yaml.safe_load((Path(__file__).parent / "data" / "megatron_flags.yaml").read_text(encoding="utf-8"))
    return {name: kind for kind, names in data.items() for name in names.split()}


def _arguments(script: shell.Script) -> _Given:
    if script.commands and all(words[0].text.startswith("--") for words in script.commands):
        script.commands = [[word for words in script.commands for word in words]]  # a list, on as many lines as one likes
    launches = [words for words in script.commands if any(_is(word, "num-layers") for word in words)]
    if not launches:
        raise SpecError(
            f"{script.file}: no command has --num-layers: no arguments of Megatron-LM were found"
            + "".join(f"\n  {note}" for note in script.notes)
        )
    if len(launches) > 1:
        lines = " and ".join(str(words[0].line) for words in launches[:3])
        raise SpecError(f"{script.file}: several commands with Megatron-LM's arguments, at lines {lines}: keep one")
    words = launches[0]
    start = next((at + 1 for at, word in enumerate(words) if word.text.endswith(".py")), 0)
    given = _Given(script, ranks=_ranks(words[:start]))
    at = start
    while at < len(words):
        at = _argument(script, given, words, at)
    return given


def _is(word: shell.Word, name: str) -> bool:
    return word.text.partition("=")[0] == f"--{name}"


def _ranks(words: Sequence[shell.Word]) -> int | None:
    """nodes x processes a node of the launcher, where both are written."""
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        name, equals, value = word.text.partition("=")
        name = name.lstrip("-").replace("_", "-")
        if name in ("nproc-per-node", "nnodes"):
            found[name] = value if equals else words[at + 1].text if at + 1 < len(words) else ""
    if len(found) == 2 and all(re.fullmatch(r"\d{1,9}", value) for value in found.values()):
        return math.prod(int(value) for value in found.values())
    return None


def _argument(script: shell.Script, given: _Given, words: Sequence[shell.Word], at: int) -> int:
    word = words[at]
    name, equals, value = word.text.removeprefix("--").partition("=")
    place = script.place(word.line)
    if not word.text.startswith("--") or not name:
        if word.known:
            raise SpecError(f"{word.text!r} stands where an argument should", place=place)
        raise SpecError("arguments that only running the script could tell: write them out, or leave them out", place=place)
    kind = flags().get(name)
    if kind is None:
        near = difflib.get_close_matches(name, flags(), 1, 0.6)
        hint = f" Did you mean --{near[0]}?" if near else ""
        raise SpecError(f"--{name}: Megatron-LM has no such argument.{hint}", place=place)
    at += 1
    values = [value] if equals else []
    if not equals:
        most = {"switches": 0, "one": 1, "three": 3, "many": len(words)}[kind]
        while at < len(words) and len(values) < most and not re.match(r"--[a-z]", words[at].text):
            values.append(words[at].text)
            at += 1
    if kind == "switches" and equals:
        raise SpecError(f"--{name} takes no value", place=place)
    if kind != "switches" and not values:
        raise SpecError(f"--{name} needs a value", place=place)
    if name in given.values and given.values[name][0] != values:
        was = given.values[name][1]
        raise SpecError(f"--{name} is given twice with different values, at lines {was} and {word.line}", place=place)
    if values != [FILL_IN]:
        given.values[name] = (values, word.line)
    return at


def _header(script: shell.Script) -> dict[str, Any]:
    """What the comment lines of an export carry."""
    carried: dict[str, Any] = {}
    for number, line in enumerate(script.lines, 1):
        if not line.startswith("#: "):
            continue
        found = HEADER.fullmatch(line.rstrip())
        place = script.place(number)
        if found is None:
            raise SpecError("a line '#: ' that is not 'field: value'", place=place)
        name = found.group(1)
        if name not in CARRIED:
            raise SpecError(f"{name}: the arguments decide it; it cannot stand in a comment too", place=place, field=name)
        if name in carried:
            raise SpecError(f"{name} stands in two comments", place=place, field=name)
        carried[name] = load.parse_yaml(f"value: {found.group(2)}\n", f"{script.file} line {number}").data["value"]
    return carried


# ---------------------------------------------------------------------------------------------------- arguments to a spec


def _spec(given: _Given, carried: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    if "software.stack" not in carried:
        notes.append(f"software.stack = {STACK}: arguments do not say which release runs")
    stack = stacks.load(carried.get("software.stack", STACK))
    training = _training(given, carried)
    software = _software(given, carried, stack)
    data: dict[str, Any] = {
        "version": 1,
        **{name: carried[name] for name in ("name", "input") if name in carried},
        "model": _model(given, carried, training["sequence_length"]),
        "training": training,
        "layout": _layout(given, carried, stack),
        "cluster": {k.split(".")[1]: value for k, value in carried.items() if k.startswith("cluster.")},
        "software": software,
    }
    cluster = data["cluster"]
    if given.ranks is not None:
        said = cluster.setdefault("accelerators", given.ranks)
        if said != given.ranks:
            cluster["accelerators"] = _accelerators(given, cluster, said)
    moe = data["model"].get("moe")
    if moe is not None:
        _moe_layout(given, data, stack, moe)
    _batch(given, data, carried.get("training.tokens"), notes)
    data["training"]["precision"] = _precision(given, software, stack)
    return data, notes


def _accelerators(given: _Given, cluster: Mapping[str, Any], said: int) -> int:
    """Accelerators of several ranks each; else the comment and the launcher contradict each other."""
    ranks = given.ranks or 0
    if ranks % said or ranks // said not in (2, 4, 8):
        raise SpecError(
            f"the launcher starts {ranks} ranks, but a comment says cluster.accelerators: {said}", field="cluster.accelerators",
            place=Place(given.script.file, 1, 1),
        )  # fmt: skip
    return said


def _model(given: _Given, carried: Mapping[str, Any], sequence: int) -> dict[str, Any]:
    layers, hidden, heads = (given.needed(name) for name in ("num-layers", "hidden-size", "num-attention-heads"))
    gated = given.has("swiglu")
    model: dict[str, Any] = {"name": carried.get("model.name", "imported"), "layers": layers, "hidden": hidden, "heads": heads}
    mla = given.has("multi-latent-attention")
    groups = given.number("num-query-groups", 1)
    if given.has("group-query-attention"):
        model["kv_heads"] = groups
    if mla:
        if "kv_heads" in model:
            raise given.wrong("group-query-attention", "contradicts --multi-latent-attention")
        model["mla"] = {
            "q_lora": given.number("q-lora-rank"), "kv_lora": given.number("kv-lora-rank", 32),
            "qk_nope_head_dim": given.number("qk-head-dim", 128),
            "qk_rope_head_dim": given.number("qk-pos-emb-head-dim", 64), "v_head_dim": given.number("v-head-dim", 128),
        }  # fmt: skip
    elif (width := given.number("kv-channels")) is not None:
        model["head_dim"] = width
    ffn = given.number("ffn-hidden-size", int(4 * hidden * 2 / 3 / 64) * 64 if gated else 4 * hidden)
    model |= {"ffn": ffn, "gated_ffn": gated}
    if (vocab := given.number("vocab-size")) is not None:
        model["vocab"] = vocab
    model["tied_embeddings"] = not given.has("untie-embeddings-and-output-weights")
    rope = given.has("use-rotary-position-embeddings")
    positions = given.text("position-embedding-type", "rope" if rope else "learned_absolute", tuple(POSITIONS))
    model["positions"] = POSITIONS["rope" if rope else str(positions)]
    rows = given.number("max-position-embeddings", sequence)
    if model["positions"] == "learned":
        model["max_positions"] = rows
    model["norm"] = NORMS[str(given.text("normalization", "LayerNorm", tuple(NORMS)))]
    if given.has("qk-layernorm"):
        model["qk_norm"] = "head"
    if given.text("softmax-type", "vanilla", ("vanilla", "learnable")) == "learnable":
        model["attention_sinks"] = True
    if (window := _window(given)) is not None:
        model["sliding_window"] = window
    if layers_ahead := given.number("mtp-num-layers"):
        model["mtp_layers"] = layers_ahead
    moe = _moe(given, carried, int(ffn or 0), layers)
    if moe is not None:
        model["moe"] = moe
        if moe.get("dense_layers", 0) == 0 and moe.get("every", 1) == 1 and not given.has("ffn-hidden-size"):
            del model["ffn"]
    model["biases"] = _biases(given, model)
    return model


def _window(given: _Given) -> dict[str, Any] | None:
    text, every = given.text("window-size"), given.number("window-attn-skip-freq")
    if text is None:
        return None
    found = re.fullmatch(r"\(?(\d{1,9}), ?0\)?", text)
    if found is None:
        raise given.wrong("window-size", f"{text}: a window to the left, as in 1023,0, is wanted")
    window: dict[str, Any] = {"window": int(found.group(1)) + 1}
    if every is not None:
        if every < 2:
            raise given.wrong("window-attn-skip-freq", f"{every}: at least 2 is wanted")
        window["local"] = every - 1
    return window


def _biases(given: _Given, model: Mapping[str, Any]) -> dict[str, bool]:
    linear, moe = not given.has("disable-bias-linear"), model.get("moe")
    dense = "ffn" in model
    qkv = given.has("add-qkv-bias") or linear
    on = {"qkv": qkv, "attn_out": linear, "mlp": linear and dense, "router": linear and moe is not None,
          "experts": linear and moe is not None}  # fmt: skip
    return {name: value for name, value in on.items() if value}


def _moe(given: _Given, carried: Mapping[str, Any], ffn: int, layers: int) -> dict[str, Any] | None:
    experts = given.number("num-experts")
    if not experts:
        return None
    given.has("moe-grouped-gemm"), given.has("moe-router-pre-softmax"), given.has("moe-router-score-function")
    moe: dict[str, Any] = {
        "experts": experts, "top_k": given.number("moe-router-topk", 2), "expert_ffn": given.number("moe-ffn-hidden-size", ffn)
    }  # fmt: skip
    if width := given.number("moe-shared-expert-intermediate-size"):
        moe |= {"shared_experts": carried.get("model.moe.shared_experts", 1), "shared_expert_ffn": width}
    elif "model.moe.shared_experts" in carried:
        raise SpecError("a comment has model.moe.shared_experts, the arguments no --moe-shared-expert-intermediate-size")
    if given.has("moe-shared-expert-gate"):
        moe["shared_expert_gate"] = True
    if (pattern := given.text("moe-layer-freq")) is not None:
        moe |= _layers(given, pattern, layers)
    if given.has("moe-router-enable-expert-bias"):
        moe["router_score_bias"] = True
    if (factor := given.text("moe-expert-capacity-factor")) is not None:
        if not re.fullmatch(r"\d{1,3}(\.\d{1,9})?", factor):
            raise given.wrong("moe-expert-capacity-factor", f"{factor}: a number above 0 is wanted")
        if not given.has("moe-pad-expert-input-to-capacity"):
            raise given.wrong("moe-expert-capacity-factor", "without --moe-pad-expert-input-to-capacity: a spec has static ones")
        moe["capacity_factor"] = float(factor)
    if "model.moe.imbalance" in carried:
        moe["imbalance"] = carried["model.moe.imbalance"]
    return moe


def _layers(given: _Given, pattern: str, layers: int) -> dict[str, Any]:
    """Which layers are MoE: `N`, every N-th from the first on, or a list like ([0]*3+[1]*58)."""
    if re.fullmatch(r"\d{1,4}", pattern):
        every = int(pattern)
        if every == 1:
            return {}
        raise given.wrong("moe-layer-freq", f"{pattern}: Megatron makes the first layer MoE, a spec the {every}th; write the list")
    kinds = _unrolled(given, pattern, layers)
    dense = kinds.index(1) if 1 in kinds else len(kinds)
    for every in range(1, layers - dense + 1):
        wanted = [int(at >= dense and (at - dense) % every == every - 1) for at in range(layers)]
        if every == 1 and wanted == kinds:
            return {"dense_layers": dense} if dense else {}
        first = dense - every + 1  # the dense layers before the first group
        grouped = [int(at >= first and (at - first) % every == every - 1) for at in range(layers)]
        if every > 1 and first >= 0 and grouped == kinds:
            return {"every": every, **({"dense_layers": first} if first else {})}
    raise given.wrong("moe-layer-freq", f"{pattern}: no number of dense layers and distance between MoE layers gives this")


def _unrolled(given: _Given, pattern: str, layers: int) -> list[int]:
    """Sums of lists with factors, one level of brackets: [0]*3+[1]*58, ([0]+[1])*4."""
    text = pattern.replace(" ", "")
    item = r"\[[01](?:,[01])*\](?:\*\d{1,5})?"
    whole = re.fullmatch(rf"\(({item}(?:\+{item})*)\)(?:\*(\d{{1,5}}))?|({item}(?:\+{item})*)", text)
    if whole is None or len(text) > 20_000:
        raise given.wrong("moe-layer-freq", f"{pattern[:60]}: a list like ([0]*3+[1]*58) is wanted")
    kinds: list[int] = []
    for found in re.finditer(r"\[([01,]+)\](?:\*(\d+))?", whole.group(1) or whole.group(3)):
        kinds += [int(one) for one in found.group(1).split(",")] * min(int(found.group(2) or 1), layers + 1)
        if len(kinds) > layers:
            break
    kinds = kinds * min(int(whole.group(2) or 1), layers + 1)
    if len(kinds) != layers:
        raise given.wrong("moe-layer-freq", f"{pattern[:60]}: does not have one entry for each of the {layers} layers")
    return kinds


def _layout(given: _Given, carried: Mapping[str, Any], stack: stacks.Stack) -> dict[str, Any]:
    tp, pp = given.number("tensor-model-parallel-size", 1), given.number("pipeline-model-parallel-size", 1)
    cp = given.number("context-parallel-size", 1)
    layout: dict[str, Any] = {"tp": tp, "pp": pp, "cp": cp, "micro_batch": given.needed("micro-batch-size")}
    if "layout.dp" in carried:
        layout["dp"] = carried["layout.dp"]
    layout["sequence_parallel"] = given.has("sequence-parallel") and tp != 1
    style = CP_STYLES[str(given.text("cp-comm-type", "p2p", tuple(CP_STYLES)))]
    if cp != 1:
        layout["cp_style"] = style
    mapping = given.has("use-tp-pp-dp-mapping")
    layout["order"] = ["tp", "cp", "ep", "pp", "dp"] if mapping else ["tp", "cp", "ep", "dp", "pp"]
    _stages(given, layout, int(pp or 1))
    _sharding(given, layout)
    _memory(given, layout)
    overlap: dict[str, bool] = {}
    for name, flag, applies in (
        ("tp", given.has("tp-comm-overlap"), layout["sequence_parallel"]),
        ("dp_gradients", given.has("overlap-grad-reduce"), True),
        ("dp_parameters", given.has("overlap-param-gather"), layout["sharding"] != "none"),
        ("pp", not given.has("no-overlap-p2p-communication"), layout.get("vpp", 1) > 1),
        ("ep", given.has("overlap-moe-expert-parallel-comm"), given.number("expert-model-parallel-size", 1) != 1),
    ):
        if applies and flag != getattr(stack.overlap, name):
            overlap[name] = flag
    if overlap:
        layout["overlap"] = overlap
    return layout


def _stages(given: _Given, layout: dict[str, Any], pp: int) -> None:
    text, virtual = given.text("pipeline-model-parallel-layout"), given.number("num-virtual-stages-per-pipeline-rank")
    per_stage = given.number("num-layers-per-virtual-pipeline-stage")
    if sum(value is not None for value in (text, virtual, per_stage)) > 1:
        name = "pipeline-model-parallel-layout" if text is not None else "num-virtual-stages-per-pipeline-rank"
        raise given.wrong(name, "contradicts another argument that says how many virtual stages there are")
    vpp = virtual or 1
    for flag, name in (("decoder-first-pipeline-num-layers", "first_stage_layers"),
                       ("decoder-last-pipeline-num-layers", "last_stage_layers")):  # fmt: skip
        if (layers := given.number(flag)) is not None:
            layout[name] = layers
    if text is not None:
        from codesign.spec.stages import count_stages

        stages = count_stages(text)
        if stages % pp:
            raise given.wrong("pipeline-model-parallel-layout", f"{text}: {stages} stages, no multiple of pp {pp}")
        vpp = stages // pp
        layout["stages"] = text
    elif per_stage is not None:
        layers = given.needed("num-layers")
        if per_stage < 1 or layers % (pp * per_stage):
            raise given.wrong("num-layers-per-virtual-pipeline-stage", f"{per_stage}: does not divide {layers} layers on pp {pp}")
        vpp = layers // (pp * per_stage)
    elif pp > 1 and "first_stage_layers" not in layout and "last_stage_layers" not in layout:
        layers = given.needed("num-layers")
        if layers % (pp * vpp):
            raise given.wrong("num-layers", f"{layers}: not divisible by the {pp * vpp} stages, which Megatron-LM refuses")
    if vpp > 1:
        layout["vpp"] = vpp
    layout["schedule"] = "none" if pp == 1 else "interleaved" if vpp > 1 else "1f1b"


def _sharding(given: _Given, layout: dict[str, Any]) -> None:
    distributed = given.has("use-distributed-optimizer")
    strategy = given.text("data-parallel-sharding-strategy", "optim_grads_params", tuple(STRATEGIES))
    instances = given.number("num-distributed-optimizer-instances", 1) or 1
    given.has("ckpt-format")
    layout["sharding"] = "zero1" if distributed else "none"
    if given.has("use-megatron-fsdp"):
        layout["sharding"] = STRATEGIES[str(strategy)]
    if instances > 1:
        if layout["sharding"] != "zero3":
            raise given.wrong("num-distributed-optimizer-instances", f"{instances}: a spec has groups of full sharding (hsdp) only")
        layout["sharding"] = "hsdp"
        if given.ranks is None:
            raise given.wrong("num-distributed-optimizer-instances", "needs the number of ranks: --nnodes and --nproc-per-node")
        layout["sharding_group"] = (given.ranks or 0) // (layout["tp"] * layout["pp"] * instances)
    if layout["sharding"] in ("zero3", "hsdp"):
        layout["reshard_after_forward"] = True


def _memory(given: _Given, layout: dict[str, Any]) -> None:
    granularity = given.text("recompute-granularity", None, ("selective", "full"))
    method, layers = given.text("recompute-method", None, ("uniform", "block")), given.number("recompute-num-layers")
    modules = given.values.get("recompute-modules", (["core_attn"], 0))[0]
    given.read.add("recompute-modules")
    if given.has("recompute-activations"):
        granularity = "selective"
    if granularity == "selective":
        layout["recompute"] = {"granularity": "selective", "modules": sorted(modules)}
    elif granularity == "full":
        if method is None or layers is None:
            raise given.wrong("recompute-granularity", "full needs --recompute-method and --recompute-num-layers")
        held = given.needed("num-layers") / (layout["pp"] * layout.get("vpp", 1))
        fraction = 1.0 if method == "uniform" else min(layers / held, 1.0)
        if method == "uniform" and layers != 1:
            raise given.wrong("recompute-num-layers", f"{layers}: with uniform, a spec recomputes layer by layer: 1")
        layout["recompute"] = {"granularity": "full", "fraction": fraction}
    if given.has("optimizer-cpu-offload"):
        layout["offload"] = {"optimizer": True}
    implementation = given.text("cuda-graph-impl", "none")
    scopes = given.values.get("cuda-graph-modules", ([], 0))[0]
    given.read.add("cuda-graph-modules")
    if implementation == "full_iteration":
        given.has("no-check-for-nan-in-loss-and-grad")
        layout["cuda_graphs"] = ["full_iteration"]
    elif implementation != "none":
        if not scopes:
            raise given.wrong("cuda-graph-impl", f"{implementation} without --cuda-graph-modules: a spec names what is captured")
        layout["cuda_graphs"] = list(scopes)


def _training(given: _Given, carried: Mapping[str, Any]) -> dict[str, Any]:
    training: dict[str, Any] = {"sequence_length": given.needed("seq-length")}
    given.has("dataloader-inter-document-masking"), given.has("attention-dropout"), given.has("hidden-dropout")
    optimizer = OPTIMIZERS[str(given.text("optimizer", "adam", tuple(OPTIMIZERS)))]
    steps = given.number("muon-num-ns-steps", 5)
    training["optimizer"] = {"name": "muon", "newton_schulz_steps": steps} if optimizer == "muon" else optimizer
    packing = {name.rsplit(".", 1)[1]: value for name, value in carried.items() if name.startswith("training.packing.")}
    if packing:
        training["packing"] = packing
    return training


def _batch(given: _Given, data: dict[str, Any], said: float | None, notes: list[str]) -> None:
    """Global batch and length of the run: Megatron takes one micro-batch a rank where it is not told."""
    training, layout = data["training"], data["layout"]
    batch = given.number("global-batch-size")
    if batch is None and given.ranks is not None:
        batch = layout["micro_batch"] * given.ranks // (layout["tp"] * layout["pp"] * layout["cp"])
        notes.append(f"training.global_batch_sequences = {batch}: one micro-batch on every data-parallel rank, Megatron's default")
    if batch is None:
        return
    training["global_batch_sequences"] = batch
    iterations, samples = given.number("train-iters"), given.number("train-samples")
    if iterations is not None and samples is not None:
        raise given.wrong("train-samples", "contradicts --train-iters: keep one of them")
    step = batch * training["sequence_length"]
    tokens = iterations * step if iterations is not None else None if samples is None else samples * training["sequence_length"]
    if said is not None:
        if iterations is not None and math.ceil(said / step) != iterations:
            raise given.wrong("train-iters", f"{iterations}: a comment says training.tokens: {said:g}, which are {said / step:g}")
        tokens = said
    if tokens is not None:
        training["tokens"] = float(tokens)


def _moe_layout(given: _Given, data: dict[str, Any], stack: stacks.Stack, moe: Mapping[str, Any]) -> None:
    layout, software = data["layout"], data["software"]
    layout["ep"] = given.number("expert-model-parallel-size", 1)
    layout["etp"] = given.number("expert-tensor-parallel-size", layout["tp"])
    dispatcher = given.text("moe-token-dispatcher-type", "allgather", ("allgather", "alltoall", "flex"))
    backend = given.text("moe-flex-dispatcher-backend", "deepep", ("deepep", "hybridep"))
    if given.has("moe-enable-deepep") or dispatcher == "flex":
        dispatcher = "deepep" if given.has("moe-enable-deepep") else backend
    if dispatcher != stack.moe_dispatcher:
        software["moe_dispatcher"] = dispatcher
    given.number("moe-router-num-groups")
    if (most := given.number("moe-router-group-topk")) is not None:
        layout["expert_groups_per_token"] = most


def _precision(given: _Given, software: dict[str, Any], stack: stacks.Stack) -> str | dict[str, Any]:
    half = "bf16" if given.has("bf16") else "fp16" if given.has("fp16") else "fp32"
    if half == "bf16" and given.has("fp16"):
        raise given.wrong("fp16", "contradicts --bf16: keep one of them")
    matmul = half
    fp8, fp4 = given.text("fp8-format"), given.text("fp4-format")
    recipe = given.text("fp8-recipe", "delayed", tuple(FP8_RECIPES))
    given.text("fp4-recipe", "nvfp4", ("nvfp4",))
    if fp8 is not None and fp4 is not None:
        raise given.wrong("fp4-format", "contradicts --fp8-format: keep one of them")
    if fp8 is not None or fp4 is not None:
        matmul = "nvfp4" if fp4 is not None else FP8_RECIPES[str(recipe)]
        if half != "bf16":
            raise given.wrong("fp8-format" if fp8 is not None else "fp4-format", "without --bf16: a spec's narrow recipes run on it")
        gather = given.has("fp8-param-gather") if fp4 is None else given.has("fp4-param-gather")
        if gather != stack.low_precision_parameters:
            software["low_precision_parameters"] = gather
    wide = given.has("accumulate-allreduce-grads-in-fp32")
    narrow = given.has("grad-reduce-in-bf16")
    gradients = "fp32" if half == "fp32" or (half == "bf16" and not narrow) or wide else half
    precision: dict[str, Any] = {"matmul": matmul}
    if gradients != ("fp32" if half == "fp32" else stack.gradient_dtype):
        precision["gradients"] = gradients
    moments, second = (given.text(name, "fp32") for name in ("exp-avg-dtype", "exp-avg-sq-dtype"))
    if moments != second:
        raise given.wrong("exp-avg-sq-dtype", f"{second}: a spec has one dtype for both moments, and --exp-avg-dtype is {moments}")
    given.has("use-precision-aware-optimizer")
    if moments != "fp32":
        precision["moments"] = moments
    return precision if len(precision) > 1 else matmul


def _software(given: _Given, carried: Mapping[str, Any], stack: stacks.Stack) -> dict[str, Any]:
    software: dict[str, Any] = {"stack": stack.name}
    for name in ("date", "host_layer_s"):
        if f"software.{name}" in carried:
            software[name] = carried[f"software.{name}"]
    backend = given.text("attention-backend", "auto", (*KERNELS, "auto"))
    said = carried.get("software.attention_kernel")
    if backend != "auto":
        kernels = KERNELS[str(backend)]
        if said is not None and said not in kernels:
            raise given.wrong("attention-backend", f"{backend}: a comment says software.attention_kernel: {said}")
        kernel = said or (stack.attention_kernel if stack.attention_kernel in kernels else kernels[0])
        if kernel != stack.attention_kernel:
            software["attention_kernel"] = kernel
    given.text("cross-entropy-fusion-impl", "native", ("native", "te"))
    for name, value in (
        ("fused_cross_entropy", given.has("cross-entropy-loss-fusion")),
        ("fused_weight_gradient", not given.has("no-gradient-accumulation-fusion")),
        ("launch_blocking", given.script.exported.get("CUDA_LAUNCH_BLOCKING") == "1"),
    ):
        if value != getattr(stack, name):
            software[name] = value
    if stack.compile:
        software["compile"] = False
    if stack.narrow_activations:
        software["narrow_activations"] = False
    return software
