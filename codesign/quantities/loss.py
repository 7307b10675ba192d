"""What a run learns: loss by a chosen law, effective compute, the best shapes, batch bounds. Data are in `data`.

Losses are nats a token on the tokenizer of the law. Its constants are leaves, so that joint draws of them are an axis.
Laws of an optimum alone (DeepSeek, Llama 3) have no loss: what rests on one is not planned with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import add, quantity, worst
from codesign.laws import batch, repeated_data, scaling, semisync
from codesign.laws.scaling import Law

Array = NDArray[np.float64]

ADDITIVE = ("besiroglu", "hoffmann", "hoffmann-rounded", "muennighoff")  # L = E + A/N^alpha + B/D^beta


# ---------------------------------------------------------------------------------------------------- loss


@quantity("FLOP", source="EQ-41: 6 N D")
def run_compute_FLOP(law_parameters, run_tokens) -> Array:
    """Training compute as scaling laws count it, N as the chosen law counts it."""
    return scaling.FLOP_PER_PARAMETER_TOKEN * law_parameters * run_tokens


def _read(data_given: bool, tokens: Array, unique_tokens: Array, data_efficiency: Array) -> Array:
    """Tokens of the law's data that so many tokens are: repeats count less, efficient data more."""
    if not data_given:
        return tokens * 1.0
    return repeated_data.effective_tokens(tokens, unique_tokens) * data_efficiency


@quantity("tokens", source="EQ-42; constants of Muennighoff 2023, carried over to the chosen law")
def law_tokens(data_given, run_tokens, unique_tokens, data_efficiency) -> Array:
    """Tokens of the law's data that the run reads: repeats count less, efficient data more."""
    return _read(data_given, run_tokens, unique_tokens, data_efficiency)


@quantity("tokens", source="EQ-47: what a batch above the critical one wastes is taken off, where run.loss.batch is counted")
def seen_tokens(law_tokens, batch_worth) -> Array:
    """Tokens that the run is worth to the law."""
    return law_tokens * batch_worth


@quantity("1", source="EQ-42: parameters beyond those that unique data can use count less; Muennighoff's law only")
def seen_parameters(loss_law, data_given, law_parameters, unique_tokens) -> Array:
    """N of the law, with what excess over the unique data takes off."""
    if loss_law == "muennighoff" and data_given:
        return repeated_data.effective_parameters(law_parameters, unique_tokens)
    return law_parameters * 1.0


@quantity("1", source="EQ-41, EQ-42: E; none in Kaplan's form")
def loss_floor(loss_law, law_floor) -> Array:
    """Loss that no size and no data remove."""
    return np.zeros(1) if loss_law == "kaplan" else law_floor * 1.0


@quantity("1", source="EQ-40, EQ-41, EQ-42")
def size_loss(loss_law, seen_parameters, law_size_scale, law_alpha) -> Array:
    """What a finite model adds: A/N^alpha, or Kaplan's loss at unlimited data."""
    if loss_law == "kaplan":
        return scaling.kaplan_loss_of_parameters(seen_parameters)
    return law_size_scale / seen_parameters**law_alpha


@quantity("1", source="EQ-40, EQ-41, EQ-42; Kaplan: what the limit of data lies above that of size, a lower bound")
def data_loss(loss_law, seen_tokens, size_loss, law_data_scale, law_beta) -> Array:
    """What finite data add: B/D^beta."""
    if loss_law == "kaplan":
        return np.maximum(scaling.kaplan_loss_of_tokens(seen_tokens) - size_loss, 0.0)
    return law_data_scale / seen_tokens**law_beta


@quantity("1", source="sum", parts=("loss_floor", "size_loss", "data_loss"))
def law_loss(loss_floor, size_loss, data_loss) -> Array:
    """Loss of the law at the end of a decayed run."""
    return loss_floor + size_loss + data_loss


@quantity("1", source="run.loss.low_precision_penalty: given with its source")
def precision_loss(law_loss, low_precision_penalty) -> Array:
    """What the low-precision recipe adds."""
    return law_loss * low_precision_penalty


