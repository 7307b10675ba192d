"""The inputs that have a widget: which, in what order, and what the schema says of each. All others are in the YAML."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from codesign.app.state import State
from codesign.report import view
from codesign.spec import failure_rates, load, presets, profiles, schema, stacks
from codesign.spec.load import Document

AUTOMATIC = "automatic"  # how a null is shown: derived from the rest
_NOTHING = object()  # where a document holds no value, not even a null
_TOKENS = ((1e12, "T tokens"), (1e9, "B tokens"), (1e6, "M tokens"))
_OVERRIDE = "cluster.override."

# group -> field -> (label, help)
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Layout": {
        "layout.tp": ("Tensor (tp)", "Ranks that share every matrix product of a layer."),
        "layout.pp": ("Pipeline (pp)", "Pipeline ranks: each holds some of the layers."),
        "layout.vpp": ("Virtual (vpp)", "Model chunks a pipeline rank holds; above 1 is interleaving."),
        "layout.cp": ("Context (cp)", "Ranks that share one sequence."),
        "layout.ep": ("Experts (ep)", "Ranks that share the experts; reuses the ranks of data parallel."),
        "layout.dp": ("Data (dp)", "Left empty: accelerators / (tp x pp x cp)."),
        "layout.micro_batch": ("Micro-batch", "Sequences that pass through the pipeline together."),
        "layout.schedule": ("Schedule", "Order of forward and backward passes in the pipeline."),
        "layout.sharding": ("Sharding", "What data-parallel ranks share of the training state; zero3 is FSDP."),
        "layout.recompute": ("Recompute", "Activations that are computed again in the backward pass."),
        "layout.sequence_parallel": ("Sequence parallel", "Activations between tensor-parallel blocks are shared too."),
    },
    "Training": {
        "training.sequence_length": ("Sequence length", "Tokens of one sequence."),
        "training.global_batch_sequences": ("Global batch", "Sequences in one optimizer step, whole job."),
        "training.precision": ("Precision", "Of the matrix products."),
        "training.optimizer": ("Optimizer", "Sets the bytes of state a parameter needs."),
        "training.tokens": ("Tokens", "Of the whole run, for example 15.6 T tokens."),
    },
    "Model": {
        "model": ("Model", "A published model; its sizes can be changed below."),
        "model.layers": ("Layers", "Transformer layers."),
        "model.hidden": ("Hidden size", "Width of the residual stream."),
        "model.heads": ("Attention heads", "Query heads."),
        "model.kv_heads": ("Key-value heads", "Empty: as many as heads; 1 is multi-query attention."),
        "model.ffn": ("FFN width", "Of the dense layers."),
        "model.vocab": ("Vocabulary", "Rows of the embedding."),
        "model.moe.experts": ("Experts", "Routed experts of a layer."),
        "model.moe.top_k": ("Experts a token", "Routed experts that each token visits."),
        "model.moe.expert_ffn": ("Expert width", "FFN width of one expert."),
    },
    "Cluster": {
        "cluster.profile": ("Accelerator", "A shipped hardware profile."),
        "cluster.accelerators": ("Accelerators", "In the whole job."),
        "cluster.fabric": ("Scale-out fabric", "Automatic: the profile's own network."),
        "cluster.override.scale_out.nic_Bps": ("Network adapter", "Rate of one accelerator, for example 400 Gb/s."),
        "cluster.override.scale_up.link_Bps": ("Scale-up link", "Rate of one accelerator, for example 450 GB/s."),
    },
    "Software": {
        "software.stack": ("Stack", "A named training stack."),
        "software.attention_kernel": ("Attention kernel", "Automatic: as the stack does."),
        "software.moe_dispatcher": ("Expert dispatcher", "Automatic: as the stack does."),
    },
    "Run": {
        "run.start": ("First day", "For example 2027-03-01."),
        "run.price_per_hour": ("Price", "Of one accelerator-hour."),
        "run.failures.rates": ("Failure rates", "Where the rates of failures come from."),
        "run.checkpoint.kind": ("Checkpoints", "How a checkpoint is written."),
        "run.checkpoint.storage_Bps": ("Checkpoint storage", "Write rate of the whole job, for example 200 GB/s."),
        "run.policy": ("After a failure", "What the job does without a spare."),
        "run.spares.quantile": ("Spares", "Share of the time in which enough spares stand ready."),
    },
    # a star stands for each entry of a list
    "Sites": {
        "sites.*.count": ("Sites alike", "Equal sites of this kind."),
        "sites.*.cluster.accelerators": ("Accelerators", "Of one site; empty: as in the cluster."),
        "sites.*.cluster.profile": ("Accelerator", "Automatic: as in the cluster."),
        "links.*.bandwidth": ("Bandwidth", "Per direction, for example 10 Tb/s."),
        "links.*.route_km": ("Length, km", "Of the fibre; light takes 4.9 us a km."),
        "links.*.round_trip": ("Round trip", "Measured, for example 30 ms."),
        "links.*.loss": ("Packet loss", "Share of the packets that are lost."),
        "sync.inner_steps": ("Inner steps (H)", "Steps between two exchanges of outer gradients."),
    },
}
# Names that a text field may hold, beyond what the schema knows.
_NAMES: Mapping[str, Any] = {
    "model": presets.names, "cluster.profile": profiles.names, "cluster.fabric": profiles.fabric_names,
    "software.stack": stacks.names, "run.failures.rates": failure_rates.names, "sites.*.cluster.profile": profiles.names,
}
_OPTIONAL = ("cluster.fabric", "sites.*.cluster.profile")
_MOST_ENTRIES = 8  # of a list that have widgets
# Shown only where the spec writes them: what they say can be said otherwise, or not at all.
_WRITTEN = ("links.*.route_km", "links.*.round_trip", "sync.inner_steps")
# A change of one of these leaves the field to be derived, where the spec holds a value that was right before.
_FREES = {
    **dict.fromkeys(("layout.tp", "layout.pp", "layout.cp", "cluster.accelerators"), ("layout.dp",)),
    "cluster.profile": ("cluster.fabric", "cluster.override"),
}


@dataclass(frozen=True)
class Field:
    """One input: `kind` is choice, count, number, flag or text; `optional`: may be left to be derived."""

    path: str
    label: str
    help: str
    kind: str
    optional: bool
    options: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def takes(self, value: Any) -> bool:
        """Whether the widget can show this value; what it cannot is shown as text."""
        if value is None:
            return self.optional
        if self.kind == "choice":
            return value in self.options
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str | int | float) and not isinstance(value, bool)
        number = isinstance(value, int if self.kind == "count" else int | float) and not isinstance(value, bool)
        return number and (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def shown(found: Document) -> dict[str, list[Field]]:
    """The fields of each group that belong to this spec: those of the run, of experts and of sites only where it has them."""
    groups = {
        name: [field(path) if path == one else _of_entry(one, path, found)
               for one in paths for path in _entries(one, found) if _belongs(path, found)]
        for name, paths in GROUPS.items()
    }
    return {name: members for name, members in groups.items() if members}


def _entries(pattern: str, found: Document) -> Iterator[str]:
    """A path for each entry of the list that a star stands for; the path itself without one."""
    name, star, _ = pattern.partition(".*.")
    if not star:
        yield pattern
        return
    listed = found.data.get(name)
    for at in range(min(len(listed), _MOST_ENTRIES) if isinstance(listed, list) else 0):
        yield pattern.replace("*", str(at))


def _of_entry(pattern: str, path: str, found: Document) -> Field:
    """The field of one entry, under the name of that entry."""
    name, at, *_ = path.split(".")
    entry = found.data[name][int(at)]
    ends = (entry.get("name") or entry.get("between") if isinstance(entry, dict) else None) or at
    whose = " - ".join(map(str, ends)) if isinstance(ends, list) else str(ends)
    one = field(pattern)
    return replace(one, path=path, label=f"{one.label}: {view.plain(whose[:40])}")


def _belongs(path: str, found: Document) -> bool:
    data = found.data
    if _starred(path) in _WRITTEN:
        return value_written(found, path)
    if path.startswith("run."):
        return isinstance(data.get("run"), dict)
    model = data.get("model")
    has_experts = isinstance(model, dict) and isinstance(model.get("moe"), dict)
    return has_experts or not path.startswith(("model.moe.", "layout.ep", "software.moe_"))


def _starred(path: str) -> str:
    """The path in GROUPS of the field of an entry."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


