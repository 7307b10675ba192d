"""What row lengths and head sizes cost that the kernels do not like: stated terms, measured elsewhere.

The kernel laws of `codesign.laws.kernels` have no term for either; these ratios are theirs to be multiplied by. They
are for matrix units of NVIDIA GPUs since Ampere, whose loads want rows that start on 128 bytes (NVIDIA, Matrix
Multiplication Background, "Tensor Core requirements").
"""

from __future__ import annotations

from dataclasses import dataclass

BEST_B = 128.0  # rows that start on 128 bytes lose nothing
LEAST_B = 16.0  # 8-bit and 4-bit kernels refuse less

PYTORCH = (
    "measured: padding the output layer of GPT-2 from 50,257 made its products nearly 3 times faster on A100 (PyTorch "
    "blog, Accelerating Large Language Models with Accelerated Transformers, 18 April 2023)"
)
SWIGLU = (
    "measured: 272.73 TFLOP/s with an FFN of 10,922, 398.38 with 10,944, 395.16 with 10,912 on H100, hidden 4,096 "
    "(stas00/ml-engineering@744d01e, training/performance)"
)
CHART = (
    "read off a chart: square products near 4,096 on A100 by the power of two in their size, 235 and 255 TFLOP/s for 8 "
    "and 16 elements against 265 (He 2024, What Shapes Do Matrix Multiplications Like?)"
)
HEADS = "head sizes of the kernels: Dao-AILab/flash-attention, csrc/flash_attn/src/static_switch.h"


@dataclass(frozen=True)
class Slowdown:
    """Time over that of an aligned product, and where the ratio is from."""

    ratio: float
    source: str


# largest power of two, in bytes, that divides a row of 16-bit elements -> the ratio. Sizes of 4 and of 8 bytes are one
# band in He's chart, so that the measurement at 4 bytes stands for both.
_BY_ALIGNMENT = {
    2.0: Slowdown(3.0, PYTORCH),
    4.0: Slowdown(398.38 / 272.73, SWIGLU),
    8.0: Slowdown(398.38 / 272.73, SWIGLU),
    16.0: Slowdown(265.0 / 235.0, CHART),
    32.0: Slowdown(265.0 / 255.0, CHART),
}
_ALIGNED = Slowdown(1.0, SWIGLU)

FLASH_HEAD_DIMS = (32, 64, 96, 128, 192, 256)


def alignment_B(elements: int, element_B: float) -> float:
    """The largest power of two, at most 128, that divides a row of `elements` in bytes. Rows of at least one byte."""
    found = BEST_B
    while found > element_B and elements * element_B % found:
        found /= 2.0
    return found


def slowdown(aligned_B: float) -> Slowdown:
    """What a matrix product loses whose rows start on `aligned_B` bytes only, for n and k; m does not matter.

    Ratios of 16-bit products, taken by bytes for other widths. 64 bytes and more: none was seen.
    """
    return _BY_ALIGNMENT.get(aligned_B, _ALIGNED)


def padded_head_dim(head_dim: int) -> int:
    """The head size that flash-attention kernels compute for `head_dim`: the next of those compiled; above 256 itself."""
    return next((size for size in FLASH_HEAD_DIMS if size >= head_dim), head_dim)
