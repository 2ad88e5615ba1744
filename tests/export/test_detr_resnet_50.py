"""The conversion script writes a graph that gives the same outputs as the checkpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from tests.parity.seeded import seeded_pixels

SCRIPT = Path(__file__).parents[2] / "export" / "detr_resnet_50.py"
TOLERANCE = 1e-4  # float32 sums in another order


def test_the_script_converts_a_local_checkpoint(small: Path, tmp_path: Path) -> None:
    graph = tmp_path / "converted.onnx"
    command = [sys.executable, str(SCRIPT), "-o", str(graph), "--model", str(small)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"{graph}\n"
    pixels = seeded_pixels(3, 1, 3, 64, 85)
    expected = numpy_engine(load_checkpoint(small)).network(pixels, None)
    actual = onnxruntime_engine(graph).network(pixels, None)
    for output, reference in zip(actual, expected, strict=True):
        np.testing.assert_allclose(output, reference, rtol=0, atol=TOLERANCE * reference.std())
