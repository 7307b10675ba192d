"""Wastes inside the matrix products: tiles, waves, alignment, the vocabulary, small experts, the head size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from codesign.laws import alignment
from codesign.search import gemms
from codesign.search.counterfactual import Case
from codesign.search.gemms import Gemm
from codesign.search.waste import MODEL, TILE, Better, Finding, field_value, head_dim, kv_heads, nearest
from codesign.spec import resolve

NVIDIA = (*resolve.AMPERE, *resolve.HOPPER, *resolve.BLACKWELL)
FLASH = ("fa1", "fa2", "fa3")
GOOD_HEAD_DIMS = (64, 128)
QUANTISED = TILES, WAVES = "tile quantisation", "wave quantisation"


def _products(case: Case) -> list[Gemm]:
    return gemms.products(case.values, case.problem.kinds)


def _fields(case: Case, gemm: Gemm) -> tuple[str, str]:
    return gemm.fields(case.values["block"])


# ---------------------------------------------------------------------------------------------------- quantisation


def quantisation(case: Case) -> Iterator[Finding]:
    """Tiles that reach beyond the result, and last waves that leave multiprocessors idle, product by product."""
    basis = f"{MODEL}: kernels.tiles, kernels.waves_paid (op_fits section 2)"
    loss = f"{100 * case.scalar('wave_loss'):.0f} % of the empty part of the last wave is lost"
    for gemm in _products(case):
        if gemm.name == "head" and _padding(case):
            continue  # priced with the vocabulary
        waves_s, tiles_s = _quantised_s(case, gemm)
        off, wide = _off_tile(case, gemm), _fields(case, gemm)[0]
        why = f"{gemm}: the result is no whole number of tiles"
        if tiles_s > 0:
            yield Finding(TILES, off, field_value(case, off), why, tiles_s, basis, gemm=gemm)
        if waves_s > 0:
            yield Finding(WAVES, wide, field_value(case, wide), f"{gemm}: {loss}", waves_s, basis, gemm=gemm)


def _quantised_s(case: Case, gemm: Gemm) -> tuple[float, float]:
    """Seconds a step that waves and tiles of one product waste; they add up."""
    no_waves_s = case.step_with_s(gemms.without_waves(case.values, gemm))
    return case.step_s - no_waves_s, no_waves_s - case.step_with_s(gemms.without_tiles(case.values, gemm))


def _off_tile(case: Case, gemm: Gemm) -> str:
    """The field whose dimension is padded most."""
    wide, deep = _fields(case, gemm)
    rows = "layout.micro_batch" if gemm.groups > 1 else "training.sequence_length"
    padded = {field: -(-size // TILE) * TILE / size for field, size in ((wide, gemm.n), (deep, gemm.k), (rows, gemm.m))}
    return max(padded, key=lambda field: padded[field])


def with_sizes(case: Case, finding: Finding) -> Finding:
    """A finding of `quantisation` with the nearest sizes below and above that are rid of half of it."""
    gemm = finding.gemm
    assert gemm is not None

    def price_s(other: Case) -> float | None:
        same = next((one for one in _products(other) if one.name == gemm.name and one.kinds == gemm.kinds), None)
        return _quantised_s(other, same)[finding.waste == TILES] if same else None

    down, up = (nearest(case, finding.where, price_s, up=way) for way in (False, True))
    return replace(finding, down=down, up=up)


# ---------------------------------------------------------------------------------------------------- alignment


def misalignment(case: Case) -> Iterator[Finding]:
    """Rows that do not start on 128 bytes: n and k of every product but the vocabulary's."""
    slow = _slow_products(case)
    for field in sorted({field for field, _, _ in slow}):
        mine = [(gemm, aligned_B) for at, gemm, aligned_B in slow if at == field]
        worst_B = min(aligned_B for _, aligned_B in mine)
        names = ", ".join(dict.fromkeys(gemm.name for gemm, _ in mine))
        value = field_value(case, field)
        message = f"rows of {names} start on {worst_B:g} bytes only, 128 is best"
        if case.problem.profile.family not in NVIDIA:
            reason = f"{message}; no measurement on {case.problem.profile.name}"
            yield Finding("alignment", field, value, reason, None, "no source")
            continue
        if worst_B < alignment.LEAST_B and case.scalar("operand_B") < 2.0:
            reason = f"{message}; {_recipe(case)} products refuse less than 16 (cuBLAS, narrow precisions)"
            yield Finding("alignment", field, value, reason, None, "no source: the kernel refuses it")
            continue
        cost_s = _misaligned_s(case, field)
        sources = " ".join(dict.fromkeys(alignment.slowdown(aligned_B).source for _, aligned_B in mine))
        price_s = partial(_misaligned_s, field=field)
        down, up = (nearest(case, field, price_s, up=way) for way in (False, True))
        yield Finding("alignment", field, value, message, cost_s, sources, cost_s, down, up)