@functools.cache
def field(path: str) -> Field:
    """What the schema says of a field that has a widget."""
    label, told = next(paths[path] for paths in GROUPS.values() if path in paths)
    if path in _NAMES:
        return Field(path, label, told, "choice", path in _OPTIONAL, tuple(_NAMES[path]()))
    if path.startswith(_OVERRIDE):
        return Field(path, label, told, "text", True)
    forms = list(_forms(_node(path)))
    optional = any(form.get("type") == "null" for form in forms)
    choices = tuple(value for form in forms for value in _values(form))
    if choices:
        return Field(path, label, told, "choice", optional, choices)
    kinds = {"integer": "count", "number": "number", "boolean": "flag"}
    for form in forms:
        kind = kinds.get(form.get("type", ""))
        if kind and not any(other.get("type") == "string" for other in forms):
            return Field(path, label, told, kind, optional, (), form.get("minimum"), form.get("maximum"))
    return Field(path, label, told, "text", optional)


@functools.cache
def _schema() -> dict[str, Any]:
    return schema.Spec.model_json_schema()


def _forms(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The alternatives that a node of the schema allows, references followed."""
    if "$ref" in node:
        yield from _forms(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    elif "anyOf" in node or "oneOf" in node:
        for inner in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from _forms(inner)
    else:
        yield node


def _values(form: Mapping[str, Any]) -> tuple[str, ...]:
    return (form["const"],) if "const" in form else tuple(form.get("enum", ()))


def _node(path: str) -> Mapping[str, Any]:
    here: Mapping[str, Any] = _schema()
    for part in path.split("."):
        if part == "*":
            here = next(form["items"] for form in _forms(here) if "items" in form)
        else:
            here = next(form["properties"][part] for form in _forms(here) if part in form.get("properties", {}))
    return here


# ---------------------------------------------------------------------------------------------------- values


def value(found: Document, path: str) -> Any:
    """The value of a field in a document; the default of the schema where it is not written."""
    data: Any = found.data
    if path == "model":
        model = data.get("model")
        return model.get("preset") if isinstance(model, dict) else model
    inside = path.startswith(_OVERRIDE)
    parts = ["cluster", "override", path[len(_OVERRIDE):]] if inside else path.split(".")
    for at, part in enumerate(parts):
        if isinstance(data, str) and ".".join(parts[:at]) in load.SHORTHAND:
            return data if load.SHORTHAND[".".join(parts[:at])] == part else None
        data = _inner(data, part)
        if data is _NOTHING:
            return None if inside or _starred(path) in _NAMES else _node(_starred(path)).get("default")
    section = load.SHORTHAND.get(path)
    return data[section] if isinstance(data, dict) and set(data) == {section} else data


def text(value_: Any) -> str:
    """A widget's value as the text of a change."""
    if value_ is None:
        return "null"
    if isinstance(value_, bool):
        return "true" if value_ else "false"
    return f"{value_:.12g}" if isinstance(value_, float) else str(value_)


def section_text(value_: Mapping[str, Any]) -> str:
    """A section in one line, as YAML reads it."""
    return yaml.safe_dump(value_, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()


def shown_text(path: str, value_: Any) -> str:
    """A value as a text field shows it: numbers of tokens in words that are read back to the same number."""
    if load.QUANTITIES.get(path) == "tokens" and isinstance(value_, int | float):
        factor, name = next(((f, n) for f, n in _TOKENS if value_ >= f), (1.0, "tokens"))
        return f"{value_ / factor:.12g} {name}"
    return text(value_)


def edited(state: State, base: Document, path: str, new: Any) -> State:
    """The state after a widget changed: back at the base's value the change is gone, and what follows is derived anew."""
    old = value(base, path)
    back = text(new) in (text(old), shown_text(path, old))
    changed = state.change(path, None if back else text(new))
    frees = _FREES.get(path, ())
    leaders = [one for one, freed in _FREES.items() if frees and freed == frees]
    moved = any(one in dict(changed.changes) for one in leaders)
    for follower in frees:
        empty = "{}" if follower.endswith("override") else "null"
        given = dict(state.changes).get(follower)
        if not moved and given == empty:
            changed = changed.change(follower, None)
        elif moved and given is None and value_written(base, follower):
            changed = changed.change(follower, empty)
    return changed


def value_written(found: Document, path: str) -> bool:
    """Whether the document holds a value under this dotted name."""
    data: Any = found.data
    for part in path.split("."):
        data = _inner(data, part)
    return data is not _NOTHING and data not in (None, {})


def _inner(data: Any, part: str) -> Any:
    """What stands under a name in a section, or at a place in a list; _NOTHING where nothing does."""
    if isinstance(data, list):
        return data[int(part)] if part.isdigit() and int(part) < len(data) else _NOTHING
    return data.get(part, _NOTHING) if isinstance(data, dict) else _NOTHING
