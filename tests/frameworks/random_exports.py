"""Exports of random plans through the checks of Megatron-LM or Megatron-Bridge: each is taken, and says what the plan says.

    python tests/frameworks/random_exports.py --megatron DIR [--bridge DIR] [--plans 200] [--seed 1]

With --bridge the recipes of Megatron-Bridge are checked instead.

A plan that the export refuses by name is counted and passed over. Not part of the default tests.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import bridge_check
import megatron_check

from codesign import plan
from codesign.errors import SpecError
from codesign.export import asked as asking
from codesign.export.launch import export


def drawn(of: random.Random) -> dict:
    """A small model and a layout of it. Many contradict themselves: those are refused before an export."""
    one = of.choice
    moe = of.random() < 0.5
    model = {"name": "random", "layers": one((8, 12, 16)), "hidden": 1024, "heads": 16, "kv_heads": one((4, 16)), "ffn": 4096,
             "vocab": 32000, "tied_embeddings": one((True, False))}  # fmt: skip
    if moe:
        model["moe"] = {"experts": 16, "top_k": one((1, 2)), "expert_ffn": 512, "dense_layers": one((0, 2)),
                        "every": one((1, 1, 2)), "capacity_factor": one((None, None, 1.25)),
                        "shared_experts": one((0, 1))}  # fmt: skip
    tp, pp = one((1, 2, 4)), one((1, 1, 2, 4))
    vpp = one((1, 2)) if pp > 1 else 1
    sharding = one(("none", "zero1", "zero1", "zero2", "zero3", "hsdp") if pp == 1 else ("none", "zero1"))
    modules = [of.choice(("core_attn", "layernorm", "mlp", *(("moe", "moe_act") if moe else ())))]
    layout = {
        "tp": tp, "pp": pp, "vpp": vpp, "cp": one((1, 1, 2)), "micro_batch": one((1, 2)), "sharding": sharding,
        "recompute": one(("none", "full", {"granularity": "selective", "modules": modules})),
        "cuda_graphs": one(([], [], ["attn"], ["full_iteration"], ["attn", "mlp"], ["moe_router", "moe_preprocess"])),
        "offload": {"optimizer": one((False, False, True))},
    }  # fmt: skip
    if tp > 1:
        layout["sequence_parallel"] = one((True, True, False))
    overlap = {"pp": one((True, False))}
    if moe:
        layout |= {"ep": one((1, 4, 8)), "etp": one((1, 1, tp))}
        overlap["ep"] = layout["ep"] > 1 and one((True, False))
    if sharding == "hsdp":
        layout["sharding_group"] = one((4, 8))
    layout["overlap"] = overlap
    optimizer = one(("adamw", "adamw", "adamw", "sgd", "muon"))
    precision = {"matmul": one(("bf16", "bf16", "fp16", "fp32", "fp8-tensor", "fp8-current", "fp8-block", "mxfp8"))}
    if of.random() < 0.3:
        precision["moments"] = "bf16"
    software = {"stack": "megatron-core"}
    if moe:
        software["moe_dispatcher"] = one(("alltoall", "allgather", "deepep", "hybridep"))
    if precision["matmul"].startswith(("fp8", "mxfp8")):
        software["low_precision_parameters"] = one((True, False))
    return {
        "version": 1, "model": model, "layout": layout, "software": software,
        "training": {"sequence_length": 2048, "global_batch_sequences": one((64, 128, 96)), "optimizer": optimizer,
                     "precision": precision},
        "cluster": {"profile": "gb200-nvl72" if precision["matmul"] == "mxfp8" else "h100-sxm-80gb",
                    "accelerators": one((32, 64))},
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megatron", metavar="DIR", required=True)
    parser.add_argument("--bridge", metavar="DIR")
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.argv = sys.argv[:1]
    of = random.Random(given.seed)
    target, module = ("megatron-bridge", bridge_check) if given.bridge else ("megatron", megatron_check)
    one = module.prepare(Path(given.bridge or given.megatron), {"megatron": given.megatron})
    taken = refused = failed = 0
    for number in range(given.plans):
        spec = drawn(of)
        try:
            planned = plan(spec)
            text = export(planned, target).text
        except SpecError:
            refused += 1
            continue
        try:
            pairs = one(text, asking.asked(planned))
            wrong = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        except (Exception, SystemExit) as error:  # the framework may raise anything
            wrong = f"REFUSED by the framework: {type(error).__name__}: {error}"
        taken += not wrong
        failed += bool(wrong)
        if wrong:
            print(f"plan {number} of seed {given.seed}: {wrong}\n  {spec}")
    print(f"{given.plans} plans: {refused} contradict themselves or are refused by name, {taken} taken, {failed} wrong")
    return 1 if failed or not taken else 0


if __name__ == "__main__":
    sys.exit(main())