def _slow_products(case: Case) -> list[tuple[str, Gemm, float]]:
    """Products with a row that is not on 128 bytes: the field behind the worse of n and k, the product, the bytes."""
    element_B = case.scalar("operand_B")
    found = []
    for gemm in _products(case):
        if gemm.name == "head":
            continue
        sides = [
            (alignment.alignment_B(int(size), element_B), field)
            for size, field in zip((gemm.n, gemm.k), _fields(case, gemm), strict=True)
            if size == int(size)
        ]
        if sides and min(sides)[0] < alignment.BEST_B and alignment.slowdown(min(sides)[0]).ratio > 1.0:
            found.append((min(sides)[1], gemm, min(sides)[0]))
    return found


def _misaligned_s(case: Case, field: str) -> float:
    """Seconds a step that the plan does not hold, for the rows that one field misaligns."""
    ratios = {gemm: alignment.slowdown(aligned_B).ratio for at, gemm, aligned_B in _slow_products(case) if at == field}
    return case.step_with_s(gemms.stretched(case.values, ratios)) - case.step_s if ratios else 0.0


def _recipe(case: Case) -> str:
    return case.values["recipe"].name


# ---------------------------------------------------------------------------------------------------- the vocabulary


def _padding(case: Case) -> int:
    """Entries by which the vocabulary falls short of whole tiles of 128 on every tensor-parallel rank."""
    return -case.spec.model.vocab % (TILE * (case.spec.layout.tp or 1))


