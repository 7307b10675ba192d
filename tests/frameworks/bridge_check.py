"""Megatron-Bridge: every class and field of the recipe against the source, by its syntax tree, bases included.

Its package imports Transformer Engine and CUDA kernels, so it is not loaded. The fields are those of the classes in
Megatron-Bridge and, through their bases, in Megatron-LM.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

BASES = {"MTrainTrainingConfig": "TrainingConfig"}  # imported under another name


def prepare(folder: Path, given):
    roots = [folder / "src" / "megatron" / "bridge", Path(given["megatron"] or folder / "3rdparty/Megatron-LM") / "megatron"]
    classes: dict[str, list[ast.ClassDef]] = {}
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except SyntaxError:  # newer than this Python
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    classes.setdefault(node.name, []).append(node)

    @cache
    def fields(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
        found: set[str] = set()
        for node in classes.get(name, ()):
            found |= {one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}
            for base in node.bases:
                base_name = ast.unparse(base).split(".")[-1]
                for one in (base_name, BASES.get(base_name, ""), base_name.removeprefix("MCore")):
                    if one and one not in seen:
                        found |= fields(one, seen | {name, one})
        return frozenset(found)

    def one(recipe: str, asked):
        tree = ast.parse(recipe)
        call = next(node for node in ast.walk(tree) if isinstance(node, ast.Return)).value
        assert isinstance(call, ast.Call)
        container = fields("ConfigContainer")
        pairs: dict[str, tuple[object, object]] = {}
        written: dict[str, object] = {}
        for part in call.keywords:
            assert part.arg and isinstance(part.value, ast.Call)
            pairs[f"ConfigContainer.{part.arg}"] = (part.arg in container, True)
            cls = ast.unparse(part.value.func)
            known = fields(cls)
            for keyword in part.value.keywords:
                pairs[f"{cls}.{keyword.arg}"] = (keyword.arg in known, True)
                try:
                    written[f"{part.arg}.{keyword.arg}"] = ast.literal_eval(keyword.value)
                except ValueError:
                    written[f"{part.arg}.{keyword.arg}"] = ast.unparse(keyword.value)
        value = asked.values.get
        for ours, theirs in (
            ("model.layers", "model.num_layers"), ("model.hidden", "model.hidden_size"), ("model.vocab", "model.vocab_size"),
            ("layout.tp", "model.tensor_model_parallel_size"), ("layout.pp", "model.pipeline_model_parallel_size"),
            ("layout.cp", "model.context_parallel_size"), ("layout.micro_batch", "train.micro_batch_size"),
            ("training.global_batch_sequences", "train.global_batch_size"), ("training.sequence_length", "model.seq_length"),
            ("model.moe.experts", "model.num_moe_experts"), ("model.moe.top_k", "model.moe_router_topk"),
            ("layout.stages", "model.pipeline_model_parallel_layout"), ("model.ffn", "model.ffn_hidden_size"),
        ):  # fmt: skip
            pairs[theirs] = (written.get(theirs), value(ours))
        return pairs

    return one
