"""The spec: what a user writes, checked. One pydantic class a section; unknown fields are refused.

A field that a plan does not use is refused or reported by `codesign.spec.resolve`, never ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from codesign.spec.fields import (
    Bytes,
    BytesPerS,
    Count,
    Flag,
    Seconds,
    Section,
    Share,
    Tokens,
    Watts,
    Whole,
    form,
    whole,
)
from codesign.spec.review import Review
from codesign.spec.run import Run
from codesign.spec.sites import Link, SiteName, Sync

Precision = Literal[
    "fp32", "fp16", "bf16", "fp8-tensor", "fp8-current", "fp8-block", "fp8-rowwise", "mxfp8", "nvfp4", "int8"
]
Schedule = Literal[
    "none", "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v", "dualpipe", "dualpipe-v"
]
Sharding = Literal["none", "zero1", "zero2", "zero3", "hsdp"]
RecomputeModule = Literal[
    "core_attn", "qkv", "attn_out", "mla_up_proj", "layernorm", "mlp", "mlp_act", "moe", "moe_act", "shared_experts",
    "ffn_up", "ffn_down", "elementwise", "every_other_matmul",
]
GraphScope = Literal["full_iteration", "attn", "mlp", "moe_router", "moe_preprocess", "moe"]
Dimension = Literal["tp", "cp", "ep", "dp", "pp"]
DType = Literal["fp32", "bf16", "fp16", "fp8", "int8"]


# ---------------------------------------------------------------------------------------------------- the model


class Biases(Section):
    """Which linear layers carry a bias vector."""

    qkv: Flag = False
    attn_out: Flag = False
    mlp: Flag = False
    router: Flag = False
    experts: Flag = False
    head: Flag = False


class MLA(Section):
    """Multi-head latent attention (DeepSeek-V2). `q_lora` null: queries are projected directly."""

    q_lora: Count | None = None
    kv_lora: Count
    qk_nope_head_dim: Count
    qk_rope_head_dim: Whole
    v_head_dim: Count


class MoE(Section):
    """Mixture of experts. Layers: the first `dense_layers` are dense, then every `every`-th is a MoE layer."""

    experts: Annotated[int, Field(strict=True, ge=2, le=10**6), BeforeValidator(whole)]
    top_k: Count
    expert_ffn: Count
    shared_experts: Whole = 0
    shared_expert_ffn: Count | None = None  # total width of the shared experts; default shared_experts * expert_ffn
    shared_expert_gate: Flag = False  # Qwen2-MoE: a sigmoid gate of one column on the shared expert
    dense_layers: Whole = 0
    every: Count = 1
    router_score_bias: Flag = False  # DeepSeek-V3's aux-loss-free balancing bias, one number an expert
    capacity_factor: Annotated[float, Field(strict=True, gt=0, le=64)] | None = None  # null: dropless
    imbalance: Annotated[float, Field(strict=True, ge=1, le=64)] = 1.0  # load of the busiest expert rank over the mean


class SlidingWindow(Section):
    """`local` windowed layers, then one global layer, repeating (gemma 3: 5); `local` null: every layer is windowed."""

    window: Count
    local: Count | None = None


class Model(Section):
    """A decoder-only transformer. `preset` or `hf` fill every field that is not written."""

    preset: str | None = None
    hf: str | None = None
    name: str = "custom"
    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count | None = None  # default heads (MHA); 1 is MQA
    head_dim: Count | None = None  # default hidden / heads
    ffn: Count | None = None  # width of the dense FFN; null only where no layer is dense
    gated_ffn: Flag = True
    vocab: Count
    tied_embeddings: Flag = False
    positions: Literal["rotary", "learned", "alibi", "none"] = "rotary"
    max_positions: Count | None = None  # rows of the learned position table
    norm: Literal["rmsnorm", "layernorm", "layernorm-nobias", "nonparametric"] = "rmsnorm"
    # gemma 2 and 3: 4; phi, falcon parallel with one norm: 1
    norms_per_layer: Annotated[int, Field(strict=True, ge=1, le=4), BeforeValidator(whole)] = 2
    final_norm: Flag = True
    embedding_norm: Flag = False  # BLOOM normalises the embedding
    # `head`: one scale of head_dim (Qwen3); `full`: over all heads (OLMo 2)
    qk_norm: Literal["none", "head", "full"] = "none"
    attention_sinks: Flag = False  # gpt-oss: one learned number a head
    parallel_block: Flag = False  # attention and FFN read the same normalised input (GPT-NeoX, Falcon, PaLM)
    biases: Biases = Biases()
    mla: MLA | None = None
    moe: MoE | None = None
    sliding_window: SlidingWindow | None = None
    mtp_layers: Whole = 0


# ---------------------------------------------------------------------------------------------------- the training step


class PrecisionSpec(Section):
    """Every dtype set one by one; what is left out follows from `matmul` and the stack."""

    matmul: Precision = "bf16"
    gradients: DType | None = None  # dtype in which gradients are accumulated and reduced
    parameters: DType | None = None  # the compute copy
    master: Literal["fp32", "bf16", "none"] | None = None
    moments: DType | None = None


class Optimizer(Section):
    name: Literal["adamw", "adamw-8bit", "sgd", "muon"] = "adamw"
    newton_schulz_steps: Annotated[int, Field(strict=True, ge=1, le=20), BeforeValidator(whole)] = 5  # Muon only


class Packing(Section):
    """Documents packed into a sequence with a block-diagonal mask: attention stops at a document's edge."""

    mean_document_tokens: Annotated[float, Field(strict=True, ge=1, le=10**8)]
    # mean of (length squared) over (mean length) squared: 1 for equal lengths, 2 for exponential ones
    length_dispersion: Annotated[float, Field(strict=True, ge=1, le=1000)] = 2.0


