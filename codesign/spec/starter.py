"""The commented spec that `codesign init` writes: an example, or one for a model of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

TEXT = """\
# yaml-language-server: $schema=spec.schema.json
# One training run. `codesign plan spec.yaml` says how long a step takes, where the time goes and whether it fits.
# `codesign schema > spec.schema.json` writes the schema that gives an editor completion and checks.
version: 1

# A preset by name (`codesign models list`). Other forms:
#   model: {preset: llama-3.1-405b, ffn: 57344}       a preset with some fields changed
#   model: {hf: path/to/config.json}                   a Hugging Face config, read offline
#   model: {layers: 32, hidden: 4096, heads: 32, kv_heads: 8, ffn: 14336, vocab: 128256}
model: llama-3.1-405b

training:
  sequence_length: 8192           # tokens
  global_batch_sequences: 2048    # sequences in one optimizer step, whole job
  precision: bf16                 # fp32 fp16 bf16 fp8-tensor fp8-current fp8-block fp8-rowwise mxfp8 nvfp4 int8
  optimizer: adamw                # adamw adamw-8bit sgd muon
  tokens: 15.6 T tokens           # of the whole run; may be left out

layout:
  tp: 8                           # tensor parallel
  pp: 16                          # pipeline parallel
  vpp: 8                          # model chunks a pipeline rank holds; above 1 is interleaving
  cp: 1                           # context parallel
  ep: 1                           # expert parallel: reuses the ranks of dp (and tp, cp)
  # dp: 128                       # data parallel; left out: accelerators / (tp * pp * cp)
  order: [tp, cp, ep, pp, dp]     # which ranks sit together, innermost first
  micro_batch: 1                  # sequences
  schedule: interleaved           # none gpipe 1f1b interleaved zb-h1 zb-h2 zb-v dualpipe dualpipe-v
  sharding: zero2                 # none zero1 zero2 zero3 (FSDP) hsdp
  sequence_parallel: true
  recompute: none                 # none selective full, or {granularity: selective, modules: [core_attn]}

cluster:
  profile: h100-sxm-80gb          # `codesign profiles list`, or a path to a YAML file of your own
  accelerators: 16384
  fabric: llama3-roce             # `codesign profiles list`; left out: the profile's own network
  # override:                     # any number of the profile, in place of its own
  #   scale_out.nic_Bps: 400 Gb/s

software: meta-llama3           # a named stack, or {stack: megatron-core, ...} with settings of your own

# ---- Beyond the step: from here on, take away the # in front of a section to plan it. What is left out is not planned.
# docs/how-to/describe-a-run.md walks through these sections; the schema says what each field means.

#run:
#  start: 2027-03-01               # YYYY-MM-DD; left out: days are counted from 0
#  deadline: 2027-12-01
#  price_per_hour: 2.5             # of one accelerator, in your currency; left out: no money
#  failures: {rates: pooled}       # a published set; or {rates: none, mtbf: {accelerator: 5 y, host: 5 y}} of your own
#  checkpoint: {storage_Bps: 1 TB/s, kind: asynchronous}  # or synchronous memory peer; rate of the whole job
#  spares: {quantile: 0.99}        # enough with this probability, or {count: 16} nodes
#  policy: elastic                 # restart hot-spares elastic degraded
#  loss:
#    law: besiroglu                # besiroglu hoffmann hoffmann-rounded muennighoff kaplan deepseek llama3
#    reference: {name: the model before, parameters: 70e9, tokens: 15 T tokens}
#  data: {unique_tokens: 12 T tokens, most_repeats: 4}       # tokens beyond the unique ones are repeated
#  other: {evaluation: 0.02}       # share of the cluster's time
#  power: {pue: 1.2, overhead_per_accelerator_W: 400 W, kg_per_kWh: 0.35}
#  phases:                         # shares or tokens of the run; one phase may take the rest
#    - {name: main, share: 0.95}
#    - {name: long-context, sequence_length: 32768, global_batch_sequences: 512, layout: {cp: 4}}
#  serving: {profile: h200-sxm, prompt_tokens: 4000, output_tokens: 500, price_per_hour: 3.0}
#  ladder: {rungs: 5, smallest: 1e-5, largest: 1e-2}         # proxy runs, of the compute of the run

#sites:                            # clusters that train one model; what a site does not say is as in cluster
#  - {name: west}
#  - {name: east, cluster: {accelerators: 8192}}

#links:                            # length: route_km of fibre, or a measured round_trip such as 12 ms
#  - {between: [west, east], bandwidth: 10 Tb/s, route_km: 800, transport: multipath}

#sync: {strategy: synchronous, overlap: backward, chunks: 16}
# Other strategies: {strategy: pipeline}, {strategy: semi-synchronous, inner_steps: 50, fragments: 4, delay: 1},
# and mixed, which is synchronous within a region of the sites and semi-synchronous between them.
"""

_OWN_HEAD = """\
# yaml-language-server: $schema=spec.schema.json
# One training run. `codesign plan spec.yaml` says how long a step takes, where the time goes and whether it fits.
# `codesign schema > spec.schema.json` writes the schema that gives an editor completion and checks.
"""
_BEYOND = "# ---- Beyond the step"
_SAID = {
    "training": "# assumed by codesign init: write your own batch, sequence and tokens (tokens: 15 T tokens)",
    "cluster": "# `codesign profiles list`, or a path to a YAML file of your own; fabric: left out, the profile's own network",
    "software": "# a named stack, or {stack: megatron-core, ...} with settings of your own",
}


def of_model(sections: Mapping[str, Any], notes: Sequence[str], layout_said: str) -> str:
    """A spec for a model: its sections with comments, then those beyond the step as comments.

    `notes`: what was inferred of the model; `layout_said`: how the layout was found.
    """
    said = {**_SAID, "model": "\n".join(f"# {note}" for note in notes), "layout": f"# {layout_said}"}
    parts = [_OWN_HEAD + _yaml({name: sections[name] for name in ("version", "name")})]
    for name in ("model", "training", "layout", "cluster", "software"):
        head = f"{said[name]}\n" if said[name] else ""
        parts.append(head + _yaml({name: sections[name]}))
    return "\n".join([*parts, TEXT[TEXT.index(_BEYOND) :]])


def _yaml(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100)
