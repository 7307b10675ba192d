"""What a plan asks of a framework: every effective field, who read it, what was refused, what no option carries.

A writer takes fields one by one. What it neither takes nor lists as not carried is refused by name, so that no field of the
plan can be dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codesign.errors import SpecError
from codesign.planner import Plan
from codesign.spec import resolve, schema, stacks
from codesign.spec.profiles import Profile
from codesign.spec.stages import Stages

FILL_IN = "FILL_IN"  # stands for what the plan does not decide; no framework accepts it where it is written

# Values that ask nothing of a framework, beside None, False, 0 and empty ones.
NEUTRAL = {
    "model.norms_per_layer": 2, "model.final_norm": True, "model.qk_norm": "none", "model.moe.every": 1,
    "model.moe.imbalance": 1.0, "layout.vpp": 1, "layout.cp": 1, "layout.ep": 1, "layout.etp": 1, "layout.pp": 1,
    "layout.tp": 1, "layout.sharding": "none", "layout.schedule": "none", "layout.recompute.granularity": "none",
}  # fmt: skip
# What describes the machine, the measurements or the data, for which no training framework has an option.
NOT_CARRIED = {
    "model.name": "a name",
    "model.moe.imbalance": "an assumption about routing",
    "training.packing.mean_document_tokens": "the data decides it",
    "training.packing.length_dispersion": "the data decides it",
    "layout.dp": "follows from the number of ranks",
    "cluster.profile": "the hardware under the plan",
    "cluster.accelerators": "as many ranks as you launch",
    "cluster.fabric": "the hardware under the plan",
    "cluster.override": "the hardware under the plan",
    "software.stack": "which measured stack the plan was made for",
    "software.date": "which release the plan was made for",
    "software.host_layer_s": "a measured time",
    "input": "the storage under the plan",
    "name": "a name",
}  # fmt: skip
# Sections that go on past the step, or look for another one: left out of a launch.
LEFT_OUT = ("search", "run", "sites", "links", "sync", "review")


@dataclass(frozen=True)
class Framework:
    """What an export is checked against."""

    name: str
    source: str  # repository, commit and date, or version


@dataclass
class Asked:
    """The effective fields of a plan by dotted name, as plain data. `taken` is filled by the writers."""

    values: Mapping[str, Any]
    stages: Stages
    profile: Profile
    ranks: int
    per_node: int
    dropout: bool  # the stack under the plan trains with dropout
    layer_kinds: tuple[bool, ...]  # for every decoder layer: is it a MoE layer
    taken: set[str] = field(default_factory=set)
    refusals: list[tuple[str, str]] = field(default_factory=list)

    def take(self, name: str) -> Any:
        """The value of a field, which is then accounted for; None where the plan has no such field."""
        self.taken.add(name)
        return self.values.get(name)

    def refuse(self, name: str, why: str) -> None:
        """The framework cannot do what this field asks."""
        self.taken.add(name)
        self.refusals.append((name, why))

    def only(self, name: str, allowed: Any, why: str) -> Any:
        """Take a field that may have one of some values (a tuple) or one value; refuse it otherwise."""
        value = self.take(name)
        if value not in (allowed if isinstance(allowed, tuple) else (allowed,)):
            self.refuse(name, f"is {_shown(value)}: {why}")
        return value

    def whole(self, name: str) -> int:
        """A field that must be a whole number here."""
        value = self.take(name)
        if value is not None and float(value) != int(value):
            self.refuse(name, f"is {value:g}: only whole numbers can be given")
        return int(value or 0)

    def close(self, framework: Framework, carried_otherwise: Mapping[str, str]) -> dict[str, str]:
        """What no option carries, with the reason. Raises SpecError for all that the framework cannot do."""
        reasons = {**NOT_CARRIED, **carried_otherwise}
        rest = [name for name in self.values if name not in self.taken and not self._neutral(name)]
        for name in rest:
            if name not in reasons:
                self.refuse(name, f"is {_shown(self.values[name])}: {framework.name} has no option for it")
        if self.refusals:
            lines = "".join(f"\n  {name} {why}" for name, why in self.refusals)
            count = "" if len(self.refusals) == 1 else f" ({len(self.refusals)} reasons)"
            raise SpecError(
                f"{framework.name} cannot run this plan{count}; nothing is written. Change the fields with --set, or choose "
                f"another target:{lines}",
                field=self.refusals[0][0],
            )
        taken = self.taken - set(carried_otherwise)
        noted = [name for name in reasons if name in self.values and name not in taken and not self._neutral(name)]
        return {name: reasons[name] for name in sorted(noted, key=list(self.values).index)}

    def _neutral(self, name: str) -> bool:
        value = self.values[name]
        if value is not None and name in NEUTRAL:
            return bool(value == NEUTRAL[name])
        return value is None or value is False or value in (0, "", (), [], {})


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def asked(plan: Plan) -> Asked:
    """The effective fields of a plan: presets, defaults and the stack's settings filled in, and nothing that is not used."""
    problem = plan.problem
    spec, structure = problem.spec, problem.structural()
    values: dict[str, Any] = {}
    resolved = plan.resolved()
    for name in ("name", "input"):
        values[name] = resolved.get(name)
    model_fields(values, spec.model)
    _training(values, spec, problem.stack)
    _layout(values, spec.layout, structure, problem.stack)
    _software(values, spec, problem.stack, structure["recipe"])
    for name in schema.Cluster.model_fields:
        values[f"cluster.{name}"] = resolved["cluster"].get(name)
    profile = problem.profile
    ranks = spec.cluster.accelerators * profile.ranks_per_accelerator
    per_node = int(profile.node.accelerators_per_node.value) * profile.ranks_per_accelerator
    kinds = tuple(kind.startswith("moe") for kind in resolve.layer_kinds(spec.model))
    return Asked(values, structure["pipeline"].stages, profile, ranks, min(per_node, ranks), problem.stack.dropout, kinds)


