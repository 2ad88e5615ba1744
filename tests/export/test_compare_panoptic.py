"""Panoptic graphs are compared by the masks of all queries; a failure is recorded with its reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnx")

from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from export.compare import RIGHT, Sizes, cases
from export.compare_panoptic import anatomy, correctness, reference, session_of
from tests.parity.seeded import CONFIGS, write_checkpoint

SIZES = Sizes(single=(64, 85), other=(50, 70), mixed=((64, 85), (48, 64)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), CONFIGS["small-panoptic"], 1)


def test_our_panoptic_graph_is_right_at_any_size_and_in_batches(checkpoint, tmp_path):
    inputs, file = cases(SIZES), tmp_path / "m.onnx"
    write_onnx(file, *read_model(checkpoint), ExportOptions())
    differences = correctness(session_of(file, 1), inputs, reference(checkpoint, inputs))
    assert [*differences] == ["single", "other", "mixed"]
    assert all(max(of_case.values()) < RIGHT for of_case in differences.values())


def test_a_graph_of_one_size_has_the_error_of_the_others(checkpoint, tmp_path):
    inputs, file = cases(SIZES), tmp_path / "m.onnx"
    write_onnx(file, *read_model(checkpoint), ExportOptions(shape_hw=(64, 85), batch=1))
    differences = correctness(session_of(file, 1), inputs, reference(checkpoint, inputs))
    assert differences["single"]["masks_of_std"] < RIGHT
    assert "error" in differences["other"]
    assert "error" in differences["mixed"]


class Session:
    """A graph of another exporter, which raises an error without a text, or has other outputs than ours."""

    def __init__(self, outputs: dict[str, np.ndarray] | None) -> None:
        self.outputs = outputs

    def get_inputs(self):
        return []

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.outputs or ()]

    def run(self, names, feeds):
        if self.outputs is None:
            raise MemoryError
        return [*self.outputs.values()]


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        (None, "MemoryError"),
        ({"logits": np.zeros(1)}, "'pred_masks'"),
        ({"logits": np.zeros(1), "pred_masks": np.zeros(7)}, "cannot reshape array"),
        ({"logits": np.zeros(1), "pred_masks": np.full(2, np.nan)}, "not finite"),
    ],
)
def test_a_graph_that_fails_without_a_word_or_has_other_masks_has_an_error(outputs, error):
    names = ("single", "other", "mixed")
    inputs = {f"{name}.{part}": np.zeros(1) for name in names for part in ("pixels", "mask")}
    expected = {f"{name}.{part}": np.ones((2,)) for name in names for part in ("logits", "masks")}
    differences = correctness(Session(outputs), inputs, expected)
    assert all(of_case["error"].startswith(error) for of_case in differences.values())


def test_the_nodes_of_the_loop_count_and_ports_have_their_axes(checkpoint, tmp_path):
    file = tmp_path / "m.onnx"
    write_onnx(file, *read_model(checkpoint), ExportOptions())
    found = anatomy(file)
    assert found["inputs"]["pixel_values"] == ["batch", 3, "height", "width"]
    assert found["outputs"]["pred_masks"] == ["masks", "mask_rows", "mask_columns"]
    import onnx

    assert found["nodes"] > len(onnx.load(file).graph.node)
