"""Leaves of a run with failures: units and rates by component, failure domains of the layout, checkpoints, recovery."""

from __future__ import annotations

import math

from codesign import units
from codesign.errors import SpecError
from codesign.spec import failure_rates, resolve
from codesign.spec import failures as sections
from codesign.spec.made import Made
from codesign.spec.run import Run

TARGETS = (
    "policy_goodput", "policy_share", "policy_goodput_per_accelerator", "policy_days", "policy_best_interval_s",
    "policy_interval_s", "policy_failures", "policy_memory_share", "policy_spare_nodes", "policy_all_spare_nodes",
    "goodput", "interruptions_per_s", "component_failures_per_s", "component_replicas_hit", "domain_replicas_hit",
    "failures_per_day", "mean_time_to_failure_s", "checkpoint_interval_s", "checkpoint_B", "checkpoint_write_s",
    "checkpoint_blocking_s", "expected_failures", "rare_event_s", "rare_events", "data_rare_events", "run_days",
    "checkpoints_kept", "checkpoint_mean_Bps", "component_survives", "nodes_in_repair",
    "run_ends",
)  # fmt: skip
_SMALL_JOB = 4000.0  # accelerators below which published rates tell too few failures (EQ-60)
_REPAIRED = ("accelerator", "host", "nic", "link", "switch")
_MOMENTS = {"adamw": 2.0, "adamw-8bit": 0.5, "sgd": 1.0, "muon": 1.0}  # moments held, of the moments' width
# recovery times that no report of the data file prints as a number
_ASSUMED = {
    "swap": (60.0, "assumed", "a spare that is kept warm: about one detection time"),
    "reconfigure": (30.0, "assumed", "Gemini 2.5 report: slice-granularity elasticity takes tens of seconds"),
    "repair": (172800.0, "assumed", "EQ-68: two days from drain to return"),
    "site_outage": (0.0, "spec", "run.failures.mtbf.site is not given"),
}
_SLOWDOWN = (0.035, "assumed", "CheckFreq (FAST'21) keeps what checkpoints beside the compute cost within 3.5 %")


def leaves(
    made: Made, run: Run | None, problem: resolve.Problem, parameters: float, step_s: float, storage_share: float = 1.0
) -> None:
    """Put the leaves of run.failures, run.checkpoint, run.spares and run.policy; nothing where nothing fails.

    `problem`: the cluster and layout that fail; `parameters`: of the model, MTP included; `step_s`: of the first phase;
    `storage_share`: what these accelerators have of the job's storage. The section comes apart: a problem may be shared by
    runs of the same step, and that of a phase has none.
    """
    if run is None or run.failures is None or run.checkpoint is None:
        return
    made.targets += TARGETS
    made.indexes["component"] = sections.COMPONENTS
    made.indexes["domain"] = sections.LEVELS
    _layout(made, problem)
    _rates(made, problem, run.failures)
    _recovery(made, run.failures)
    _factors(made, run)
    _checkpoint(made, problem, run.checkpoint, parameters, storage_share)
    _stated_interval(made, run.checkpoint, step_s)
    _policy(made, run)


# ---------------------------------------------------------------------------------------------------- layout


def _domain_ranks(problem: resolve.Problem) -> dict[str, tuple[float, str, str]]:
    """Ranks of each failure domain, at most those of the job; without a scale-out network a domain is the job."""
    prof = problem.profile.per_rank()
    ranks = problem.leaves["accelerator_ranks"].value
    each = float(problem.profile.ranks_per_accelerator)
    node, rack, out = prof.node.accelerators_per_node, prof.scale_up.domain, prof.scale_out
    held = {
        "accelerator": (each, "datasheet", problem.profile.name),
        "node": (node.value, node.kind, node.source),
        "rack": (rack.value, rack.kind, f"{rack.source}; the scale-up domain, a node at least"),
        "leaf": (out.rail_group.value, out.rail_group.kind, out.rail_group.source) if out else None,
        "pod": (out.pod.value, out.pod.kind, out.pod.source) if out else None,
        "site": (ranks, "spec", "cluster.accelerators"),
    }
    found = {name: datum or (ranks, "spec", "no scale-out network") for name, datum in held.items()}
    least = {"rack": found["node"][0], "leaf": found["node"][0]}
    return {
        name: (min(max(value, least.get(name, 1.0)), ranks), kind, source) for name, (value, kind, source) in found.items()
    }