def model_fields(values: dict[str, Any], model: schema.Model) -> None:
    """The effective fields of a model, under `model.`."""
    for name in schema.Model.model_fields:
        value = getattr(model, name)
        if isinstance(value, schema.Section):
            for inner in type(value).model_fields:
                values[f"model.{name}.{inner}"] = getattr(value, inner)
        elif name not in ("preset", "hf"):  # their fields are filled in
            values[f"model.{name}"] = value
    values["model.kv_heads"] = None if model.mla else model.kv_heads or model.heads
    values["model.head_dim"] = None if model.mla else model.head_dim or model.hidden // model.heads
    if model.positions != "learned":
        values["model.max_positions"] = None  # only a learned table has rows
    if moe := model.moe:
        values["model.moe.shared_expert_ffn"] = (moe.shared_expert_ffn or moe.shared_experts * moe.expert_ffn) or None
        values["model.moe.shared_experts"] = moe.shared_experts or (1 if moe.shared_expert_ffn else 0)
        if moe.dense_layers == 0 and moe.every == 1:
            values["model.ffn"] = None  # no layer is dense


def _training(values: dict[str, Any], spec: schema.Spec, stack: stacks.Stack) -> None:
    training = spec.training
    values["training.sequence_length"] = training.sequence_length
    values["training.global_batch_sequences"] = training.global_batch_sequences
    precision = resolve.precision_of(spec, stack)[1]
    for name in schema.PrecisionSpec.model_fields:
        values[f"training.precision.{name}"] = getattr(precision, name)
    optimizer = training.optimizer
    optimizer = schema.Optimizer(name=optimizer) if isinstance(optimizer, str) else optimizer
    values["training.optimizer.name"] = optimizer.name
    steps = optimizer.newton_schulz_steps if optimizer.name == "muon" else None
    values["training.optimizer.newton_schulz_steps"] = steps
    values["training.tokens"] = training.tokens
    for name in schema.Packing.model_fields:
        values[f"training.packing.{name}"] = getattr(training.packing, name, None)


def _layout(values: dict[str, Any], layout: schema.Layout, structure: Mapping[str, Any], stack: stacks.Stack) -> None:
    for name in schema.Layout.model_fields:
        if name not in ("recompute", "offload", "overlap"):
            values[f"layout.{name}"] = getattr(layout, name)
    for name in schema.Offload.model_fields:
        values[f"layout.offload.{name}"] = getattr(layout.offload, name)
    recompute = structure["recompute"]
    values["layout.recompute.granularity"] = recompute.granularity
    values["layout.recompute.modules"] = tuple(sorted(recompute.modules))
    fraction = layout.recompute.fraction if isinstance(layout.recompute, schema.Recompute) else 1.0
    values["layout.recompute.fraction"] = fraction if recompute.granularity != "none" else None
    tp, cp, ep, dp = layout.tp or 1, layout.cp, layout.ep, layout.dp or 1
    values["layout.cp_style"] = structure["cp_style"] if cp > 1 else None
    values["layout.sequence_parallel"] = bool(layout.sequence_parallel) and tp > 1
    stages = structure["pipeline"].stages
    if layout.stages is None and stages.source == "balanced":
        values["layout.stages"] = stages.layout()  # counts that no framework would choose by itself
    moe = any(value.moe for name, value in structure.items() if name.startswith("kind_spec["))
    values["layout.etp"] = layout.etp if moe else None
    sharded = layout.sharding in ("zero3", "hsdp")
    values["layout.reshard_after_forward"] = layout.reshard_after_forward if sharded else None
    values["layout.prefetch"] = (layout.prefetch is not False) if sharded else None
    values["layout.cuda_graphs"] = tuple(sorted(layout.cuda_graphs or ()))
    applies = {
        "tp": tp > 1 and values["layout.sequence_parallel"], "cp": cp > 1, "ep": ep > 1, "dp_gradients": dp * cp > 1,
        "dp_parameters": dp * cp > 1 and layout.sharding != "none", "pp": layout.vpp > 1,
    }  # fmt: skip
    for name, does in applies.items():
        values[f"layout.overlap.{name}"] = getattr(stack.overlap, name) if does else None


def _software(values: dict[str, Any], spec: schema.Spec, stack: stacks.Stack, recipe: stacks.Recipe) -> None:
    software = spec.software
    narrow = recipe.operand_B < 2.0
    values |= {
        "software.stack": software.stack,
        "software.date": software.date,
        "software.attention_kernel": stack.attention_kernel,
        "software.moe_dispatcher": stack.moe_dispatcher if spec.model.moe else None,
        "software.compile": stack.compile,
        "software.launch_blocking": stack.launch_blocking,
        "software.fused_cross_entropy": stack.fused_cross_entropy,
        "software.fused_weight_gradient": stack.fused_weight_gradient,
        "software.low_precision_parameters": stack.low_precision_parameters if narrow else None,
        "software.narrow_activations": stack.narrow_activations if narrow else None,
        "software.gradient_dtype": software.gradient_dtype,
        "software.host_layer_s": None if software.host_layer_s is None else f"{software.host_layer_s!r} s",
    }