@quantity("1", source="EQ-50: (L - E) grows with the compute that is lost to the power gamma; Kaplan: L with 0.050")
def sites_loss(loss_law, law_loss, loss_floor, sync_loss_multiplier, law_alpha, law_beta) -> Array:
    """What synchronising less often between sites adds: the loss of a run of 1/`sync_loss_multiplier` of the compute."""
    gamma = np.full(1, 0.050) if loss_law == "kaplan" else law_alpha * law_beta / (law_alpha + law_beta)
    return (law_loss - loss_floor) * (sync_loss_multiplier**gamma - 1.0)


@quantity("1", source="sum", parts=("law_loss", "precision_loss", "sites_loss"))
def final_loss(law_loss, precision_loss, sites_loss) -> Array:
    """Predicted loss at the end of the run, nats a token of the law's tokenizer."""
    return law_loss + precision_loss + sites_loss


@quantity("1", source="definition: the loss that the same time in 16 bits reaches, over that of the law")
def low_precision_break_even(
    law_loss, loss_floor, size_loss, data_given, run_tokens, wide_step_ratio, unique_tokens, data_efficiency, batch_worth,
    loss_law, law_data_scale, law_beta,
) -> Array:
    """Relative loss increase at which a low-precision recipe gives back all that its speed gains, in equal time."""
    tokens = _read(data_given, run_tokens / wide_step_ratio, unique_tokens, data_efficiency)
    wide = data_loss(loss_law, tokens * batch_worth, size_loss, law_data_scale, law_beta)
    return (loss_floor + size_loss + wide) / law_loss - 1.0


# ---------------------------------------------------------------------------------------------------- the law of this run


@quantity("1", source="precision_loss and sites_loss over what they are of")
def reducible_rise(low_precision_penalty, sync_loss_multiplier, law_alpha, law_beta) -> Array:
    """Factor of the penalties on what lies above the floor of the law."""
    return low_precision_penalty + sync_loss_multiplier ** (law_alpha * law_beta / (law_alpha + law_beta))


@quantity("1", source="E of this run: with the penalty of its precision")
def own_floor(law_floor, low_precision_penalty) -> Array:
    """E of the law that this run follows on fresh data: recipe, sites, data and batch as stated."""
    return law_floor * (1.0 + low_precision_penalty)


@quantity("1", source="A of this run: with its penalties")
def own_size_scale(law_size_scale, reducible_rise) -> Array:
    """A of the law that this run follows on fresh data."""
    return law_size_scale * reducible_rise


@quantity("1", source="B of this run: with its penalties, a token worth what data and batch make of it")
def own_data_scale(law_data_scale, law_beta, data_efficiency, batch_worth, reducible_rise) -> Array:
    """B of the law that this run follows on fresh data: its final loss, but for repeats."""
    return law_data_scale * (data_efficiency * batch_worth) ** -law_beta * reducible_rise


# ---------------------------------------------------------------------------------------------------- effective compute


def _law(E, A, B, alpha, beta) -> Law:
    return Law(E, A, B, alpha, beta)


@quantity("FLOP", source="EQ-50")
def effective_FLOP(final_loss, law_floor, law_size_scale, law_data_scale, law_alpha, law_beta) -> Array:
    """Compute of the best shape on fresh data that reaches the predicted loss."""
    return scaling.compute_for_FLOP(_law(law_floor, law_size_scale, law_data_scale, law_alpha, law_beta), final_loss - law_floor)


@quantity("1", source="EQ-41")
def reference_loss(
    reference_parameters, reference_tokens, law_floor, law_size_scale, law_data_scale, law_alpha, law_beta
) -> Array:
    """Loss of the reference run by the same law."""
    law = _law(law_floor, law_size_scale, law_data_scale, law_alpha, law_beta)
    return scaling.loss(law, reference_parameters, reference_tokens)


@quantity("FLOP", source="EQ-50")
def reference_effective_FLOP(reference_loss, law_floor, law_size_scale, law_data_scale, law_alpha, law_beta) -> Array:
    """Compute of the best shape that reaches the reference's loss."""
    law = _law(law_floor, law_size_scale, law_data_scale, law_alpha, law_beta)
    return scaling.compute_for_FLOP(law, reference_loss - law_floor)


