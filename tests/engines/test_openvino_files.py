"""OpenVINO's own files as other tools write them: names, ranks and metadata that ours do not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_onnx.engines import openvino_package
from detr_onnx.engines.bfloat16 import BF16_MIXED, REGIONS, lower
from detr_onnx.engines.openvino import COMPUTED_IN, openvino_engine
from detr_onnx.errors import EngineError, ModelFileError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory
from tests.parity.seeded import seeded_pixels

openvino = pytest.importorskip("openvino")

PIXELS = seeded_pixels(3, 1, 3, 64, 80)


def write_model(
    path: Path, *, logits: Sequence[str] = ("logits",), mask_shape: Any = None, rt_info: Any = None
) -> Path:
    """A model of the mean of the pixels; its logits have these names, and it has a mask if there is a shape of one."""
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, 3, -1, -1], np.float32)
    pixels.output(0).set_names({"pixel_values"})
    inputs = [pixels]
    if mask_shape is not None:
        mask = ops.parameter(mask_shape, np.int64)
        mask.output(0).set_names({"pixel_mask"})
        inputs.append(mask)
    mean = ops.unsqueeze(ops.reduce_mean(pixels, [1, 2, 3], keep_dims=False), [1, 2])  # [B,1,1]
    outputs = [ops.add(mean, np.zeros((1, 5, last), np.float32)) for last in (8, 4)]
    for output, names in zip(outputs, (logits, ["pred_boxes"]), strict=True):
        output.output(0).set_names({*names})
    model = openvino.Model([ops.result(output) for output in outputs], inputs, "m")
    if rt_info is not None:
        model.set_rt_info(rt_info, ["framework"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("names", [["logits"], ["logits", "/head/Add_output_0"], ["a", "logits", "zz"]])
def test_an_output_may_have_more_names_than_one(tmp_path, names):
    logits, boxes = openvino_engine(write_model(tmp_path / "m.xml", logits=names)).network(PIXELS, None)
    assert (logits.shape, boxes.shape) == ((1, 5, 8), (1, 5, 4))


def test_an_output_without_a_name_is_reported_as_a_model_error(tmp_path):
    path = write_model(tmp_path / "m.xml", logits=[])
    with pytest.raises(ModelFileError, match=r"m\.xml is not a DETR: found inputs pixel_values float32 \[\?,3,\?,\?\]"):
        openvino_engine(path)


@pytest.mark.parametrize("value", ["onnx", ["a", "b"], 3])
def test_metadata_of_another_form_is_ignored(tmp_path, value):
    assert openvino_engine(write_model(tmp_path / "m.xml", rt_info=value)).metadata == {}


def test_an_unknown_precision_in_the_metadata_is_ignored(tmp_path):
    path = tmp_path / "m.onnx"
    write_onnx(path, *read_model(demo_directory()), ExportOptions())
    model = openvino.Core().read_model(path)
    lower(model, REGIONS[BF16_MIXED], Preprocessing())
    model.set_rt_info("fp4", ["framework", COMPUTED_IN])
    openvino.save_model(model, tmp_path / "m.xml")
    assert openvino_engine(tmp_path / "m.xml").title.endswith("CPU, fp32")


@pytest.mark.parametrize("version", ["2023.3.0-13775-ceeafaf64f3", "2024.6.0", "unknown"])
def test_an_old_openvino_says_what_to_install(monkeypatch, version):
    monkeypatch.setattr(openvino, "__version__", version)
    with pytest.raises(EngineError, match=f"is too old: found {version}, expected 2025.0 or newer; run pip"):
        openvino_package.import_openvino()
