"""MaxText: the YAML over base.yml through pyconfig, on as many made-up devices as the plan has ranks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml

FILLED = {
    "run_name": "check", "base_output_directory": "out", "learning_rate": "1e-4", "dataset_type": "synthetic",
    "tokenizer_path": "tokenizer", "rope_max_timescale": "10000", "steps": "10",
}  # fmt: skip


def prepare(folder: Path, _: object):
    sys.path.insert(0, str(folder / "src"))
    from maxtext.configs import pyconfig, types

    def one(text: str, asked):
        data = yaml.safe_load(text)
        unknown = sorted(set(data) - set(types.MaxTextConfig.model_fields))
        base = yaml.safe_load((folder / "src/maxtext/configs/base.yml").read_text(encoding="utf-8"))
        pairs: dict[str, tuple[object, object]] = {
            "unknown fields": (unknown, []), "not in base.yml": (sorted(set(data) - set(base) - {"base_config"}), []),
        }  # fmt: skip
        for name in ("learning_rate",):
            try:
                types.MaxTextConfig(**{**base, **data})
            except ValueError as error:
                assert name in str(error), error
            else:
                raise AssertionError("the configuration is taken although FILL_IN is left")
        for name, value in FILLED.items():
            text = text.replace(f"\n{name}: FILL_IN", f"\n{name}: {value}").replace(f'\n{name}: "FILL_IN"', f"\n{name}: {value}")
        gated = asked.values["model.gated_ffn"]
        text = text.replace('["FILL_IN"', '["silu"' if gated else '["gelu"')
        assert "FILL_IN" not in text.split("\n\n# Not decided")[0], text
        with tempfile.TemporaryDirectory() as where:
            path = Path(where) / "plan.yml"
            path.write_text(text.replace('"base.yml"', f'"{folder}/src/maxtext/configs/base.yml"'))
            config = pyconfig.initialize(
                ["train", str(path)], internal_compile=True, internal_compile_num_devices=asked.ranks,
                skip_jax_distributed_system=True,
            )
        return pairs | compare(config, asked)

    return one


def compare(config, asked) -> dict[str, tuple[object, object]]:
    value = asked.values.get
    size = {
        axis: getattr(config, f"ici_{axis}_parallelism") * getattr(config, f"dcn_{axis}_parallelism")
        for axis in ("tensor", "context", "expert", "fsdp", "data", "pipeline")
    }
    kind = value("layout.sharding")
    pairs = {
        "tp": (size["tensor"], value("layout.tp")),
        "cp": (size["context"], value("layout.cp")),
        "pp": (size["pipeline"], value("layout.pp")),
        "ep": (size["expert"], value("layout.ep")),
        "dp": (size["fsdp"] * size["data"] * size["expert"], value("layout.dp")),
        "sharded": (size["fsdp"] > 1 or value("layout.dp") == value("layout.ep"), kind in ("zero3", "hsdp")),
        "global batch": (config.global_batch_size_to_train_on, value("training.global_batch_sequences")),
        "sequence": (config.max_target_length, value("training.sequence_length")),
        "layers": (config.num_decoder_layers, value("model.layers")),
        "hidden": (config.emb_dim, value("model.hidden")),
        "heads": (config.num_query_heads, value("model.heads")),
        "kv heads": (config.num_kv_heads, value("model.kv_heads") or value("model.heads")),
        "ffn": (config.mlp_dim, value("model.ffn") or value("model.moe.expert_ffn")),
        "vocab": (config.vocab_size, value("model.vocab")),
        "experts": (config.num_experts, value("model.moe.experts") or 1),
        "top-k": (config.num_experts_per_tok, value("model.moe.top_k") or 1),
        "recompute": (config.remat_policy == "full", value("layout.recompute.granularity") == "full"),
        "weights": (str(config.weight_dtype), "float32"),
        "int8": (config.quantization == "int8", value("training.precision.matmul") == "int8"),
    }
    if value("model.moe.experts"):
        pairs["expert ffn"] = (config.moe_mlp_dim, value("model.moe.expert_ffn"))
    return pairs
