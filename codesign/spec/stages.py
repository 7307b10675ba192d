"""Which layers every pipeline stage holds: Megatron's layout strings, explicit first and last counts, or balanced.

Virtual stages are numbered along the model. Stage s is chunk s // pp of rank s % pp (Megatron's order); in a V
(zb-v, dualpipe-v: two chunks a rank) the second chunk runs back, stage 2 pp - 1 - r on rank r.

The language of the strings is that of Megatron-LM's `--pipeline-model-parallel-layout`
(megatron/core/transformer/pipeline_parallel_layer_layout.py): `E` embedding, `t` decoder layer, `m` multi-token
prediction layer, `L` loss (output head), `|` between stages; `x*n` repeats one character, `(...)*n` a group, groups do
not nest; commas mean nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from codesign.errors import SpecError

FIELD = "layout.stages"
LETTERS = {"E": "embedding", "t": "decoder layer", "m": "multi-token prediction layer", "L": "loss"}
MAX_STAGES = 100_000  # a string that unrolls to more characters than this is a mistake, not a model


@dataclass(frozen=True)
class Chunk:
    """One virtual stage: decoder layers by kind, and what else it holds. `first_layer` is the index in the model."""

    counts: Mapping[str, int] = field(hash=False)
    first_layer: int = 0
    embedding: bool = False
    head: bool = False
    mtp: int = 0

    @property
    def layers(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Stages:
    """`chunks[rank][chunk]`; `source` says where the assignment comes from: layout, first-last, even or balanced."""

    chunks: tuple[tuple[Chunk, ...], ...]
    source: Literal["layout", "first-last", "even", "balanced"]

    @property
    def pp(self) -> int:
        return len(self.chunks)

    @property
    def vpp(self) -> int:
        return len(self.chunks[0])

    def counts(self, rank: int) -> dict[str, int]:
        """Decoder layers of one rank by kind, all its chunks together; kinds in the order of the model."""
        total: Counter[str] = Counter()
        for chunk in self.chunks[rank]:
            total.update(chunk.counts)
        return dict(total)

    def embedding(self, rank: int) -> bool:
        return any(chunk.embedding for chunk in self.chunks[rank])

    def head(self, rank: int) -> bool:
        return any(chunk.head for chunk in self.chunks[rank])

    def mtp(self, rank: int) -> int:
        return sum(chunk.mtp for chunk in self.chunks[rank])

    def layout(self) -> str:
        """The stages as a layout string; equal neighbours become one group."""
        texts = [
            "E" * chunk.embedding + "t" * chunk.layers + "m" * chunk.mtp + "L" * chunk.head for chunk in self.in_model_order()
        ]
        runs = [(text, len(list(run))) for text, run in groupby(texts[:-1])]
        return "".join(f"({text}|)*{count}" if count > 1 else f"{text}|" for text, count in runs) + texts[-1]

    def in_model_order(self, *, v_shaped: bool = False) -> tuple[Chunk, ...]:
        """The virtual stages along the model."""
        pp = self.pp
        return tuple(
            self.chunks[_rank_of(stage, pp, v_shaped)][stage // pp] for stage in range(pp * self.vpp)
        )


def assign(
    kinds_of_layers: Sequence[str],
    pp: int,
    vpp: int,
    *,
    layout: str | None = None,
    first: int | None = None,
    last: int | None = None,
    mtp_layers: int = 0,
    v_shaped: bool = False,
    embedding_cost_layers: float = 1.0,
    head_cost_layers: float = 1.0,
) -> Stages:
    """Put every decoder layer, the embedding, the head and the MTP layers on the pp * vpp virtual stages.

    - `layout`: a Megatron string, taken as it stands.
    - `first`, `last`: layers of the first and last rank (Megatron's `--decoder-first-pipeline-num-layers`,
      `--decoder-last-pipeline-num-layers`); the other ranks share the rest evenly, and every rank's chunks are even, or
      it is refused.
    - otherwise: even where pp * vpp divides the layers (Megatron's rule). Where it does not, the integer counts for
      which the slowest rank has least to do, the embedding and the head counted as that many layers and an MTP layer as
      one layer and one head; among those the second slowest, and so on; of equals the earlier rank takes the layer.
      Inside a rank the same among its chunks. The default of one layer each is the weight of Megatron-LM's
      `--account-for-embedding-in-pipeline-split` and `--account-for-loss-in-pipeline-split`.

    The embedding is on the first virtual stage, the head and the MTP layers on the last one.
    """
    if pp < 1 or vpp < 1:
        raise SpecError(f"pp {pp} and vpp {vpp} must be at least 1", field="layout.pp")
    if v_shaped and vpp != 2:
        raise SpecError(f"a V-shaped schedule has two stages a rank: vpp must be 2, not {vpp}", field="layout.vpp")
    stages, layers = pp * vpp, len(kinds_of_layers)
    if layout is not None:
        for name, value in (("first_stage_layers", first), ("last_stage_layers", last)):
            if value is not None:
                raise SpecError(f"layout.{name} cannot be set beside layout.stages: the string says it", field=FIELD)
        letters = parse_layout(layout, pp, vpp, layers=layers, mtp_layers=mtp_layers)
        return _stages([Counter(s) for s in letters], kinds_of_layers, pp, vpp, v_shaped, "layout")
    source: Literal["first-last", "even", "balanced"]
    if first is not None or last is not None:
        per_stage = _first_last(layers, pp, vpp, first, last, v_shaped)
        source = "first-last"
    elif layers % stages == 0:
        per_stage = [layers // stages] * stages
        source = "even"
    else:
        extra = [0.0] * stages
        extra[0] += embedding_cost_layers
        extra[-1] += head_cost_layers + mtp_layers * (1.0 + head_cost_layers)
        per_stage = _balanced(layers, pp, vpp, extra, v_shaped)
        source = "balanced"
    held = [Counter({"t": n}) for n in per_stage]
    held[0]["E"] += 1
    held[-1]["L"] += 1
    held[-1]["m"] += mtp_layers
    return _stages(held, kinds_of_layers, pp, vpp, v_shaped, source)


def _rank_of(stage: int, pp: int, v_shaped: bool) -> int:
    return 2 * pp - 1 - stage if v_shaped and stage >= pp else stage % pp


def _stages(
    held: Sequence[Counter[str]],
    kinds: Sequence[str],
    pp: int,
    vpp: int,
    v_shaped: bool,
    source: Literal["layout", "first-last", "even", "balanced"],
) -> Stages:
    ranks: list[list[Chunk]] = [[] for _ in range(pp)]
    at = 0
    for stage, what in enumerate(held):
        here = kinds[at : at + what["t"]]
        chunk = Chunk(dict(Counter(here)), at, what["E"] > 0, what["L"] > 0, what["m"])
        ranks[_rank_of(stage, pp, v_shaped)].append(chunk)
        at += what["t"]
    return Stages(tuple(tuple(chunks) for chunks in ranks), source)


# ---------------------------------------------------------------------------------------------------- without a string


def _first_last(layers: int, pp: int, vpp: int, first: int | None, last: int | None, v_shaped: bool) -> list[int]:
    """Layers of every virtual stage, with the first and last rank given and the others even."""
    where = "layout.first_stage_layers" if first is not None else "layout.last_stage_layers"
    if v_shaped:
        raise SpecError("in a V the first rank is also the last: write layout.stages instead", field=where)
    given = {rank: n for rank, n in ((0, first), (pp - 1, last)) if n is not None}
    named = " and ".join(
        f"{name} {n}" for name, n in (("first_stage_layers", first), ("last_stage_layers", last)) if n is not None
    )
    if pp == 1:
        raise SpecError(f"{named}: pp 1 has one stage with all {layers} layers: leave it out", field=where)
    rest, ranks = layers - sum(given.values()), pp - len(given)
    if rest < 0 or (ranks == 0 and rest):
        raise SpecError(f"{named} do not add up: the model has {layers} layers on pp {pp}", field=where)
    if ranks and rest % ranks:
        raise SpecError(
            f"{named}: the other {rest} layers are not divisible by the other {ranks} ranks; try counts that leave "
            f"{rest - rest % ranks} or {rest - rest % ranks + ranks}, or write layout.stages",
            field=where,
        )
    per_rank = [given.get(rank, rest // ranks if ranks else 0) for rank in range(pp)]
    for rank, n in enumerate(per_rank):
        if n % vpp:
            raise SpecError(
                f"{named}: the {n} layers of rank {rank} are not divisible by vpp {vpp}; try another count, or write "
                "layout.stages",
                field=where,
            )
    return [per_rank[stage % pp] // vpp for stage in range(pp * vpp)]


def _balanced(layers: int, pp: int, vpp: int, extra: Sequence[float], v_shaped: bool) -> list[int]:
    """Integer layers of every virtual stage; `extra`: what a stage has to do besides, in layers."""
    members: list[list[int]] = [[] for _ in range(pp)]
    for stage in range(pp * vpp):
        members[_rank_of(stage, pp, v_shaped)].append(stage)
    per_rank = _fill(layers, [sum(extra[s] for s in mine) for mine in members])
    per_stage = [0] * (pp * vpp)
    for mine, n in zip(members, per_rank, strict=True):
        for stage, count in zip(mine, _fill(n, [extra[s] for s in mine]), strict=True):
            per_stage[stage] = count
    return per_stage


def _fill(items: int, loads: Sequence[float]) -> list[int]:
    """How many of `items` equal, indivisible layers each bin takes, so that the fullest bin is as low as possible.

    One by one to the bin that is lowest afterwards, the first of equals: exact for equal items (no other assignment has
    a lower fullest bin, nor, with that, a lower second fullest).
    """
    taken = [0] * len(loads)
    bins = [(load, at) for at, load in enumerate(loads)]
    heapq.heapify(bins)
    for _ in range(items):
        at = bins[0][1]
        taken[at] += 1
        heapq.heapreplace(bins, (loads[at] + taken[at], at))
    return taken


# ---------------------------------------------------------------------------------------------------- layout strings


@dataclass(frozen=True)
class _Letter:
    text: str
    position: int  # one-based, in the string as written


def parse_layout(
    text: str, pp: int, vpp: int, *, layers: int | None = None, mtp_layers: int | None = None
) -> list[str]:
    """The letters of each of the pp * vpp virtual stages, along the model.

    Refuses with the position in the string, as Megatron-LM does: unknown characters; other than pp * vpp stages; the
    embedding not first, the loss not last, either not exactly once; a number of decoder layers other than `layers` or
    of MTP layers other than `mtp_layers`; MTP layers before a decoder layer, on several stages, or elsewhere than on
    the last chunk of their rank.
    """
    letters = _unrolled(text)
    end = len(text) + 1
    stages: list[list[_Letter]] = [[]]
    bars = [0]
    for letter in letters:
        if letter.text == "|":
            stages.append([])
            bars.append(letter.position)
        else:
            stages[-1].append(letter)
    if len(stages) != pp * vpp:
        surplus = bars[pp * vpp] if len(stages) > pp * vpp else end
        raise _wrong(text, surplus, f"{len(stages)} stages, but pp {pp} * vpp {vpp} needs {pp * vpp}")
    flat = [letter for stage in stages for letter in stage]
    for symbol, at, where in (("E", 0, "first"), ("L", -1, "last")):
        found = [letter for letter in flat if letter.text == symbol]
        name = f"{LETTERS[symbol]} {symbol!r}"
        if not found:
            raise _wrong(text, 1 if at == 0 else end, f"no {name}: it must come {where}")
        if len(found) > 1:
            raise _wrong(text, found[1].position, f"{len(found)} times {name}: it must be there once")
        if flat[at] != found[0]:
            raise _wrong(text, found[0].position, f"the {name} must come {where}")
    _check_count(text, flat, "t", layers, "the model has", end)
    _check_count(text, flat, "m", mtp_layers, "model.mtp_layers is", end)
    _check_mtp(text, stages, pp, vpp)
    return ["".join(letter.text for letter in stage) for stage in stages]


def count_stages(text: str) -> int:
    """How many virtual stages a string has. Raises SpecError where it cannot be unrolled."""
    return 1 + sum(letter.text == "|" for letter in _unrolled(text))


def _check_count(text: str, flat: Sequence[_Letter], symbol: str, wanted: int | None, says: str, end: int) -> None:
    found = [letter for letter in flat if letter.text == symbol]
    if wanted is None or len(found) == wanted:
        return
    at = found[wanted].position if len(found) > wanted else end
    raise _wrong(text, at, f"{len(found)} {LETTERS[symbol]}s {symbol!r}, but {says} {wanted}")


def _check_mtp(text: str, stages: Sequence[Sequence[_Letter]], pp: int, vpp: int) -> None:
    holders = [i for i, stage in enumerate(stages) if any(letter.text == "m" for letter in stage)]
    if not holders:
        return
    first = next(letter for letter in stages[holders[0]] if letter.text == "m")
    after = [letter for stage in stages[holders[0] :] for letter in stage]
    late = next((letter for letter in after[after.index(first) :] if letter.text == "t"), None)
    if late is not None:
        raise _wrong(text, late.position, "decoder layers must come before multi-token prediction layers")
    if len(holders) > 1:
        other = next(letter for letter in stages[holders[1]] if letter.text == "m")
        raise _wrong(text, other.position, "all multi-token prediction layers must be on one stage")
    if holders[0] // pp != vpp - 1:
        raise _wrong(text, first.position, "multi-token prediction layers must be on the last chunk of their rank")


def _unrolled(text: str) -> list[_Letter]:
    """The string without commas and repetitions; every letter keeps the position where it was written."""
    marks = [_Letter(c, i) for i, c in enumerate(text, 1) if c != ","]
    letters: list[_Letter] = []
    group_start: int | None = None  # index in `letters` of the open group
    opened_at = 0
    at = 0
    while at < len(marks):
        mark = marks[at]
        if mark.text == "(":
            if group_start is not None:
                raise _wrong(text, mark.position, "groups do not nest")
            group_start, opened_at = len(letters), mark.position
            at += 1
            continue
        if mark.text == ")":
            if group_start is None:
                raise _wrong(text, mark.position, "')' without '('")
            unit = letters[group_start:]
            del letters[group_start:]
            group_start = None
            if not unit:
                raise _wrong(text, mark.position, "an empty group")
            if at + 1 >= len(marks) or marks[at + 1].text != "*":
                raise _wrong(text, mark.position, "a group must be followed by '*' and a number")
        elif mark.text in LETTERS or mark.text == "|":
            unit = [mark]
        elif mark.text == "*":
            raise _wrong(text, mark.position, "'*' must follow one character or a group")
        else:
            raise _wrong(
                text, mark.position, f"unknown character {mark.text!r}; allowed: E t m L | ( ) * digits and commas"
            )
        at += 1
        times = 1
        if at < len(marks) and marks[at].text == "*":
            star, digits = marks[at], ""
            at += 1
            while at < len(marks) and marks[at].text in "0123456789":
                digits += marks[at].text
                at += 1
            if not digits:
                raise _wrong(text, star.position, "'*' must be followed by a number")
            times = int(digits[:9])
            if len(digits) > 9 or times * len(unit) + len(letters) > MAX_STAGES:
                raise _wrong(text, star.position, f"more than {MAX_STAGES:,} characters when written out")
        letters += unit * times
    if group_start is not None:
        raise _wrong(text, opened_at, "'(' is never closed")
    return letters


def _wrong(text: str, position: int, message: str) -> SpecError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return SpecError(f"{FIELD} {shown!r}, character {position}: {message}", field=FIELD)
