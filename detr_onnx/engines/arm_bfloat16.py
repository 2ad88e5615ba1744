"""bfloat16 of ONNX Runtime on ARM64: whether the processor has it, and whether its results are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detr_onnx.engines import Engine
from detr_onnx.engines.cpu import bfloat16_flag
from detr_onnx.engines.providers import ON_CPU, ResolvedProviders
from detr_onnx.errors import EngineError

SESSION_ENTRY = "mlas.enable_gemm_fastmath_arm64_bfloat16", "1"  # float32's matrix products round to bfloat16
PROBE_HW = 576, 576  # pixels: 324 cells. ONNX Runtime 1.32.0 sums more than 256 products wrongly
BLOCK = 16  # pixels of one colour in the generated image
MAX_DIFFERENCE = 0.05  # mean difference of logits over their standard deviation; OpenVINO's bf16 has 0.006 to 0.026


def check_processor(wanted: ResolvedProviders) -> None:
    """Raises EngineError unless the CPU is the only provider and has ARM64's bfloat16 products."""
    if wanted != ON_CPU:
        found, remedy = ", ".join(name for name, _ in wanted), "leave the providers or the precision out"
        raise EngineError("ONNX Runtime has precision bf16 on the CPU only", found=found, remedy=remedy)
    flag, is_set = bfloat16_flag()
    if not is_set:
        raise EngineError(
            "this processor has no bfloat16 products that ONNX Runtime uses",
            found=f"not set: {flag}",
            remedy="use precision fp32, or engine openvino on x86-64",
        )


def check_results(path: Path, bf16: Engine, fp32: Engine) -> None:
    """Raises EngineError if a graph's logits in bfloat16 are farther from float32 than rounding explains.

    On an emulated Neoverse N2, ONNX Runtime 1.32.0 returns wrong sums over more than 256 products whose factors are
    both computed: those of attention weights with values, in exported files. The graphs that the cache has of
    checkpoints are right, because their attention is one node.

    Args:
        path: of the graph file.
        bf16, fp32: it in both precisions. They run once, on a generated image.
    """
    height, width = bf16.canvas_hw or PROBE_HW
    shape = bf16.batch or 1, 3, -(-height // BLOCK), -(-width // BLOCK)
    blocks = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    pixels = np.ascontiguousarray(blocks.repeat(BLOCK, 2).repeat(BLOCK, 3)[:, :, :height, :width])
    exact, found = (engine.network(pixels, None)[0] for engine in (fp32, bf16))
    difference = float(np.abs(found - exact).mean() / exact.std())
    if not difference < MAX_DIFFERENCE:  # nor NaN
        raise EngineError(
            f"{bf16.title} computes {path} wrongly",
            found=f"logits that differ from float32 by {difference:.2g} of their standard deviation",
            expected=f"less than {MAX_DIFFERENCE:g}",
            remedy="use the checkpoint in place of an exported file, or precision fp32",
        )
