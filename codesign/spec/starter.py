"""The commented spec that `codesign init` writes."""

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
"""
