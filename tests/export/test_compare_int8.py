"""int8 files of different quantizers are compared with fp32 in the runtime whose graph they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, demo_image
from export.compare_int8 import QUANTIZERS, compared, megabytes, timed


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """`fp32.onnx` of the demo model, the same as `ours.onnx`, and as `nncf.xml` where OpenVINO is installed."""
    directory = tmp_path_factory.mktemp("work")
    for name in ("fp32.onnx", "ours.onnx"):
        write_onnx(directory / name, *read_model(demo_directory()), ExportOptions(mask=False))
    return directory


def test_the_same_graph_agrees_in_all_detections(work):
    (row,) = compared([{"key": "ours"}], demo_directory(), work, [demo_image()])
    assert row["runtime"] == "onnxruntime"
    assert row["agreement"]["reference"] > 0
    assert (row["agreement"]["identical"], row["agreement"]["score_difference"]) == (1.0, 0.0)


def test_a_graph_of_openvino_runs_in_openvino_and_has_its_weights_beside_it(work):
    openvino = pytest.importorskip("openvino")
    file = work / QUANTIZERS["nncf-openvino"][1]
    openvino.save_model(openvino.Core().read_model(work / "fp32.onnx"), file, compress_to_fp16=False)
    (row,) = compared([{"key": "nncf-openvino"}], demo_directory(), work, [demo_image()])
    assert row["runtime"] == "openvino"
    assert row["agreement"]["identical"] == 1.0
    assert row["agreement"]["score_difference"] < 1e-3  # of the demo picture they happen to be equal
    assert megabytes(file) == pytest.approx(megabytes(work / "fp32.onnx"), rel=0.1)


def test_a_quantizer_that_reports_versions_is_recorded_with_them_and_its_time():
    report = """print('{"seconds": 1.0, "versions": {"nncf": "9.9"}}'); __import__("time").sleep(0.3)"""
    times, versions = timed([sys.executable, "-c", report], {})
    assert versions == {"nncf": "9.9"}
    assert times["seconds"] >= 0.3
    assert times["processor_seconds"] >= 0  # a short program may have used less than a tick
    assert "onnx" in timed([sys.executable, "-c", ""], {})[1]
