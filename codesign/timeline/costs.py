"""What one pass of one virtual stage consists of, read from the plan: the parts of a forward pass, an input gradient and
a weight gradient, what is exposed in them and what runs beside them.

Over all passes of the pacing rank the parts add up to the parts of the step: every `category` is the name of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign.laws import pipeline as pipelines
from codesign.planner import Plan
from codesign.quantities.communication import repeated
from codesign.quantities.step import LOOK_UP_SHARE
from codesign.spec.stages import Chunk

COMPUTE = "compute"
HIDDEN = " (hidden)"
GRADIENTS, PARAMETERS, SHARDED = "gradients", "parameters", "sharded parameters and gradients"
PIPELINE, DATA = "pipeline", "data parallel"
OFFLOAD = "off-load"
_DIMENSIONS = (("tensor parallel", "tp"), ("context parallel", "cp"), ("expert parallel", "ep"))


class Part(NamedTuple):
    """Time on one lane: `category` is a part of the step, or ends in "hidden" for what runs beside compute."""

    lane: str
    category: str
    name: str
    s: float


@dataclass(frozen=True)
class Cost:
    """One pass: `parts` run one after the other, `beside` run next to them."""

    parts: tuple[Part, ...]
    beside: tuple[Part, ...]

    @property
    def total_s(self) -> float:
        return sum(part.s for part in self.parts)


class Values:
    """Numbers of a plan by name: one of them, or one for each pipeline rank."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.structure = plan.problem.structural()
        self.kinds = plan.problem.kinds

    def one(self, name: str, kind: str | None = None) -> float:
        return float(np.ravel(self.plan.values[name, kind])[0])

    def ranks(self, name: str) -> NDArray[np.float64]:
        pp = self.structure["pipeline"].pp
        return np.broadcast_to(np.ravel(self.plan.values[name, None]), (pp,))

    def head_gemm_s(self, at: int) -> float:
        """One of the head's three products: forward, input gradient, weight gradient."""
        return float(np.ravel(self.plan.values["head_gemm_s", None][at])[0])


def costs(values: Values) -> list[dict[str, Cost]]:
    """For every virtual stage along the model, the cost of its F, B, W and BW (B and W in one piece)."""
    pipe = values.structure["pipeline"]
    v_shaped = pipe.schedule in pipelines.V_SHAPED
    chunks = pipe.stages.in_model_order(v_shaped=v_shaped)
    found = []
    for stage, chunk in enumerate(chunks):
        rank = 2 * pipe.pp - 1 - stage if v_shaped and stage >= pipe.pp else stage % pipe.pp
        forward = _offloaded(values, rank, "forward", _forward(values, chunk))
        backward = _offloaded(values, rank, "backward", _input_gradient(values, chunk), _weight_gradient(values, chunk))
        weight = _weight_gradient(values, chunk)
        hand_over, gradients = _handed_over(values), _beside_each_backward(values, rank)
        after = _after_each_backward(values)
        stored, loaded = _offloading(values, rank, "forward", forward), _offloading(values, rank, "backward", backward, weight)
        f = _cost([*forward, hand_over], [*_hidden(values, chunk, "forward"), stored, *_sent(values, stage, +1)])
        beside = [*_hidden(values, chunk, "backward"), loaded, gradients, *_sent(values, stage, -1)]
        b = _cost([*backward, hand_over, *after], beside)
        w = _cost(weight, [])
        both = _cost([*_merged(backward, weight), hand_over, *after], beside)
        found.append({"F": f, "B": b, "W": w, "BW": both})
    return found


def own_stages(values: Values, rank: int) -> tuple[list[int], float]:
    """The virtual stages of a rank, in the order of the model, and the share of the micro-batches that passes each of them."""
    pipe = values.structure["pipeline"]
    if pipe.schedule == "dualpipe":  # half of all micro-batches on the stage of either direction
        return [rank, pipe.pp - 1 - rank], 0.5
    last = 2 * pipe.pp - 1 - rank if pipe.schedule in pipelines.V_SHAPED else pipe.pp + rank
    return [rank, *range(last, pipe.pp * pipe.vpp, pipe.pp)], 1.0


def filling_s(values: Values) -> float:
    """Hand-overs that are exposed while the pipeline fills and drains: what `pp_exposed_s` holds at least."""
    pp = values.structure["pipeline"].pp
    return min(2.0 * (pp - 1.0) * values.one("pp_hop_s"), values.one("pp_exposed_s")) if pp > 1 else 0.0


def fully_sharded_alone(values: Values) -> bool:
    """Whether each micro-batch gathers and scatters its parameters with no pipeline around it."""
    return values.structure["sharding"].kind in ("zero3", "hsdp") and values.structure["pipeline"].pp == 1


def _cost(parts: list[Part], beside: list[Part]) -> Cost:
    return Cost(tuple(p for p in parts if p.s > 0.0), tuple(p for p in beside if p.s > 0.0))


