"""Data of a run as a resource: repeats, when data bind, what more of them is worth, and how well the run compresses them.

Losses are nats a token on the tokenizer of the law; the law is that which the run follows (`loss`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import quantity
from codesign.laws import compression, repeated_data
from codesign.laws.scaling import Law

Array = NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- data


@quantity("1", source="definition: D/U - 1, at least 0")
def data_repeats(run_tokens, unique_tokens) -> Array:
    """Passes over the unique data after the first."""
    return repeated_data.repeats(run_tokens, unique_tokens)


def _repeats_message(values) -> str:
    needed, most = (float(np.ravel(values[name])[0]) for name in (("data_repeats", None), "most_repeats"))
    return f"the tokens repeat the data {needed:.2f} times after the first pass, and run.data.most_repeats is {most:g}"


@quantity("1", source="run.data.most_repeats", message=_repeats_message)
def allows_repeats(data_repeats, most_repeats) -> Array:
    """The data are not repeated more often than allowed."""
    return (data_repeats <= most_repeats).astype(np.float64)


@quantity("FLOP", source="EQ-53: D*(C) = U")
def data_bound_FLOP(unique_tokens, own_floor, own_size_scale, own_data_scale, law_alpha, law_beta) -> Array:
    """Compute above which data bind: the one-epoch optimum wants more tokens than there are."""
    return repeated_data.data_bound_FLOP(Law(own_floor, own_size_scale, own_data_scale, law_alpha, law_beta), unique_tokens)


@quantity("1", source="EQ-53: D*(C)/U")
def optimum_epochs(optimal_tokens, unique_tokens) -> Array:
    """Epochs that the compute-optimal shape would need: above 1 data bind, above about 4 they cost loss."""
    return optimal_tokens / unique_tokens


@quantity("1", source="EQ-53: e^(-R/R*)")
def next_token_worth(run_tokens, unique_tokens) -> Array:
    """Worth of the next token of this run against a fresh one."""
    return repeated_data.next_repeat_worth(run_tokens, unique_tokens)


@quantity("1", source="EQ-53: dL/d ln C of the best run, Muennighoff's law")
def compute_price(run_compute_FLOP, unique_tokens) -> Array:
    """Change of the loss for one more compute in logarithm, at the best shape: negative."""
    return repeated_data.shadow_prices(run_compute_FLOP, unique_tokens).compute


@quantity("1", source="EQ-53: dL/d ln U of the best run, Muennighoff's law")
def unique_tokens_price(run_compute_FLOP, unique_tokens) -> Array:
    """Change of the loss for more unique tokens in logarithm, at the best shape: negative."""
    return repeated_data.shadow_prices(run_compute_FLOP, unique_tokens).unique_tokens


@quantity("1", source="EQ-53: dL/d ln D_eff = -beta B D_eff^-beta at the best run, Muennighoff's law")
def data_efficiency_price(run_compute_FLOP, unique_tokens) -> Array:
    """Change of the loss for a gain in data efficiency in logarithm, at the best shape: negative."""
    best = repeated_data.data_constrained_optimum(run_compute_FLOP, unique_tokens)
    law = repeated_data.MUENNIGHOFF
    return -law.beta * law.B * repeated_data.effective_tokens(best.tokens, unique_tokens) ** -law.beta


# ---------------------------------------------------------------------------------------------------- code length


@quantity("tokens", source="EQ-57: one epoch only")
def coded_tokens(data_given, run_tokens, unique_tokens) -> Array:
    """Tokens that are coded: each once, in the epoch in which it is new."""
    return np.minimum(run_tokens, unique_tokens) if data_given else run_tokens * 1.0


@quantity("1", source="EQ-58; ln V until the law falls below it")
def code_bits(coded_tokens, own_floor, size_loss, reducible_rise, own_data_scale, law_beta, vocabulary) -> Array:
    """Prequential code length of the training stream in bits, the program left out; idealised: a decayed run at every point.

    Along the law that this run follows: its last token costs the final loss, where no token is seen twice.
    """
    floor = own_floor + size_loss * reducible_rise
    return compression.capped_code_bits(coded_tokens, floor, own_data_scale, law_beta, vocabulary)


@quantity("1", source="EQ-58: L(D), at most ln V")
def code_end_loss(coded_tokens, own_floor, size_loss, reducible_rise, own_data_scale, law_beta, vocabulary) -> Array:
    """Loss of the last token that is coded, nats."""
    floor = own_floor + size_loss * reducible_rise
    return np.minimum(floor + own_data_scale / coded_tokens**law_beta, np.log(vocabulary))


@quantity("1", source="EQ-57")
def code_mean_loss(code_bits, coded_tokens) -> Array:
    """Mean loss over the stream, nats a token."""
    return compression.mean_loss(code_bits, coded_tokens)


@quantity("1", source="EQ-58: code above D L(D)")
def code_absorbed_bits(code_bits, coded_tokens, code_end_loss) -> Array:
    """Bits of code above the loss at its end: what the model took from the data."""
    return code_bits - compression.flat_code_bits(coded_tokens, code_end_loss)


@quantity("B", source="run.data.raw_B, the part that is coded")
def coded_raw_B(raw_B, coded_tokens, unique_tokens) -> Array:
    """Raw size of the tokens that are coded."""
    return raw_B * coded_tokens / unique_tokens


@quantity("1", source="EQ-57: 8 raw bytes over code bits")
def compression_ratio(coded_raw_B, code_bits) -> Array:
    """Raw size over code length; the weights are no part of the message, the program is."""
    return compression.compression_ratio(coded_raw_B, code_bits)
