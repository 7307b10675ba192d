"""Failures of a run over sites: what fails together, what a site takes down, and who waits for whom.

Sites in lock-step are one job. Groups that meet at outer steps only are one job each: the leaves are those of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign import sites, units
from codesign.site_steps import Steps
from codesign.spec import schema
from codesign.spec.made import Made
from codesign.spec.sites import Member, Sync, sync_of

_OF_GROUP = ("training_ranks", "elastic_units")  # leaves in proportion to the accelerators of the group


@dataclass(frozen=True)
class Group:
    """The largest group of sites that take every step together, of `count` groups; `total`: accelerators of all."""

    members: tuple[Member, ...]
    count: int
    total: float

    @property
    def accelerators(self) -> float:
        return float(sum(site.cluster.accelerators for site in self.members))

    @property
    def share(self) -> float:
        return self.accelerators / self.total


def group(made: Made) -> Group | None:
    """The largest group of a run; none where it has one site or none."""
    exchange: sites.Exchange | None = made.structure.get("exchange")
    if exchange is None:
        return None
    found: Steps = next(iter(made.structure["site_steps"].values()))
    known = {site.name: site for site in found.members}
    groups = [tuple(known[name] for name in names) for names in exchange.groups]
    largest = max(groups, key=lambda members: sum(site.cluster.accelerators for site in members))
    return Group(largest, len(groups), float(sum(site.cluster.accelerators for site in found.members)))


def put(spec: schema.Spec, made: Made, held: Group) -> None:
    """Change the leaves of one site's failures, which are there, to those of the group."""
    sync = sync_of(spec)
    share = held.accelerators / made.leaves["training_accelerators"].value
    counted = [name for name in made.leaves if name.startswith("component_units[") and name != "component_units[site]"]
    for name in (*counted, *_OF_GROUP):
        leaf = made.leaves[name]
        made.put(name, leaf.value * share, leaf.kind, f"{leaf.source}, in proportion to the accelerators in lock-step")
    made.put("training_accelerators", held.total, "spec", "accelerators of all sites")
    made.put("lockstep_accelerators", held.accelerators, "spec", "accelerators of the sites that run in lock-step")
    made.put("lockstep_groups", held.count, "spec", "sites, or regions, that take steps of their own")
    made.put("component_units[site]", len(held.members), "spec", "sites that run in lock-step")
    _one_site(made, held, sync)
    if held.count > 1:
        _meeting(made, held, sync)
    if len({site.cluster.profile for site in held.members}) > 1:
        made.notes.append("failures: nodes and links of every site are taken as those of the site that paces")


def _one_site(made: Made, held: Group, sync: Sync) -> None:
    """What one site holds, at most, of the ranks and replicas; a pipeline has a part of every replica in each site."""
    largest = max(held.members, key=lambda site: site.cluster.accelerators)
    of_group = largest.cluster.accelerators / held.accelerators
    source = f"site {largest.name}, the largest in lock-step"
    for name in ("domain_ranks[site]", "component_domain_ranks[site]"):
        made.put(name, made.leaves["training_ranks"].value * of_group, "spec", source)
    if sync.strategy == "pipeline":
        return
    found: Steps = next(iter(made.structure["site_steps"].values()))
    degrees = {site.name: float(found.plans[site.name].problem.spec.layout.dp or 1) for site in held.members}
    made.put("data_parallel", sum(degrees.values()), "spec", "replicas of the sites that run in lock-step")
    made.put("site_data_parallel", max(degrees.values()), "spec", source)
    made.put("site_elastic_units", made.leaves["elastic_units"].value * of_group, "spec", source)
    made.structure["other_sites"] = True  # each holds whole replicas: elastic and degraded go on without one
    if len(held.members) > 1:
        made.structure["live_copies"] = True  # in lock-step, each site holds the whole state


def _meeting(made: Made, held: Group, sync: Sync) -> None:
    for policy in made.indexes["policy"]:
        del made.leaves[f"policy_group_share[{policy}]"]  # a quantity: they wait for each other
    step_s = made.leaves[next(name for name in made.leaves if name.startswith("phase_site_step_s["))].value
    slack = f"for more than sync.delay, {units.show(sync.delay * step_s, 's')}" if sync.delay else "from the first second"
    made.notes.append(
        f"failures are those of the largest of {held.count} groups, the others taken as like it; at an outer step all wait "
        f"for the last, {slack}. Storage is shared: every group writes its own checkpoint"
    )


__all__ = ["Group", "group", "put"]
