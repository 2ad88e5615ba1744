"""The benchmark of GPUs runs to its end without one, on the CPU's provider."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import gpu_table

ROOT = Path(__file__).parents[2]


def run(directory: Path, *options: str) -> dict:
    file = directory / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--model", "weights/demo", "--work", str(directory)]
    command += ["--runs", "1", "--streamed", "2", "--json", str(file), *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    return json.loads(file.read_text(encoding="utf-8"))


def test_without_a_gpu_all_of_it_runs_on_the_cpu(tmp_path):
    pytest.importorskip("onnx")
    results = run(tmp_path, "--providers", "CPU", "--batches", "1,2")
    assert [(row["key"], row["batch"]) for row in results["rows"]] == [("CPU-fp32", 1), ("CPU-fp32", 2)]
    assert results["agreement"]["CPU-fp32"]["logits"] < 1e-3 * results["agreement"]["CPU-fp32"]["logits_std"]
    assert results["stream_images_per_s"]["CPU"] > 0
    assert "CPU, fp32" in gpu_table(results)


def test_a_provider_that_is_not_there_is_left_out_with_its_reason(tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a GPU")
    results = run(tmp_path, "--providers", "CUDA", "--batches", "1")
    assert (results["rows"], results["agreement"], results["stream_images_per_s"]) == ([], {}, {})
    assert "onnxruntime-gpu" in json.dumps(results["left_out"])
