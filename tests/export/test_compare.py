"""Exporters are compared by the outputs of their graphs; a failure is recorded with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detr_onnx.engines.graph_file import check_graph_file
from export import torch_export
from export.compare import RIGHT, Candidate, Sizes, candidates, cases, check_source, numpy_outputs, row
from export.optimum_export import SOURCE
from export.torch_export import VARIANTS, Variant, attempt, export_all, reason
from tests.small_model import write_small_checkpoint

SIZES = Sizes(single=(64, 85), other=(50, 70), mixed=((64, 85), (48, 64)))


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    return cases(SIZES)


@pytest.fixture(scope="module")
def reference(small: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return numpy_outputs(small, inputs)


def test_our_graphs_are_right_and_those_with_a_mask_also_for_batches(small, inputs, reference, tmp_path):
    dynamic, fused, static = (
        row(graph, inputs, reference) for graph in candidates(small, tmp_path, None, None, (64, 85))
    )
    assert dynamic["free_axes"] == fused["free_axes"] == ["batch", "height", "width"]
    assert (dynamic["mask"], fused["mask"], static["mask"]) == (True, True, False)
    for graph in (dynamic, fused):
        assert all(difference["logits_of_std"] < RIGHT for difference in graph["differences"].values())
    assert static["differences"]["single"]["logits_of_std"] < RIGHT
    assert static["differences"]["other"] is static["differences"]["mixed"] is None
    assert dynamic["nodes"] > static["nodes"]


def test_an_exporter_that_failed_has_a_row_with_its_reason(small, inputs, reference, tmp_path):
    folder = tmp_path / "torch" / "dynamo-static"
    folder.mkdir(parents=True)
    (folder / "refused.txt").write_text("ValueError: no\n")
    rows = [row(graph, inputs, reference) for graph in candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))]
    refused = {row["key"]: row["refused"] for row in rows if "refused" in row}
    assert refused == {name: "ValueError: no" if name == "dynamo-static" else "not exported" for name in VARIANTS}


def test_a_graph_that_does_not_run_at_a_size_has_the_error(small, inputs, reference, tmp_path):
    fixed = candidates(small, tmp_path, None, None, (64, 85))[2].file
    wrong = {name: array[..., :-9] if name.startswith("single") else array for name, array in inputs.items()}
    difference = row(Candidate("fixed", "fixed", fixed), wrong, reference)["differences"]["single"]
    assert "dimensions" in difference["error"]


def test_a_graph_whose_outputs_are_not_numbers_has_an_error(small, inputs, reference, tmp_path):
    graph = candidates(small, tmp_path, None, None, (64, 85))[0]
    wrong = {name: array * np.float32(np.nan) if name == "single.pixels" else array for name, array in inputs.items()}
    differences = row(graph, wrong, reference)["differences"]
    assert differences["single"] == {"error": "not finite"}
    assert differences["other"]["logits_of_std"] < RIGHT


def test_graphs_of_other_weights_are_not_compared(small, tmp_path):
    (tmp_path / SOURCE).write_text("of other weights")
    with pytest.raises(SystemExit, match="was exported from other weights than"):
        check_source(tmp_path, small)


def test_an_exporter_that_raises_leaves_its_reason_and_no_graph(tmp_path, monkeypatch):
    def fails(network: object, file: Path, *rest: object) -> None:
        file.write_bytes(b"half of it")
        raise ValueError("\n  it cannot  \nand more")

    monkeypatch.setattr(torch_export, "export", fails)
    assert attempt(None, tmp_path / "it", Variant(dynamo=True, any_size=True), (64, 85)) == "ValueError: it cannot"
    assert [file.name for file in (tmp_path / "it").iterdir()] == ["refused.txt"]
    assert reason(KeyError()) == "KeyError: no reason given"


@pytest.mark.oracle
def test_the_old_exporter_of_torch_is_right_for_one_image_of_one_size(inputs, reference, tmp_path):
    small = write_small_checkpoint(tmp_path / "small")  # the weights of `small`
    names = ["torchscript-dynamic", "torchscript-static"]
    assert export_all(small, tmp_path / "torch", names, (64, 85)) == dict.fromkeys(names)
    graphs = candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))
    dynamic, static = (row(graph, inputs, reference) for graph in graphs if graph.key in names)
    assert (dynamic["mask"], static["mask"]) == (True, False)
    assert dynamic["free_axes"] == ["batch", "height", "width"]
    for graph in (dynamic, static):
        assert graph["differences"]["single"]["logits_of_std"] < RIGHT
    for file in (tmp_path / "torch").rglob("*.onnx"):
        check_graph_file(file)


@pytest.mark.oracle
def test_the_new_exporter_of_torch_is_right_for_one_image_of_one_size(inputs, reference, tmp_path):
    pytest.importorskip("onnxscript")
    small = write_small_checkpoint(tmp_path / "small")
    assert export_all(small, tmp_path / "torch", ["dynamo-static"], (64, 85)) == {"dynamo-static": None}
    graphs = candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))
    static = next(row(graph, inputs, reference) for graph in graphs if graph.key == "dynamo-static")
    assert static["producer"].startswith("pytorch")
    assert static["differences"]["single"]["logits_of_std"] < RIGHT
    for file in (tmp_path / "torch").rglob("*.onnx"):
        check_graph_file(file)
