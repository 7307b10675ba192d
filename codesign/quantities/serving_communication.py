"""Communication between the accelerators that serve one copy of a model: all-reduces of tensor parallelism, and the
all-to-alls of experts that are held whole. By the collectives of the serving accelerator's profile, nothing hidden.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.graph import quantity, stack
from codesign.laws import network
from codesign.quantities.communication import group_collective_s

Array = NDArray[np.float64]

PASSES = ("prefill", "decode")  # one prompt is read; one token of each sequence is written


@quantity("1", source="definition")
def serving_ranks(serving_accelerators, serving_ranks_each) -> Array:
    """Ranks that hold one copy of the model together."""
    return serving_accelerators * serving_ranks_each


@quantity("1", source="a copy sits on neighbouring accelerators")
def serving_extent(serving_ranks, serving_domain_ranks, serving_pod_ranks) -> Array:
    """Ranks of a copy that sit together, by network level. Shape (levels, ...)."""
    return stack(*network.extents(serving_ranks, np.ones(1), [serving_domain_ranks, serving_pod_ranks, np.inf]))


@quantity("B", over="serving_pass", source="EQ-28: s b h e")
def serving_message_B(serving_pass, prompt_length, serving_batch, served_hidden, serving_activation_B) -> Array:
    """Activations after a layer: of one prompt, or of one token of each sequence."""
    tokens = prompt_length if serving_pass == "prefill" else serving_batch
    return tokens * served_hidden * serving_activation_B


@quantity("s", over="serving_pass", source="EQ-21, EQ-24, EQ-25")
def serving_all_reduce_s(
    serving_message_B, serving_extent, serving_link_Bps, up_serving_reduce_share, pair_serving_reduce_share,
    up_serving_reduce_latency_s, pair_serving_reduce_latency_s, up_serving_reduce_half_B, pair_serving_reduce_half_B,
    serving_nic_Bps, serving_nic_share, serving_taper, serving_nic_half_B, serving_nic_latency_s, serving_hop_s,
    serving_inner_exposed, serving_torus_axes, serving_domain_ranks,
) -> Array:
    """One all-reduce of a layer's activations over the ranks of a copy."""
    out_Bps = serving_nic_Bps * serving_nic_share
    return group_collective_s(
        "all_reduce", serving_message_B, serving_extent, serving_link_Bps, up_serving_reduce_share,
        pair_serving_reduce_share, up_serving_reduce_latency_s, pair_serving_reduce_latency_s, up_serving_reduce_half_B,
        pair_serving_reduce_half_B, out_Bps, out_Bps / serving_taper, serving_nic_half_B, serving_nic_latency_s,
        serving_hop_s, serving_inner_exposed, 1.0, serving_torus_axes, serving_domain_ranks,
    )  # fmt: skip


@quantity("s", over="serving_pass", source="EQ-25, EQ-26, EQ-30: k copies of each token, routing even")
def serving_all_to_all_s(
    serving_message_B, serving_ranks, served_top_k, serving_extent, serving_link_Bps, up_serving_exchange_share,
    pair_serving_exchange_share, up_serving_exchange_latency_s, pair_serving_exchange_latency_s,
    up_serving_exchange_half_B, pair_serving_exchange_half_B, serving_nic_Bps, serving_nic_share, serving_taper,
    serving_nic_half_B, serving_nic_latency_s, serving_hop_s, serving_inner_exposed, serving_torus_axes,
    serving_domain_ranks,
) -> Array:
    """One dispatch (or combine) of a mixture's layer; each rank sends its share of the tokens."""
    out_Bps = serving_nic_Bps * serving_nic_share
    return group_collective_s(
        "all_to_all", serving_message_B / serving_ranks * served_top_k, serving_extent, serving_link_Bps,
        up_serving_exchange_share, pair_serving_exchange_share, up_serving_exchange_latency_s,
        pair_serving_exchange_latency_s, up_serving_exchange_half_B, pair_serving_exchange_half_B, out_Bps,
        out_Bps / serving_taper, serving_nic_half_B, serving_nic_latency_s, serving_hop_s, serving_inner_exposed, 1.0,
        serving_torus_axes, serving_domain_ranks,
    )  # fmt: skip


@quantity("s", source="EQ-28: all-reduces of all layers; the vocabulary's are left out")
def prefill_tensor_s(served_reduces, serving_all_reduce_s) -> Array:
    """Tensor-parallel communication of one prompt."""
    return served_reduces * serving_all_reduce_s["prefill"]


@quantity("s", source="EQ-30: a dispatch and a combine in each layer of experts that are held whole")
def prefill_expert_s(served_exchanges, serving_all_to_all_s) -> Array:
    """Expert-parallel communication of one prompt."""
    return served_exchanges * serving_all_to_all_s["prefill"]


@quantity("s", source="EQ-28: all-reduces of all layers; the vocabulary's are left out")
def decode_tensor_s(served_reduces, serving_all_reduce_s) -> Array:
    """Tensor-parallel communication of one decode step."""
    return served_reduces * serving_all_reduce_s["decode"]


@quantity("s", source="EQ-30: a dispatch and a combine in each layer of experts that are held whole")
def decode_expert_s(served_exchanges, serving_all_to_all_s) -> Array:
    """Expert-parallel communication of one decode step."""
    return served_exchanges * serving_all_to_all_s["decode"]
