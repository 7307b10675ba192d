"""Random specs: small, valid, of every kind that the planner knows; plain mappings for `codesign.plan`."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from codesign.spec import profiles, schema

# profile -> matmul precisions for which it has a rate
HALF = ("bf16", "fp16", "fp32")
HOPPER = (*HALF, "fp8-tensor", "fp8-current", "fp8-block", "fp8-rowwise", "mxfp8")
PROFILES: dict[str, tuple[str, ...]] = {
    "a100-sxm-80gb": HALF,
    "h100-sxm-80gb": HOPPER,
    "h800-sxm-80gb": HOPPER,
    "b200-sxm": (*HOPPER, "nvfp4"),
    "gb200-nvl72": (*HOPPER, "nvfp4"),
    "mi300x": (*HALF, "fp8-current"),
    "mi250x": ("bf16",),
    "tpu-v5p": ("bf16", "int8"),
}
STACKS = (
    "megatron-2021", "megatron-2022-sp", "megatron-core", "megascale", "deepseek-hai", "meta-llama3",
    "torchtitan-eager", "torchtitan-compile", "fsdp1", "deepspeed", "maxtext",
)
MODULES = ("core_attn", "qkv", "attn_out", "layernorm", "mlp", "mlp_act", "ffn_up", "elementwise", "every_other_matmul")
VPP = {"interleaved": (2, 3), "zb-v": (2,), "dualpipe-v": (2,)}

Mapping = dict[str, Any]


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Mapping]:
    """A mapping that has each of these fields or not."""
    return st.fixed_dictionaries({}, optional=fields)


def models(moe: bool) -> st.SearchStrategy[Mapping]:
    """Models of a few narrow layers; `kv_heads` divides `heads`, which 16 ranks can share."""

    @st.composite
    def draw_model(draw: st.DrawFn) -> Mapping:
        heads = draw(st.sampled_from((16, 32)))
        model: Mapping = {
            "layers": draw(st.integers(8, 14)),
            "hidden": draw(st.sampled_from((1024, 2048, 4096))),
            "heads": heads,
            "head_dim": draw(st.sampled_from((64, 128))),
            "ffn": draw(st.sampled_from((2816, 8192))),
            "vocab": draw(st.sampled_from((32000, 128256))),
            "gated_ffn": draw(st.booleans()),
            "tied_embeddings": draw(st.booleans()),
            "qk_norm": draw(st.sampled_from(("none", "head"))),
            "parallel_block": draw(st.booleans()),
            "positions": draw(st.sampled_from(("rotary", "none"))),
        }
        if draw(st.booleans()):
            model["mla"] = {
                "q_lora": draw(st.sampled_from((None, 768))), "kv_lora": 256, "qk_nope_head_dim": 64,
                "qk_rope_head_dim": 32, "v_head_dim": 64,
            }
        else:
            model["kv_heads"] = draw(st.sampled_from((1, 4, 16)))
        if draw(st.booleans()):
            model["sliding_window"] = {"window": 512, "local": draw(st.sampled_from((None, 1, 3)))}
        if draw(st.booleans()):
            model["mtp_layers"] = 1
        if moe:
            model["moe"] = {
                "experts": draw(st.sampled_from((8, 16))), "top_k": draw(st.sampled_from((1, 2, 4))),
                "expert_ffn": draw(st.sampled_from((512, 1536))), "shared_experts": draw(st.sampled_from((0, 1))),
                "dense_layers": draw(st.sampled_from((0, 2))), "imbalance": draw(st.sampled_from((1.0, 1.3))),
                **draw(_some(capacity_factor=st.sampled_from((1.0, 1.5)), every=st.sampled_from((1, 2)))),
            }
        return model

    return draw_model()


def precisions(profile: str) -> st.SearchStrategy[Any]:
    """A recipe that the accelerator can run, alone or with dtypes set one by one."""
    recipe = st.sampled_from(PROFILES[profile])
    dtypes = _some(
        gradients=st.sampled_from(("fp32", "bf16")), moments=st.sampled_from(("fp32", "bf16")),
        parameters=st.sampled_from(("fp32", "bf16")), master=st.sampled_from(("fp32", "none")),
    )
    return recipe | st.builds(lambda matmul, rest: {"matmul": matmul, **rest}, recipe, dtypes)


def recomputes() -> st.SearchStrategy[Any]:
    share = st.sampled_from((0.25, 1.0))
    return st.sampled_from(("none", "selective", "full")) | st.one_of(
        st.builds(lambda f: {"granularity": "full", "fraction": f}, share),
        st.builds(
            lambda f, modules: {"granularity": "selective", "fraction": f, "modules": modules},
            share, st.lists(st.sampled_from(MODULES), min_size=1, max_size=3, unique=True),
        ),
    )


@st.composite
def shardings(draw: st.DrawFn, dp: int) -> Mapping:
    kind = draw(st.sampled_from(get_args(schema.Sharding)))
    fields: Mapping = {"sharding": kind}
    if kind in ("zero3", "hsdp"):
        fields |= draw(_some(reshard_after_forward=st.booleans(), prefetch=st.booleans()))
    if kind == "hsdp":
        fields["sharding_group"] = draw(st.sampled_from([n for n in (1, 2, 4, 8) if dp % n == 0]))
    return fields


@st.composite
def layouts(draw: st.DrawFn, layers: int, moe: Mapping | None, ranks_per_accelerator: int) -> Mapping:
    """A complete layout whose degrees fit together."""
    tp, pp, cp = draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 2, 4))), draw(st.sampled_from((1, 1, 2)))
    dp = draw(st.sampled_from((1, 2, 4, 8, 16))) * ranks_per_accelerator
    layout: Mapping = {"tp": tp, "pp": pp, "cp": cp, "dp": dp, "micro_batch": draw(st.sampled_from((1, 2)))}
    if pp > 1:
        schedule = draw(st.sampled_from([s for s in get_args(schema.Schedule) if s != "none"]))
        vpp = draw(st.sampled_from([n for n in VPP.get(schedule, (1,)) if pp * n <= layers]))
        layout |= {"schedule": schedule, "vpp": vpp}
    layout |= draw(shardings(dp * cp))
    if tp > 1:
        layout["sequence_parallel"] = draw(st.booleans())
    if cp > 1:
        layout["cp_style"] = draw(st.sampled_from(("ring", "all-gather", "all-to-all")))
    if moe:
        mesh = tp * cp * dp
        layout["ep"] = draw(st.sampled_from([n for n in (1, 2, 4, 8) if moe["experts"] % n == 0 and mesh % n == 0]))
        layout["etp"] = draw(st.sampled_from([n for n in (1, 2) if n <= tp and mesh % (layout["ep"] * n) == 0]))
        layout |= draw(_some(expert_groups_per_token=st.sampled_from((1, 2))))
    layout["recompute"] = draw(recomputes())
    layout |= draw(_some(
        offload=_some(activations=st.sampled_from((0.25, 1.0)), optimizer=st.booleans()),
        cuda_graphs=st.sampled_from((["full_iteration"], ["attn"])),
        overlap=_some(**{name: st.booleans() for name in schema.Overlap.model_fields}),
        order=st.permutations(get_args(schema.Dimension)),
    ))
    return layout


@st.composite
def specs(draw: st.DrawFn, uniform: bool = False) -> Mapping:
    """A whole run. `uniform`: every pipeline stage has the same number of equal layers."""
    profile = draw(st.sampled_from(sorted(PROFILES)))
    per = profiles.load(profile).ranks_per_accelerator
    model = draw(models(False if uniform else draw(st.booleans())))
    layout = draw(layouts(model["layers"], model.get("moe"), per))
    if uniform:
        model |= {"layers": layout["pp"] * layout.get("vpp", 1) * draw(st.sampled_from((1, 2))), "mtp_layers": 0}
        model.pop("sliding_window", None)
    micro_batches = 2 * layout["pp"] * draw(st.integers(1, 4))
    ranks = layout["tp"] * layout["pp"] * layout["cp"] * layout["dp"]
    training: Mapping = {
        "sequence_length": draw(st.sampled_from((2048, 8192))),
        "global_batch_sequences": layout["dp"] * layout["micro_batch"] * micro_batches,
        "precision": draw(precisions(profile)),
        "optimizer": draw(st.sampled_from(("adamw", "adamw-8bit", "sgd", "muon"))),
        **draw(_some(packing=st.fixed_dictionaries({
            "mean_document_tokens": st.sampled_from((300.0, 1500.0)), "length_dispersion": st.sampled_from((1.0, 2.0)),
        }))),
    }
    spec: Mapping = {
        "version": 1, "model": model, "training": training, "layout": layout,
        "cluster": {"profile": profile, "accelerators": ranks // per},
        "software": {"stack": draw(st.sampled_from(STACKS)), **draw(_some(
            launch_blocking=st.booleans(), date=st.sampled_from(("2024-06", "2026-03"))))},
    }
    if draw(st.booleans()):
        spec["input"] = {"storage_Bps": draw(st.sampled_from(("1 MB/s", "10 GB/s")))}
    return spec