@quantity("1", source="definition: 6 N D over 6 N D")
def compute_over_reference(run_compute_FLOP, reference_parameters, reference_tokens) -> Array:
    """Training compute over that of the reference run."""
    return run_compute_FLOP / (scaling.FLOP_PER_PARAMETER_TOKEN * reference_parameters * reference_tokens)


@quantity("1", source="EQ-50: C times the product of gains")
def effective_over_reference(effective_FLOP, reference_effective_FLOP, recipe_gain) -> Array:
    """Effective compute over that of the reference run: is it ten times?"""
    return effective_FLOP / reference_effective_FLOP * recipe_gain


# ---------------------------------------------------------------------------------------------------- the best shape


@quantity("1", source="EQ-41, EQ-44")
def optimal_parameters(
    loss_law, run_compute_FLOP, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta
) -> Array:
    """Parameters of the compute-optimal shape for the compute of this run, with its recipe and its batch."""
    if loss_law == "llama3":
        tokens = scaling.llama3_tokens(run_compute_FLOP)
        return run_compute_FLOP / (scaling.FLOP_PER_PARAMETER_TOKEN * tokens)
    return scaling.optimum(_law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta), run_compute_FLOP).parameters


@quantity("tokens", source="EQ-41, EQ-43, EQ-44")
def optimal_tokens(
    loss_law, run_compute_FLOP, model_compute_FLOP, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta
) -> Array:
    """Tokens of the compute-optimal shape for the compute of this run, with its recipe and its batch."""
    if loss_law == "deepseek":
        return scaling.deepseek_optimum(model_compute_FLOP).tokens
    if loss_law == "llama3":
        return scaling.llama3_tokens(run_compute_FLOP)
    return scaling.optimum(_law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta), run_compute_FLOP).tokens


@quantity("FLOP", source="EQ-43: C = M D")
def model_compute_FLOP(law_token_FLOP, run_tokens) -> Array:
    """Training compute as DeepSeek counts it, from non-embedding FLOPs a token."""
    return law_token_FLOP * run_tokens


@quantity("FLOP", source="EQ-43")
def optimal_token_FLOP(model_compute_FLOP) -> Array:
    """Non-embedding FLOPs a token of DeepSeek's compute-optimal model for the compute of this run."""
    return scaling.deepseek_optimum(model_compute_FLOP).model_FLOP_per_token


@quantity("1", source="EQ-41")
def optimal_loss(
    optimal_parameters, optimal_tokens, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta
) -> Array:
    """Loss of the compute-optimal shape on fresh data, on the terms of the final loss: its penalties, its batch."""
    return scaling.loss(_law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta), optimal_parameters, optimal_tokens)


@quantity("1", source="EQ-52")
def lifetime_over_training(run_tokens, served_tokens, served_flop_cost) -> Array:
    """Compute of training and serving over that of training."""
    return scaling.lifetime_over_training(run_tokens, served_tokens * served_flop_cost)


@quantity("FLOP", source="EQ-52: 6 N D + 2 N T")
def lifetime_FLOP(run_compute_FLOP, lifetime_over_training) -> Array:
    """Compute of training and serving, a served FLOP at its cost over a trained one."""
    return run_compute_FLOP * lifetime_over_training


@quantity("1", source="EQ-52")
def serving_optimal_parameters(
    lifetime_FLOP, served_tokens, served_flop_cost, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta
) -> Array:
    """Parameters of the least loss for the compute of training and serving together."""
    law = _law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta)
    return scaling.inference_aware_optimum(law, lifetime_FLOP, served_tokens * served_flop_cost).parameters


@quantity("tokens", source="EQ-52: what the lifetime budget leaves for training")
def serving_optimal_tokens(lifetime_FLOP, serving_optimal_parameters, served_tokens, served_flop_cost) -> Array:
    """Tokens of the least loss for the compute of training and serving together."""
    served = served_tokens * served_flop_cost
    return (lifetime_FLOP / serving_optimal_parameters - 2.0 * served) / scaling.FLOP_PER_PARAMETER_TOKEN


