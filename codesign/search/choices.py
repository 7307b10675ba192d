"""What a search tries for every field: as written, or what the stack offers and the model allows.

Also how many accelerators may work, and what layers cost where stages are balanced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from codesign import planner
from codesign.laws import pipeline as pipelines
from codesign.search import balance
from codesign.spec import domains, load, profiles, resolve, schema, stacks

MOST_MICRO_BATCH = 64
LEAST_CONTEXT_TOKENS = 1024  # a context-parallel rank left without a stated cp keeps at least as many tokens
FRACTION = 2**20  # micro-batches are whole numbers of one over this
FULLY = ("zero3", "hsdp")  # parameters are sharded as well
INNER = ("prefetch", "cuda_graphs", "overlap", "expert_groups_per_token", "first_stage_layers", "last_stage_layers")


def sizes(opened: domains.Open, profile: profiles.Profile) -> tuple[tuple[int, int], ...]:
    """How many accelerators may work, with the accelerators used of a rack (0: racks are whole)."""
    spec, wanted = opened.spec, opened.search
    node = int(datum(profile, "node.accelerators_per_node") or 1)
    whole = spec.cluster.accelerators - wanted.bad_nodes * node
    if whole < 1:
        raise opened.error("search.bad_nodes", f"{wanted.bad_nodes} bad nodes of {node} accelerators leave none of "
                           f"{spec.cluster.accelerators:,}")  # fmt: skip
    if wanted.idle_accelerators >= whole:
        raise opened.error("search.idle_accelerators", f"search.idle_accelerators {wanted.idle_accelerators:,} is all of the "
                           f"{whole:,} accelerators: leave some to work")  # fmt: skip
    most = whole
    if wanted.power is not None:
        watts = datum(profile, "accelerator.power_limit_W") or datum(profile, "accelerator.tdp_W")
        if watts is None:
            raise opened.error(
                "search.power", f"{profile.name} has no rated power: write cluster.override accelerator.tdp_W"
            )
        most = min(whole, int(wanted.power // watts))
        if most < 1:
            raise opened.error("search.power", f"{wanted.power:g} W do not feed one accelerator of {watts:g} W")
        if node < most < whole:
            most -= most % node  # jobs take whole nodes
    units = _racks(opened, profile) or {0: whole}
    found = []
    for unit, usable in sorted(units.items()):
        top = min(most, usable)
        floor = max(top - wanted.idle_accelerators, 1)
        step = unit or (node if whole % node == 0 and top >= node else 1)
        counts = {top} | {n for n in range(top - top % step, floor - 1, -step) if n >= 1}
        found += [(count, unit) for count in sorted(counts, reverse=True)]
    return tuple(found)


def _racks(opened: domains.Open, profile: profiles.Profile) -> dict[int, int]:
    """Accelerators used of a rack -> accelerators that all racks together give; empty where no racks are stated."""
    racks = opened.search.racks
    if not racks:
        return {}
    domain = int(datum(profile, "scale_up.domain") or 1)
    for at, rack in enumerate(racks):
        if rack.accelerators > domain:
            raise opened.error(f"search.racks.{at}.accelerators", f"a rack of {rack.accelerators} accelerators: {profile.name} "
                               f"joins {domain} in one scale-up domain")  # fmt: skip
    total = sum(rack.accelerators * rack.count for rack in racks)
    if total > opened.spec.cluster.accelerators:
        raise opened.error("search.racks", f"the racks hold {total:,} accelerators, the cluster has "
                           f"{opened.spec.cluster.accelerators:,}")  # fmt: skip
    powers = {2**n for n in range(max(domain, 1).bit_length()) if 2**n <= domain and 2 * 2**n > min(8, domain)}
    sizes = sorted({rack.accelerators for rack in racks} | powers)
    usable = {unit: sum(rack.accelerators // unit * unit * rack.count for rack in racks) for unit in sizes}
    return {unit: count for unit, count in usable.items() if count}


def datum(profile: profiles.Profile, key: str) -> float | None:
    datum = profile.data().get(key)
    return None if datum is None or datum.value is None else float(datum.value)


def divisors(number: int) -> list[int]:
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def tried(
    opened: domains.Open, profile: profiles.Profile, stack: stacks.Stack, ranks: int
) -> dict[str, tuple[Any, ...]]:
    """Every field with the values that are tried: as written, or what the stack and the model offer."""
    spec, can, written = opened.spec, stack.can, opened.domains
    model, moe = spec.model, spec.model.moe
    domain = max(int(datum(profile, "scale_up.domain") or 1) * profile.ranks_per_accelerator, 1)
    degrees = sorted(
        {d for size, _ in sizes(opened, profile) for d in divisors(size * profile.ranks_per_accelerator)}
    )
    context = max(spec.training.sequence_length // LEAST_CONTEXT_TOKENS, 1)
    batches = [b for b in opened.batch.values if b]
    most_tp = min(domain, can.max_tp or domain)
    own: dict[str, tuple[Any, ...]] = {
        "tp": tuple(d for d in divisors(model.heads) if d <= most_tp),
        "pp": tuple(d for d in degrees if d <= model.layers + 2) if can.schedules else (1,),
        "cp": tuple(d for d in degrees if d <= context) if can.cp_styles else (1,),
        "ep": tuple(divisors(moe.experts)) if moe else (1,),
        "etp": tuple(d for d in divisors(moe.expert_ffn) if d <= most_tp) if moe else (1,),
        "micro_batch": tuple(sorted({d for b in batches for d in divisors(b) if d <= MOST_MICRO_BATCH})),
        "vpp": tuple(range(1, model.layers + 3)),
        "schedule": can.schedules or ("none",),
        "sharding": can.shardings,
        "reshard_after_forward": (True, False),
        "sharding_group": (),
        "sequence_parallel": (True, False) if stack.sequence_parallel else (False,),
        "cp_style": can.cp_styles or ("ring",),
        "stages": (None, "balanced") if model.layers <= balance.MOST_LAYERS else (None,),
        "recompute": recomputes(can.modules, model, stack),
        "offload": tuple(
            schema.Offload(optimizer=flag) for flag in ((False, True) if can.offload_optimizer else (False,))
        ),
        "order": can.orders,
        "dp": (),
        **dict.fromkeys(INNER, (None,)),
    }
    found = {name: written[name].values if name in written else values for name, values in own.items()}
    found["global_batch"] = tuple(batches)
    _refuse_contradictions(opened, found)
    return found


def _refuse_contradictions(opened: domains.Open, tried: Mapping[str, tuple[Any, ...]]) -> None:
    """What is written and can never be: said at once, with its place."""
    moe, written = opened.spec.model.moe, opened.domains
    if moe is None:
        for name in ("ep", "etp", "expert_groups_per_token"):
            if name in written and not (name == "ep" and written[name].values == (1,)):
                raise opened.error(f"layout.{name}", f"layout.{name}: the model is dense, it has no experts")
    if "sharding_group" in written and not set(tried["sharding"]) & {"hsdp"}:
        raise opened.error("layout.sharding_group", "layout.sharding_group is the shard group of hsdp, which layout.sharding "
                           "leaves out")  # fmt: skip
    for name in ("reshard_after_forward", "prefetch"):
        if name in written and not set(tried["sharding"]) & set(FULLY):
            raise opened.error(f"layout.{name}", f"layout.{name} has no effect without layout.sharding zero3 or hsdp")
    if True in _written(opened, "sequence_parallel") and set(tried["tp"]) == {1}:
        raise opened.error("layout.sequence_parallel", "layout.sequence_parallel true has no effect with tp 1: it shares the "
                           "ranks of tensor parallelism")  # fmt: skip
    for recompute in _written(opened, "recompute"):
        one = recompute[0] if isinstance(recompute, tuple) else recompute
        for field, message in load.recompute_conflicts(schema.Layout(recompute=one), opened.spec.model):
            raise opened.error(field, message)
    if "cp_style" in written and set(tried["cp"]) == {1}:
        raise opened.error("layout.cp_style", "layout.cp_style has no effect with cp 1")
    if "schedule" in written and set(tried["schedule"]) == {"none"} and 1 not in tried["pp"]:
        raise opened.error("layout.schedule", f"layout.schedule none is for pp 1 only, and pp is {_list(tried['pp'])}")
    if "vpp" in written and 1 not in tried["vpp"] and set(tried["pp"]) == {1}:
        raise opened.error("layout.vpp", f"layout.vpp {_list(tried['vpp'])} needs a pipeline, and pp is 1")
    if {"schedule", "vpp"} <= written.keys() and not any(
        vpp == 1 if pp == 1 else pipelines.valid(schedule, pp, vpp, 1e6 * pp) is None
        for pp in tried["pp"] for schedule in tried["schedule"] for vpp in tried["vpp"]
    ):  # fmt: skip
        reason = pipelines.valid(tried["schedule"][0], tried["pp"][-1], tried["vpp"][0], 1e6 * tried["pp"][-1])
        raise opened.error("layout.vpp", f"layout.vpp and layout.schedule exclude each other: {reason}")
    for size in tried["micro_batch"]:
        if size * FRACTION != int(size * FRACTION):
            raise opened.error("layout.micro_batch", f"layout.micro_batch {size:g}: a search takes whole sequences and binary "
                               "fractions such as 0.5 or 0.125")  # fmt: skip
    if len(set(opened.search.objectives)) < len(opened.search.objectives):
        raise opened.error("search.objectives", "search.objectives has a name twice")
    for order in tried["order"]:
        if sorted(order) != ["cp", "dp", "ep", "pp", "tp"]:
            raise opened.error("layout.order", "layout.order must name each of tp, cp, ep, dp, pp once")


def _written(opened: domains.Open, name: str) -> tuple[Any, ...]:
    return opened.domains[name].values if name in opened.domains else ()


def recomputes(modules: Sequence[str], model: schema.Model, stack: stacks.Stack) -> tuple[Any, ...]:
    """None, whole layers, and every set of modules that the stack knows and the model has."""
    dense = any(not kind.startswith("moe") for kind in resolve.layer_kinds(model))
    has = [
        m
        for m in modules
        if not (m in ("moe_act", "shared_experts", "moe") and model.moe is None)
        and not (m == "shared_experts" and model.moe and not (model.moe.shared_experts or model.moe.shared_expert_ffn))
        and not (m == "mla_up_proj" and model.mla is None)
        and not (m == "mlp" and not dense)
        and not (m == "core_attn" and stack.attention_kernel != "unfused")  # a fused kernel recomputes by itself
    ]
    inside = {"moe_act", "shared_experts"}  # parts of `moe`
    sets = [
        subset
        for size in range(1, len(has) + 1)
        for subset in combinations(has, size)
        if not ("moe" in subset and inside & set(subset))
    ]
    selective = tuple(schema.Recompute(granularity="selective", modules=subset) for subset in sets)
    return ("none", (schema.Recompute(granularity="full"), domains.ANY), *selective)


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def widest(tried: Mapping[str, tuple[Any, ...]]) -> str:
    wide = sorted(tried, key=lambda name: -len(tried[name]))[:4]
    return ", ".join(f"{name} ({len(tried[name])})" for name in wide)


def costs(
    opened: domains.Open, profile: profiles.Profile, tried: Mapping[str, tuple[Any, ...]]
) -> list[balance.Costs]:
    """What layers and ends cost at both ends of tensor parallelism, for balancing stages."""
    spec = opened.spec
    if "balanced" not in tried["stages"] or set(tried["pp"]) == {1}:
        return []
    return list(dict.fromkeys(_cost(spec, profile, tp) for tp in sorted({min(tried["tp"]), max(tried["tp"])})))


def _cost(spec: schema.Spec, profile: profiles.Profile, tp: int) -> balance.Costs:
    """Times of one micro-batch on one tensor-parallel group."""
    update = {
        "layout": schema.Layout(tp=tp, pp=1, micro_batch=1, sharding="none"),
        "cluster": spec.cluster.model_copy(update={"accelerators": tp}),
        "training": spec.training.model_copy(update={"global_batch_sequences": profile.ranks_per_accelerator}),
        "search": None,
    }
    problem = resolve.resolve(spec.model_copy(update=update), profile=profile)
    targets = ("layer_forward_s", "layer_backward_s", "embedding_s", "head_forward_s", "head_backward_s",
               "mtp_module_forward_s", "mtp_module_backward_s")  # fmt: skip
    values = planner.evaluate([problem], targets)

    def seconds(*names: str, kind: str | None = None) -> float:
        return sum(float(np.ravel(values[(name, kind)])[0]) for name in names)

    of_kind = {kind: seconds("layer_forward_s", "layer_backward_s", kind=kind) for kind in problem.kinds}
    order = resolve.layer_kinds(spec.model)
    mtp = spec.model.mtp_layers
    return balance.Costs(
        tuple(of_kind[kind] for kind in order),
        seconds("embedding_s"),
        seconds("head_forward_s", "head_backward_s"),
        mtp * seconds("mtp_module_forward_s", "mtp_module_backward_s") if mtp else 0.0,
        mtp,
    )