def vocabulary(case: Case) -> Iterator[Finding]:
    """A vocabulary that is no multiple of 128 tp: what padding costs, and what its lack costs."""
    short, vocab, tp = _padding(case), case.spec.model.vocab, case.spec.layout.tp or 1
    padded = case.changed({"model.vocab": vocab + short}) if short else None
    if padded is None:
        return
    padding_s = padded.step_s - case.step_s
    head = next(gemm for gemm in _products(case) if gemm.name == "head")
    dead = f"{short} dead entries cost {1e3 * padding_s:.3g} ms of computing"
    if vocab % tp:
        message = f"tp {tp} does not divide {vocab} entries: frameworks pad it to {vocab + short}; {dead}"
        cost_s = max(padding_s, 0.0)
        whole = Better(vocab + short, cost_s)
        yield Finding("vocabulary padding", "model.vocab", vocab, message, cost_s, up=whole, gemm=head)
        return
    no_waves_s = case.step_with_s(gemms.without_waves(case.values, head))
    tiles_s = no_waves_s - case.step_with_s(gemms.without_tiles(case.values, head))
    aligned_B = alignment.alignment_B(vocab // tp, case.scalar("activation_B"))
    slow, on_top_s, basis = alignment.slowdown(aligned_B), 0.0, MODEL
    if case.problem.profile.family in NVIDIA and slow.ratio > 1.0:
        on_top_s = case.step_with_s(gemms.stretched(case.values, {head: slow.ratio})) - case.step_s
        basis = f"{slow.source}; tiles: {MODEL}"
    cost_s = tiles_s + on_top_s
    saves_s = on_top_s - padding_s
    up = Better(vocab + short, saves_s) if saves_s > 0 else None
    message = f"{head}: rows start on {aligned_B:g} bytes; padded to {vocab + short}, {dead}"
    yield Finding("vocabulary padding", "model.vocab", vocab, message, cost_s, basis, on_top_s, up=up, gemm=head)


# ---------------------------------------------------------------------------------------------------- experts


def small_experts(case: Case) -> Iterator[Finding]:
    """Expert products of few rows, where the grouped kernels are far from their rate."""
    if case.spec.model.moe is None or case.scalar("grouped_ramp_rows") == 0:
        return
    cost_s = case.step_s - case.step_with_s({"grouped_ramp_rows": 0.0})
    rows, half = case.scalar("rows_per_expert"), case.scalar("grouped_ramp_rows")
    layout = case.spec.layout
    options = []
    for field, value in (("layout.micro_batch", (layout.micro_batch or 1) * 2), ("layout.ep", layout.ep * 2)):
        other = case.changed({field: value})
        if other is not None and (other.feasible or not case.feasible) and other.step_s < case.step_s:
            options.append((case.saves_s(other), field, value))
    saves_s, field, value = max(options, default=(0.0, "layout.micro_batch", layout.micro_batch or 1))
    yield Finding(
        "small expert products",
        field,
        float(layout.ep if field == "layout.ep" else layout.micro_batch or 1),
        f"{rows:.0f} rows an expert and micro-batch; grouped products reach half of their rate at {half:.0f}",
        cost_s,
        f"{MODEL}: kernels.grouped_gemm_s (op_fits section 6)",
        up=Better(value, saves_s) if saves_s > 0 else None,
        gemm=next(gemm for gemm in _products(case) if gemm.name == "expert_up"),
    )


# ---------------------------------------------------------------------------------------------------- head size


def head_size(case: Case) -> Iterable[Finding]:
    """A head size for which attention kernels are not made: neither 64 nor 128. MLA has kernels of its own."""
    if case.spec.model.mla or head_dim(case) in GOOD_HEAD_DIMS:
        return
    size = head_dim(case)
    on_top_s = _padded_heads_s(case)
    options: dict[bool, Better] = {}
    for good in GOOD_HEAD_DIMS:
        other = _with_head_dim(case, good)
        if other is not None and (other.feasible or not case.feasible):
            saves_s = case.step_s + on_top_s - other.step_s * case.step_FLOP / other.step_FLOP
            if saves_s > 0:
                options[good > size] = Better(good, saves_s)
    in_plan_s = max((better.saves_s - on_top_s for better in options.values()), default=0.0)
    timed = f"head size {size}: attention is timed as the nearest size that the profile has"
    padded, kernel = alignment.padded_head_dim(size), case.problem.stack.attention_kernel
    pads = f"; the kernel computes {padded}" if kernel in FLASH and padded > size else ""
    yield Finding(
        "head size",
        "model.head_dim",
        size,
        timed + pads,
        max(in_plan_s, 0.0) + on_top_s,
        f"{MODEL}: attention by head size" + (f"; {alignment.HEADS}" if pads else ""),
        on_top_s,
        options.get(False),
        options.get(True),
    )


def _padded_heads_s(case: Case) -> float:
    """Seconds a step that flash attention computes beyond the head size. The plan does not hold them."""
    size = head_dim(case)
    ratio = alignment.padded_head_dim(size) / size
    if ratio == 1.0 or case.problem.stack.attention_kernel not in FLASH:
        return 0.0
    longer = {key[1]: time * ratio for key, time in case.values.items() if key[0] == "attention_forward_s"}
    return case.step_with_s({"attention_forward_s": longer}) - case.step_s


def _with_head_dim(case: Case, size: int) -> Case | None:
    """The same widths in heads of another size."""
    width, tp = case.spec.model.heads * head_dim(case), case.spec.layout.tp or 1
    if width % (size * tp):
        return None
    heads = width // size
    own = heads if kv_heads(case) == case.spec.model.heads else kv_heads(case) * head_dim(case) / size
    if own != int(own) or own < 1 or heads % own:
        return None
    return case.changed({"model.head_dim": size, "model.heads": heads, "model.kv_heads": int(own)})