def _merged(one: list[Part], other: list[Part]) -> list[Part]:
    """`one` with the seconds of `other` added to the parts of the same category."""
    extra = {part.category: part.s for part in other}
    return [part._replace(s=part.s + extra.get(part.category, 0.0)) for part in one]


def _layers(values: Values, chunk: Chunk, name: str) -> float:
    return sum(chunk.counts.get(kind, 0) * values.one(name, kind) for kind in values.kinds)


def _forward(values: Values, chunk: Chunk) -> list[Part]:
    ends = LOOK_UP_SHARE * chunk.embedding * values.one("embedding_s") + chunk.head * values.one("head_forward_s")
    ends += chunk.mtp * values.one("mtp_module_forward_s")
    host = _layers(values, chunk, "layer_forward_s") - _layers(values, chunk, "layer_device_forward_s")
    return [
        Part(COMPUTE, "gemm_total_s", "matrix products", _layers(values, chunk, "layer_gemm_forward_s")),
        Part(COMPUTE, "attention_total_s", "attention", _layers(values, chunk, "attention_forward_s")),
        Part(COMPUTE, "elementwise_total_s", "elementwise", _layers(values, chunk, "layer_elementwise_forward_s")),
        Part(COMPUTE, "ends_total_s", "embedding, head, loss", ends),
        Part(COMPUTE, "host_excess_s", "waits for the host", max(host, 0.0)),
        *_exposed(values, chunk, "forward"),
    ]


def _input_gradient(values: Values, chunk: Chunk) -> list[Part]:
    weight = {part.category: part.s for part in _weight_gradient(values, chunk)}
    ends = (1.0 - LOOK_UP_SHARE) * chunk.embedding * values.one("embedding_s") + chunk.head * values.one("head_backward_s")
    ends += chunk.mtp * values.one("mtp_module_backward_s")
    gemm = _layers(values, chunk, "layer_gemm_backward_s") - weight["gemm_total_s"]
    host = _layers(values, chunk, "layer_backward_s") - _layers(values, chunk, "layer_device_backward_s")
    return [
        Part(COMPUTE, "recompute_total_s", "recompute", _layers(values, chunk, "layer_recompute_s")),
        Part(COMPUTE, "ends_total_s", "embedding, head, loss", max(ends - weight["ends_total_s"], 0.0)),
        Part(COMPUTE, "gemm_total_s", "matrix products", gemm),
        Part(COMPUTE, "attention_total_s", "attention", _layers(values, chunk, "attention_backward_s")),
        Part(COMPUTE, "elementwise_total_s", "elementwise", _layers(values, chunk, "layer_elementwise_backward_s")),
        Part(
            COMPUTE, "overlap_slowdown_total_s", "slowed by communication beside",
            _layers(values, chunk, "layer_slowdown_s"),
        ),
        Part(COMPUTE, "host_excess_s", "waits for the host", max(host, 0.0)),
        *_exposed(values, chunk, "backward"),
    ]


def _weight_gradient(values: Values, chunk: Chunk) -> list[Part]:
    ends = chunk.head * values.head_gemm_s(2)
    if chunk.mtp:
        last = values.one("layer_gemm_weight_gradient_s", values.kinds[-1])
        ends += chunk.mtp * (last + values.one("mtp_projection_s") / 3.0 + values.head_gemm_s(2))
    return [
        Part(COMPUTE, "gemm_total_s", "matrix products", _layers(values, chunk, "layer_gemm_weight_gradient_s")),
        Part(COMPUTE, "ends_total_s", "embedding, head, loss", ends),
    ]


def _exposed(values: Values, chunk: Chunk, way: str) -> list[Part]:
    return [
        Part(lane, f"{short}_exposed_s", lane, _layers(values, chunk, f"{short}_{way}_exposed_s"))
        for lane, short in _DIMENSIONS
    ]


def _hidden(values: Values, chunk: Chunk, way: str) -> list[Part]:
    """Communication of the layers that runs beside their compute: all of it less what is exposed. What recompute repeats
    runs in the backward pass, as much of it exposed as in the forward pass."""
    found = []
    for lane, short in _DIMENSIONS:
        hidden_s = 0.0
        for kind, count in chunk.counts.items():
            hidden_s += count * _beside_s(values, kind, short, way)
            if way == "backward":
                again = repeated(short, values.structure["recompute"], values.structure[f"kind_spec[{kind}]"])
                share = again * values.plan.value("recompute_fraction") if again else 0.0
                hidden_s += count * share * _beside_s(values, kind, short, "forward")
        found.append(Part(lane + HIDDEN, f"{short}_hidden", lane, hidden_s))
    return found


def _beside_s(values: Values, kind: str, short: str, way: str) -> float:
    """Hidden communication of one layer in one direction."""
    if short != "cp":
        moved_s = values.one(f"{short}_layer_s", kind)
    elif values.structure["cp_style"] == "ring":  # keys and values; backward also their gradients
        moved_s = (1.0 if way == "forward" else 2.0) * (values.plan.value("cp") - 1.0) * values.one("cp_hop_s")
    else:
        return 0.0
    return max(moved_s - values.one(f"{short}_{way}_exposed_s", kind), 0.0)