PrecisionField = Annotated[
    Annotated[Precision, Tag("~name")] | Annotated[PrecisionSpec, Tag("~section")], Discriminator(form)
]
OptimizerField = Annotated[
    Annotated[Literal["adamw", "adamw-8bit", "sgd", "muon"], Tag("~name")] | Annotated[Optimizer, Tag("~section")],
    Discriminator(form),
]


class Training(Section):
    sequence_length: Annotated[int, Field(strict=True, ge=1, le=10**8), BeforeValidator(whole)]
    global_batch_sequences: Count
    precision: PrecisionField = "bf16"
    optimizer: OptimizerField = "adamw"
    tokens: Tokens | None = None
    packing: Packing | None = None


# ---------------------------------------------------------------------------------------------------- the layout


class Recompute(Section):
    granularity: Literal["none", "selective", "full"] = "none"
    modules: tuple[RecomputeModule, ...] = ()  # selective only
    fraction: Share = 1.0  # share of the layers of every stage to which it applies


class Offload(Section):
    """What moves to host memory and back every step."""

    activations: Share = 0.0  # share of the stored activations
    optimizer: Flag = False


class Overlap(Section):
    """What may run beside compute. How much is hidden is derived. null: as the stack does."""

    tp: Flag | None = None
    cp: Flag | None = None
    ep: Flag | None = None
    dp_gradients: Flag | None = None
    dp_parameters: Flag | None = None
    pp: Flag | None = None


RecomputeField = Annotated[
    Annotated[Literal["none", "selective", "full"], Tag("~name")] | Annotated[Recompute, Tag("~section")],
    Discriminator(form),
]


class Layout(Section):
    tp: Count | None = None
    pp: Count | None = None
    dp: Count | None = None  # may be left out: accelerators / (tp * pp * cp)
    vpp: Count = 1
    cp: Count = 1
    ep: Count = 1
    etp: Count | None = None  # tensor parallelism inside the experts; default 1
    # sequences; a fraction where a sequence is spread
    micro_batch: Annotated[float, Field(strict=True, gt=0, le=10**6)] | None = None
    schedule: Schedule | None = None  # default: none (pp 1), 1f1b, interleaved (vpp above 1)
    sharding: Sharding | None = None
    sharding_group: Count | None = None  # ranks of one shard group, hsdp or a partial zero
    reshard_after_forward: Flag | None = None  # zero3: gather again for the backward pass
    prefetch: Flag | None = None
    sequence_parallel: Flag | None = None  # default: true where tp is above 1 and the stack has it
    cp_style: Literal["ring", "all-gather", "all-to-all"] | None = None
    recompute: RecomputeField = "none"
    stages: str | None = None  # Megatron's layout string, e.g. "Et*3|(tt|)*29,m|L"
    first_stage_layers: Whole | None = None
    last_stage_layers: Whole | None = None
    offload: Offload = Offload()
    cuda_graphs: tuple[GraphScope, ...] | None = None
    overlap: Overlap = Overlap()
    expert_groups_per_token: Count | None = None  # node-limited routing: a token visits at most this many nodes
    order: tuple[Dimension, ...] = ("tp", "cp", "ep", "dp", "pp")  # innermost first: how ranks are laid on the network


