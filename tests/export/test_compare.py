"""The exporters' graphs are compared by what they answer, and what cannot be exported or run says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export import torch_export
from export.compare import RIGHT, Candidate, Sizes, candidates, cases, check_source, numpy_answers, row
from export.optimum_export import SOURCE
from export.torch_export import VARIANTS, Variant, attempt, export_all, reason
from tests.small_model import write_small_checkpoint

SIZES = Sizes(single=(64, 85), other=(50, 70), mixed=((64, 85), (48, 64)))


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    return cases(SIZES)


@pytest.fixture(scope="module")
def reference(small: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return numpy_answers(small, given)


def test_ours_are_right_and_the_one_with_a_mask_for_batches_too(small, given, reference, tmp_path):
    dynamic, fused, static = (row(one, given, reference) for one in candidates(small, tmp_path, None, None, (64, 85)))
    assert dynamic["free_axes"] == fused["free_axes"] == ["batch", "height", "width"]
    assert (dynamic["mask"], fused["mask"], static["mask"]) == (True, True, False)
    for one in (dynamic, fused):
        assert all(found["logits_of_std"] < RIGHT for found in one["differences"].values())
    assert static["differences"]["single"]["logits_of_std"] < RIGHT
    assert static["differences"]["other"] is static["differences"]["mixed"] is None
    assert dynamic["nodes"] > static["nodes"]


def test_an_exporter_that_wrote_nothing_has_a_row_with_its_reason(small, given, reference, tmp_path):
    folder = tmp_path / "torch" / "dynamo-static"
    folder.mkdir(parents=True)
    (folder / "refused.txt").write_text("ValueError: no\n")
    rows = [row(one, given, reference) for one in candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))]
    refused = {one["key"]: one["refused"] for one in rows if "refused" in one}
    assert refused == {name: "ValueError: no" if name == "dynamo-static" else "not exported" for name in VARIANTS}


def test_a_graph_that_does_not_run_at_a_size_says_why(small, given, reference, tmp_path):
    fixed = candidates(small, tmp_path, None, None, (64, 85))[2].file
    wrong = {name: array[..., :-9] if name.startswith("single") else array for name, array in given.items()}
    told = row(Candidate("fixed", "fixed", fixed), wrong, reference)["differences"]["single"]
    assert "dimensions" in told["error"]


def test_graphs_of_other_weights_are_not_compared(small, tmp_path):
    (tmp_path / SOURCE).write_text("of other weights")
    with pytest.raises(SystemExit, match="was exported from other weights than"):
        check_source(tmp_path, small)


def test_an_exporter_that_gives_up_leaves_its_reason_and_no_graph(tmp_path, monkeypatch):
    def gives_up(network: object, file: Path, *rest: object) -> None:
        file.write_bytes(b"half of it")
        raise ValueError("\n  it cannot  \nand more")

    monkeypatch.setattr(torch_export, "export", gives_up)
    assert attempt(None, tmp_path / "it", Variant(dynamo=True, any_size=True), (64, 85)) == "ValueError: it cannot"
    assert [file.name for file in (tmp_path / "it").iterdir()] == ["refused.txt"]
    assert reason(KeyError()) == "KeyError: no reason given"


@pytest.mark.oracle
def test_torch_s_old_exporter_is_right_for_one_image_of_one_size(given, reference, tmp_path):
    small = write_small_checkpoint(tmp_path / "small")  # the weights of `small`
    names = ["torchscript-dynamic", "torchscript-static"]
    assert export_all(small, tmp_path / "torch", names, (64, 85)) == dict.fromkeys(names)
    found = candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))
    dynamic, static = (row(one, given, reference) for one in found if one.key in names)
    assert (dynamic["mask"], static["mask"]) == (True, False)
    assert dynamic["free_axes"] == ["batch", "height", "width"]
    for one in (dynamic, static):
        assert one["differences"]["single"]["logits_of_std"] < RIGHT


@pytest.mark.oracle
def test_torch_s_new_exporter_is_right_for_one_image_of_one_size(given, reference, tmp_path):
    pytest.importorskip("onnxscript")
    small = write_small_checkpoint(tmp_path / "small")
    assert export_all(small, tmp_path / "torch", ["dynamo-static"], (64, 85)) == {"dynamo-static": None}
    found = candidates(small, tmp_path, None, tmp_path / "torch", (64, 85))
    static = next(row(one, given, reference) for one in found if one.key == "dynamo-static")
    assert static["producer"].startswith("pytorch")
    assert static["differences"]["single"]["logits_of_std"] < RIGHT