@quantity("1", source="EQ-41")
def serving_optimal_loss(
    serving_optimal_parameters, serving_optimal_tokens, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta
) -> Array:
    """Loss of the inference-aware shape on fresh data, on the terms of the final loss."""
    law = _law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta)
    return scaling.loss(law, serving_optimal_parameters, serving_optimal_tokens)


# ---------------------------------------------------------------------------------------------------- batch


@quantity("1", over="phase", source="EQ-41, the law read at the tokens seen so far: mid-run losses lie above it")
def phase_end_loss(
    loss_law, phase_end_share, data_given, run_tokens, unique_tokens, data_efficiency, loss_floor, size_loss, law_data_scale,
    law_beta,
) -> Array:
    """Loss at the end of a phase, as if its learning rate had decayed there and its batch wasted nothing."""
    tokens = _read(data_given, run_tokens * phase_end_share, unique_tokens, data_efficiency)
    if loss_law == "kaplan":
        return np.maximum(size_loss, scaling.kaplan_loss_of_tokens(tokens))
    return loss_floor + size_loss + law_data_scale / tokens**law_beta


@quantity("tokens", over="phase", source="EQ-47: 2e8/L^(1/0.21), Kaplan 2020; fitted on another tokenizer")
def critical_batch_tokens(phase_end_loss) -> Array:
    """Critical batch at the end of a phase: above it, more data buy little time."""
    return batch.kaplan_critical_batch_tokens(phase_end_loss)


@quantity("1", over="phase", source="definition; replicas that step alone stand a larger batch together, EQ-49")
def batch_over_critical(phase_step_tokens, critical_batch_tokens, replicas_batch_factor) -> Array:
    """Global batch of a phase, that of all sites, over the critical batch at its end."""
    return phase_step_tokens / (critical_batch_tokens * replicas_batch_factor)


@quantity("1", over="phase", source="EQ-47 against its value at the critical batch, up to which laws are fitted (assumed)")
def batch_waste(batch_over_critical) -> Array:
    """Share of a phase's tokens that the critical batch would not have needed for the same loss; 0 up to it."""
    return 1.0 - batch.tokens_worth(batch_over_critical)


@quantity("1", source="definition: by tokens of the phases")
def batch_worth(phase_share, batch_waste) -> Array:
    """Share of the run's tokens that count at its batches, against batches up to the critical one."""
    return add(phase_share[phase] * (1.0 - batch_waste[phase]) for phase in batch_waste)


def _critical_message(values) -> str:
    over = {key[1]: float(np.ravel(value)[0]) for key, value in values.items() if key[0] == "batch_over_critical"}
    phase = max(over, key=lambda one: over[one])
    tokens = float(np.ravel(values[f"phase_step_tokens[{phase}]"])[0])
    what = f"the global batch of phase {phase}, {tokens:,.0f} tokens, is {over[phase]:.3g} times its critical batch"
    return f"{what}: run.loss.batch bounded allows {tokens / over[phase]:,.0f}, and counted takes the waste off the tokens"


@quantity("1", source="EQ-47; run.loss.batch bounded", message=_critical_message)
def within_critical_batch(batch_over_critical) -> Array:
    """No phase has a larger batch than the critical one at its end."""
    return (worst(batch_over_critical.values()) <= 1.0).astype(np.float64)


@quantity("tokens", source="EQ-48: 0.58 D^0.571, Step Law 2025, arXiv 2503.04715")
def step_law_batch_tokens(run_tokens) -> Array:
    """Best batch by the Step Law, for comparison."""
    return batch.step_law_batch_tokens(run_tokens)


@quantity("tokens", source="EQ-43: 0.2920 C^0.3271, DeepSeek LLM 2024, arXiv 2401.02954")
def deepseek_batch_tokens(run_compute_FLOP) -> Array:
    """Best batch by DeepSeek's law, for comparison; its C counts no embeddings."""
    return batch.deepseek_batch_tokens(run_compute_FLOP)


@quantity("tokens", source="EQ-49: 462.68 N^0.281, Charles 2025, arXiv 2503.09799, data parallel; at D = 20 N")
def charles_batch_tokens(law_parameters) -> Array:
    """Best batch of plain data parallelism by Charles, for comparison."""
    return semisync.diloco_batch_tokens(law_parameters, 0)