# ---------------------------------------------------------------------------------------------------- the cluster


def _number_or_text(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number, or text with a unit, is wanted under the full dotted name of a profile field")
    return value


class Cluster(Section):
    profile: str  # a name in hardware_profiles/, or a path to a YAML file
    accelerators: Count
    fabric: str | None = None  # a named scale-out fabric in place of the profile's own
    # dotted profile field -> value, e.g. {"scale_out.nic_Bps": "200 Gb/s"}
    override: dict[str, Annotated[float | str, BeforeValidator(_number_or_text)]] = Field(default_factory=dict)


class SiteCluster(Section):
    """The fields in which a site's cluster differs from the spec's own. Another profile takes no fabric or override along."""

    profile: str | None = None
    accelerators: Count | None = None
    fabric: str | None = None
    override: dict[str, Annotated[float | str, BeforeValidator(_number_or_text)]] = Field(default_factory=dict)


class Site(Section):
    """One of several clusters that train one model; what it does not write is as in `cluster` and `layout`."""

    name: SiteName
    count: Annotated[int, Field(strict=True, ge=1, le=256), BeforeValidator(whole)] = 1  # equal sites: name-1, name-2, ...
    region: str | None = None
    cluster: SiteCluster | None = None
    layout: Layout | None = None


class Software(Section):
    """A named stack, and any of its settings set one by one."""

    stack: str
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d{2})?$")] | None = None  # YYYY-MM of the release; default: the stack's
    attention_kernel: Literal["unfused", "fa1", "fa2", "fa3", "cudnn", "xla"] | None = None
    moe_dispatcher: Literal["alltoall", "allgather", "deepep", "hybridep", "fused"] | None = None
    compile: Flag | None = None
    launch_blocking: Flag | None = None
    fused_cross_entropy: Flag | None = None
    fused_weight_gradient: Flag | None = None
    low_precision_parameters: Flag | None = None
    narrow_activations: Flag | None = None
    gradient_dtype: DType | None = None
    host_layer_s: Seconds | None = None


class Input(Section):
    """The input pipeline: where the training data is read from."""

    storage_Bps: BytesPerS  # aggregate read rate for the whole job
    bytes_per_token: Annotated[float, Field(strict=True, gt=0, le=1e6)] = 4.0


Objective = Literal["step_s", "cost", "memory", "scale_up_traffic", "scale_out_traffic", "above_pod_traffic", "robustness"]


class Rack(Section):
    """Racks (scale-up domains) of which this many accelerators can be used."""

    accelerators: Count
    count: Count


class Search(Section):
    """What `codesign search` looks for, and within which limits. A plan reads none of it."""

    # the first one ranks; the Pareto front is over all of them
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)] = ("step_s", "memory")
    best: Annotated[int, Field(strict=True, ge=1, le=10_000), BeforeValidator(whole)] = 10
    within: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.03  # alternatives this near to the best are shown
    memory_margin: Bytes | None = None  # that much of every device stays free
    idle_accelerators: Whole = 0  # as many may be left without work
    bad_nodes: Whole = 0  # nodes known to be bad: never used
    racks: tuple[Rack, ...] = ()  # racks that are only partly there; default: all of the cluster
    power: Watts | None = None  # of all accelerators in use, at their rated power or power limit
    price_per_hour: Annotated[float, Field(strict=True, gt=0, le=1e6)] | None = None  # of one accelerator


class Spec(Section):
    """One run. See `codesign init` for a commented starter."""

    version: Literal[1]
    name: str | None = None
    model: Model
    training: Training
    layout: Layout
    cluster: Cluster
    software: Software
    input: Input | None = None
    search: Search | None = None
    run: Run | None = None
    sites: tuple[Site, ...] = ()
    links: tuple[Link, ...] = ()
    sync: Sync | None = None
    review: Review | None = None