def _layout(made: Made, problem: resolve.Problem) -> None:
    layout, spec = problem.spec.layout, problem.spec
    assert layout.tp and layout.pp and layout.dp
    degrees = {"tp": layout.tp, "cp": layout.cp, "pp": layout.pp, "ep": 1, "dp": layout.dp}
    stride = math.prod(degrees[name] for name in layout.order[: layout.order.index("dp")])
    made.put("data_parallel", layout.dp, "spec", "layout.dp")
    made.put("site_data_parallel", layout.dp, "spec", "layout.dp")
    made.put("data_parallel_stride", stride, "spec", "layout.order and the degrees inside data parallelism")
    for name, (value, kind, source) in _domain_ranks(problem).items():
        made.put(f"domain_ranks[{name}]", value, kind, source)
    ranks = problem.leaves["accelerator_ranks"].value
    node = made.leaves["domain_ranks[node]"].value
    del made.leaves["run_accelerators"]  # a quantity: spares come on top
    made.put("training_accelerators", spec.cluster.accelerators, "spec", "cluster.accelerators")
    made.put("lockstep_accelerators", spec.cluster.accelerators, "spec", "cluster.accelerators")
    made.put("training_ranks", ranks, "spec", "cluster.accelerators")
    made.put("node_ranks", node, *_footing(made, "domain_ranks[node]"))
    # elastic data parallelism gives up whole units: a replica, or the replicas that share one copy of the state
    shard = problem.leaves["shard_ranks"].value if problem.structural()["sharding"].kind != "none" else layout.cp
    share = max(shard / layout.cp, 1.0)
    experts = layout.ep * (layout.etp or 1) / (layout.tp * layout.cp) if spec.model.moe else 1.0
    whole = max(share, experts, 1.0)
    copied = layout.dp // whole >= 2
    unit = whole if copied else max(experts, 1.0)
    units = max(layout.dp // unit, 1.0)
    for name in ("elastic_units", "site_elastic_units"):
        made.put(name, units, "spec", "layout: groups of replicas with a whole copy of the state, or replicas")
    made.put("elastic_unit_replicas", unit, "spec", "layout: replicas that go together")
    made.structure["live_copies"] = bool(copied)
    made.structure["other_sites"] = False
    made.put("lockstep_groups", 1.0, "spec", "all accelerators take every step together")


def _footing(made: Made, name: str) -> tuple[str, str]:
    return made.leaves[name].kind, made.leaves[name].source


# ---------------------------------------------------------------------------------------------------- rates


def fabric_units(accelerators: float, leaf: float, pod: float, taper: float, ports: float) -> tuple[float, float]:
    """Cables and switches of a fat tree of `ports`-port switches: a cable an accelerator and tier, tapered above the pod.

    One tier up to `leaf` accelerators, two up to `pod`, three above; a full tree of k ports has 5/k switches an end.
    """
    tiers = 1 if accelerators <= leaf else 2 if accelerators <= pod else 3
    top = 1.0 / taper
    cables = accelerators * (1.0, 2.0, 2.0 + top)[tiers - 1]
    switches = accelerators / ports * (1.0, 3.0, 2.0 + 3.0 * top)[tiers - 1]
    return cables, switches


def _units(problem: resolve.Problem, failures: sections.Failures) -> dict[str, tuple[float, str]]:
    accelerators = float(problem.spec.cluster.accelerators)
    node = max(problem.profile.node.accelerators_per_node.value, 1.0)
    out = problem.profile.scale_out
    cables, switches = 0.0, 0.0
    if out is not None:
        cables, switches = fabric_units(
            accelerators, out.rail_group.value, out.pod.value, max(out.taper.value, 1.0), float(failures.switch_ports)
        )
    fabric = f"fat tree of {failures.switch_ports}-port switches over the leaves and pods of the fabric"
    return {
        "accelerator": (accelerators, "cluster.accelerators"),
        "host": (math.ceil(accelerators / node), "cluster.accelerators over the node's"),
        "nic": (accelerators, "one an accelerator") if out else (0.0, "no scale-out network"),
        "link": (cables, f"cables of a {fabric}"),
        "switch": (math.ceil(switches) if switches else 0.0, fabric),
        "software": (accelerators, "its part on each accelerator"),
        "site": (1.0, "one site"),
    }


def _rates(made: Made, problem: resolve.Problem, failures: sections.Failures) -> None:
    held = failure_rates.rates(failures.rates)
    for name, (count, source) in _units(problem, failures).items():
        own = getattr(failures.mtbf, name)
        made.put(f"component_units[{name}]", count, "spec", source)
        if own is not None:
            if count == 0:
                field = f"run.failures.mtbf.{name}"
                raise SpecError(f"{field} has no effect: the cluster has none", field=field)
            made.put(f"component_unit_per_s[{name}]", 1.0 / own, "spec", f"run.failures.mtbf.{name}")
        elif name in held.per_s:
            made.put(f"component_unit_per_s[{name}]", held.per_s[name], held.kind, f"rates {held.name}: {held.source}")
        else:
            made.put(f"component_unit_per_s[{name}]", 0.0, "assumed", f"no rate of {name} in {held.name}: taken as none")
            made.notes.append(f"no rate of failures by {name} in rates {held.name}: see what the run would bear")
        level = getattr(failures.takes_down, name, "site" if name == "site" else None)
        down = made.leaves[f"domain_ranks[{level}]"].value if level else 0.0
        source = f"run.failures.takes_down: {level}" if level else "nothing is lost but the processes"
        made.put(f"component_domain_ranks[{name}]", down, "spec", source)
        made.put(f"component_repaired[{name}]", float(name in _REPAIRED), "spec", "parts that are out until they are repaired")
        made.put(f"component_ages[{name}]", float(name == "accelerator"), "spec", "run.failures.early_life")
    made.put("failure_rate_factor", 1.0, "spec", "all rates of failures together, for what-if")
    published = [f"component_unit_per_s[{name}]" for name in sections.COMPONENTS
                 if name in held.per_s and getattr(failures.mtbf, name) is None and made.leaves[f"component_units[{name}]"].value]
    made.put("rare_event_probability", 1e-6, "spec", "definition: once in a million steps")
    corruption = failures.corruption
    if corruption is not None and corruption.mtbf is not None:
        made.put("corruption_unit_per_s", 1.0 / corruption.mtbf, "spec", "run.failures.corruption.mtbf")
    else:
        rate = held.per_s.get("corruption", 0.0)
        made.put("corruption_unit_per_s", rate, held.kind, f"rates {held.name}: {held.source}")
        published += ["corruption_unit_per_s"] if rate else []
    made.structure["published_rates"] = tuple(published)
    made.structure["published_interval"] = (held.low, held.high) if held.low and held.high and published else None
    detect = corruption.detect if corruption else 0.0
    source = "run.failures.corruption.detect" if corruption else "corruption is taken to be noticed at once"
    made.put("corruption_detect_s", detect, "spec" if corruption else "assumed", source)


def beyond_evidence(made: Made, problem: resolve.Problem) -> None:
    """Notes where published rates are used outside the sizes of job that they were reported for."""
    run = problem.spec.run
    if run is None or run.failures is None or not made.structure.get("published_rates"):
        return
    held, size = failure_rates.rates(run.failures.rates), made.leaves["lockstep_accelerators"].value
    if size > held.largest:
        times = f"{size / held.largest:.3g} times as many"
        largest = f"jobs of up to {held.largest:,.0f} accelerators"
        made.notes.append(f"EXTRAPOLATED: rates {held.name} are of {largest}, what fails together here has {times}")
    if size < _SMALL_JOB:
        made.notes.append(
            f"rates by node hold for jobs of {_SMALL_JOB:,.0f} accelerators and more; smaller ones failed more often: every "
            "7.9 h at 1,024, where the rate says 28.8 h (EQ-60, Kokolis 2024, arXiv 2410.21680)"
        )


# ---------------------------------------------------------------------------------------------------- recovery


def _recovery(made: Made, failures: sections.Failures) -> None:
    for name in sections.Recovery.model_fields:
        own = getattr(failures.recovery, name)
        if own is not None:
            made.put(f"{name}_s", own, "spec", f"run.failures.recovery.{name}")
        else:
            made.put(f"{name}_s", *(_ASSUMED.get(name) or failure_rates.practice(name)))


def _factors(made: Made, run: Run) -> None:
    """Early life and stragglers; neutral where nothing is said of them."""
    failures = run.failures
    assert failures is not None
    early = failures.early_life
    if early is None:
        made.put("early_life_factor", 1.0, "assumed", "no early life: rates are settled")
        made.put("early_life_start_factor", 1.0, "assumed", "no early life: rates are settled")
        made.put("settling_s", 1.0, "assumed", "no early life")
    else:
        # a quantity takes the place of the age where it is that of the launch
        made.targets.append("early_life_start_factor")
        age = "hardware_age_s" if run.launch is not None and run.launch.ages else "burn_in_s"
        for leaf, name in (("early_failed_share", "failed_share"), ("settling_s", "settling"), (age, "age"),
                           ("early_replaced_share", "replaced_share")):  # fmt: skip
            made.put(leaf, getattr(early, name), "spec", f"run.failures.early_life.{name}")
        if run.launch is None:
            made.put("launch_speed_gain", 1.0, "spec", "no run.launch: launched now")
    stragglers = failures.stragglers
    if stragglers is None:
        made.put("straggler_step_factor", 1.0, "assumed", "no stragglers beyond those of the measured steps")
        return
    slow = stragglers.slow_nodes
    made.put("step_variation", stragglers.variation, "spec", "run.failures.stragglers.variation")
    made.put("slow_node_share", slow.share if slow else 0.0, "spec", "run.failures.stragglers.slow_nodes.share")
    made.put("slow_node_slowdown", slow.slowdown if slow else 1.0, "spec", "run.failures.stragglers.slow_nodes.slowdown")


# ---------------------------------------------------------------------------------------------------- checkpoints


def _checkpoint(
    made: Made, problem: resolve.Problem, checkpoint: sections.Checkpoint, parameters: float, storage_share: float
) -> None:
    made.put("checkpoint_parameters", parameters, "spec", "parameters of the model, multi-token prediction included")
    # what the master copy leaves out is kept in the width of the compute copy
    wide = "master_B" if problem.leaves["master_B"].value else "parameter_B"
    made.put("checkpoint_weight_B", problem.leaves[wide].value or 2.0, "spec", problem.leaves[wide].source)
    made.put("checkpoint_moment_B", problem.leaves["moment_B"].value, "spec", problem.leaves["moment_B"].source)
    optimizer = problem.structural()["optimizer"]
    made.put("checkpoint_moments", _MOMENTS[optimizer], "spec", f"training.optimizer {optimizer}")
    part = "" if storage_share == 1.0 else ", shared by groups that each write their own"
    made.put("checkpoint_storage_Bps", checkpoint.storage_Bps * storage_share, "spec", f"run.checkpoint.storage_Bps{part}")
    read = checkpoint.read_Bps
    source = "run.checkpoint.read_Bps" if read else "run.checkpoint.storage_Bps: reading as fast as writing"
    read_Bps = (read or checkpoint.storage_Bps) * storage_share
    made.put("checkpoint_read_Bps", read_Bps, "spec" if read else "assumed", f"{source}{part}")
    for name in ("host_link_Bps", "nic_Bps"):
        leaf = problem.leaves[name]
        made.put(name, leaf.value, leaf.kind, leaf.source)
    if problem.profile.scale_out is None:
        made.put("nic_Bps", problem.leaves["link_Bps"].value, *_kind_of(problem, "link_Bps"))
    kind, slowdown = checkpoint.kind, checkpoint.slowdown
    if kind == "synchronous":
        made.put("checkpoint_slowdown", 0.0, "spec", "run.checkpoint.kind synchronous: nothing is computed meanwhile")
    elif slowdown is not None:
        made.put("checkpoint_slowdown", slowdown, "spec", "run.checkpoint.slowdown")
    else:
        made.put("checkpoint_slowdown", *_SLOWDOWN)
    made.structure["checkpoint_kind"] = kind
    made.structure["interval_is_stated"] = checkpoint.interval != "auto"
    apart = checkpoint.apart or "rack"
    made.put("peer_copies", checkpoint.copies or 2, "spec" if checkpoint.copies else "assumed", "run.checkpoint.copies")
    made.put("apart_ranks", made.leaves[f"domain_ranks[{apart}]"].value, "spec", f"run.checkpoint.apart {apart}")


def _stated_interval(made: Made, checkpoint: sections.Checkpoint, step_s: float) -> None:
    """An interval that cannot be kept is refused: it would be planned as a longer one."""
    if checkpoint.interval == "auto":
        made.put("stated_interval_s", 0.0, "spec", "run.checkpoint.interval auto")
        return
    stated = float(checkpoint.interval)
    value = {name: leaf.value for name, leaf in made.leaves.items()}
    each = value["checkpoint_weight_B"] + value["checkpoint_moments"] * value["checkpoint_moment_B"]
    write_s = value["checkpoint_parameters"] * each / value["checkpoint_storage_Bps"] if checkpoint.kind != "synchronous" else 0.0
    for least, what in ((step_s, "one step"), (write_s, "one write to storage")):
        if stated < least:
            raise SpecError(
                f"run.checkpoint.interval of {units.show(stated, 's')} is shorter than {what} ({units.show(least, 's')}): "
                "write a longer interval, or auto",
                field="run.checkpoint.interval",
            )
    made.put("stated_interval_s", stated, "spec", "run.checkpoint.interval")


def _kind_of(problem: resolve.Problem, name: str) -> tuple[str, str]:
    return problem.leaves[name].kind, problem.leaves[name].source


# ---------------------------------------------------------------------------------------------------- policies


def _policy(made: Made, run: Run) -> None:
    chosen = run.policy or "restart"
    known = sections.POLICIES
    if made.leaves["elastic_units"].value < 2:
        why = "the state is on one set of data-parallel ranks only: nothing can go on without one"
        if chosen in ("elastic", "degraded"):
            raise SpecError(f"run.policy {chosen} needs two replicas or more: {why}", field="run.policy")
        known = tuple(name for name in known if name not in ("elastic", "degraded"))
        made.notes.append(f"elastic and degraded are not compared: {why}")
    made.indexes["policy"] = known
    for name in known:
        made.put(f"policy_group_share[{name}]", 0.0, "spec", "one group: nobody else to wait for")
    made.structure["chosen_policy"] = chosen
    spares = run.spares
    made.structure["spares_are_stated"] = bool(spares and spares.count is not None)
    made.structure["spares_are_given"] = spares is not None
    quantile = spares.quantile if spares and spares.quantile is not None else 0.99
    given = bool(spares and spares.quantile is not None)
    made.put("spare_quantile", quantile, "spec" if given else "assumed", "run.spares.quantile")
    made.put("stated_spare_nodes", float(spares.count or 0) if spares else 0.0, "spec", "run.spares.count")


__all__ = ["TARGETS", "fabric_units", "leaves"]