def _offloaded(values: Values, rank: int, way: str, parts: list[Part], more: list[Part] | None = None) -> list[Part]:
    """The parts and, in proportion to them, what the rank waits for its off-load."""
    compute_s = values.ranks(f"rank_compute_{way}_s")[rank]
    waits_s = values.ranks(f"rank_{way}_s")[rank] - compute_s
    share = sum(part.s for part in [*parts, *(more or [])]) / compute_s if compute_s else 0.0
    return [*parts, Part(OFFLOAD, "offload_exposed_s", "waits for off-load", max(waits_s, 0.0) * share)]


def _offloading(values: Values, rank: int, way: str, parts: list[Part], more: list[Part] | None = None) -> Part:
    """Off-load that runs beside the parts of a pass, in proportion to them."""
    compute_s = values.ranks(f"rank_compute_{way}_s")[rank]
    hidden_s = min(values.ranks("rank_offload_s")[rank], compute_s)
    own_s = sum(part.s for part in [*parts, *(more or [])] if part.lane != OFFLOAD)
    return Part(OFFLOAD + HIDDEN, "offload_hidden", "off-load", hidden_s * own_s / compute_s if compute_s else 0.0)


def _handed_over(values: Values) -> Part:
    """The hand-over after a pass where the stack does not hide it: the same for every pass of a rank."""
    pipe = values.structure["pipeline"]
    passes = 2.0 * pipe.vpp * values.one("micro_batches")
    each = max(values.one("pp_exposed_s") - filling_s(values), 0.0) / passes
    return Part(PIPELINE, "pp_exposed_s", "hand-over", each)


def _sent(values: Values, stage: int, step: int) -> list[Part]:
    """The hand-over to the next stage where it is hidden."""
    pipe = values.structure["pipeline"]
    stages, turn = pipe.pp * pipe.vpp, pipe.pp - 1 if step > 0 else pipe.pp
    stays = pipe.schedule in pipelines.V_SHAPED and stage == turn
    if pipe.pp == 1 or stays or not 0 <= stage + step < stages or _handed_over(values).s > 0.0:
        return []
    return [Part(PIPELINE + HIDDEN, "pp_hidden", "hand-over", values.one("pp_hop_s"))]


def _beside_each_backward(values: Values, rank: int) -> Part:
    """Gradients (and, fully sharded, parameters) that move beside every backward pass, in equal shares."""
    reductions = values.one("gradient_reductions")
    passes = values.one("micro_batches") * values.structure["pipeline"].vpp
    if values.structure["sharding"].kind in ("zero3", "hsdp"):
        hidden = gradients_s(values, rank) + parameters_s(values, rank) - values.ranks("fsdp_exposed_s")[rank]
        return Part(SHARDED + HIDDEN, "dp_hidden", "gathers and reductions", float(max(hidden, 0.0)) / passes)
    hidden = gradients_s(values, rank) - values.ranks("dp_gradient_exposed_s")[rank]
    each = float(max(hidden, 0.0)) / passes if reductions > 1.0 else 0.0
    return Part(GRADIENTS + HIDDEN, "dp_hidden", "gradients", each)


def beside_all_passes(values: Values, rank: int) -> list[Part]:
    """What moves beside the passes of a rank once a step: parameters beside the first, gradients beside the last."""
    if values.structure["sharding"].kind in ("zero3", "hsdp"):
        return []  # beside every pass
    hidden = parameters_s(values, rank) - float(values.ranks("dp_parameter_exposed_s")[rank])
    found = [Part(PARAMETERS + HIDDEN, "dp_hidden", "parameters", hidden)]
    if values.one("gradient_reductions") <= 1.0:
        hidden = gradients_s(values, rank) - float(values.ranks("dp_gradient_exposed_s")[rank])
        found.append(Part(GRADIENTS + HIDDEN, "dp_hidden", "gradients", hidden))
    return [part for part in found if part.s > 0.0]


def _after_each_backward(values: Values) -> list[Part]:
    """Fully sharded and no pipeline: what every micro-batch exposes of its gathers and reductions."""
    if not fully_sharded_alone(values):
        return []
    each = 1.0 / values.one("micro_batches")
    return [
        Part(DATA, "dp_exposed_s", "gathers and reductions", values.ranks("fsdp_exposed_s")[0] * each),
        Part(DATA, "dp_exposed_s", "slowed by communication beside", values.ranks("fsdp_slowdown_s")[0] * each),
    ]


def gradients_s(values: Values, rank: int) -> float:
    """All reductions of a rank's gradients in a step, exposed or not."""
    return float(values.ranks("dp_gradient_s")[rank]) * values.one("gradient_reductions")


def parameters_s(values: Values, rank: int) -> float:
    """All gathers of a rank's parameters in a step, exposed or not."""
    return float(values.ranks("dp_parameter_s")[rank]) * values.one("parameter_gathers")
