"""DeepSpeed: the JSON through DeepSpeedConfig, with the data-parallel ranks of the plan."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def prepare(folder: Path, _: object):
    sys.path.insert(0, str(folder))
    from deepspeed import comm
    from deepspeed.runtime.config import DeepSpeedConfig

    class Mesh:
        """Stands for the process groups: only the number of data-parallel ranks is asked for."""

        def __init__(self, ranks: int) -> None:
            self.ranks = ranks

        def get_data_parallel_world_size(self) -> int:
            return self.ranks

    comm.get_rank = lambda *_, **__: 0

    def one(text: str, asked):
        import deepspeed.runtime.config as theirs

        theirs.dist.get_rank = lambda *_, **__: 0
        data = json.loads(text)
        config = DeepSpeedConfig(data, mpu=Mesh(asked.values["layout.dp"]))
        value = asked.values.get
        matmul = value("training.precision.matmul")
        kind, tp, pp = value("layout.sharding"), value("layout.tp"), value("layout.pp")
        batch, dp, micro = value("training.global_batch_sequences"), value("layout.dp"), value("layout.micro_batch")
        optimizer = {"adamw": "adamw", "sgd": "SGD", "muon": "muon"}[value("training.optimizer.name")]
        offload = config.zero_config.offload_optimizer
        return {
            "world": (config.world_size, dp),
            "global batch": (config.train_batch_size, batch),
            "micro batch": (config.train_micro_batch_size_per_gpu, micro),
            "accumulation": (config.gradient_accumulation_steps, batch / (dp * micro)),
            "stage": (config.zero_optimization_stage, {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}[kind]),
            "overlap": (bool(config.zero_config.overlap_comm), bool(value("layout.overlap.dp_gradients"))),
            "bf16": (config.bfloat16_config.enabled, matmul == "bf16"),
            "fp16": (config.float16_config.enabled, matmul == "fp16"),
            "gradients": (config.grad_accum_dtype, value("training.precision.gradients")),
            "tp": (config.tensor_parallel_config.autotp_size or 1, tp),
            "pp": (config.pipeline["stages"] if config.pipeline["stages"] != "auto" else 1, pp),
            "optimizer": (config.optimizer_name, optimizer),
            "offload": (offload is not None and offload.device == "cpu", value("layout.offload.optimizer")),
        }

    return one
