"""OpenVINO runs the same graphs with the same answers, and says what it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_model import LABELS, write_foreign_onnx, write_small_checkpoint

from detr_onnx import Detector
from detr_onnx.description import read_model
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.openvino import BF16_BACKBONE, HINTS, backbone_ends, cut, has_bfloat16, openvino_engine
from detr_onnx.errors import EngineError, ModelFileError, UsageError
from detr_onnx.export import Form, write_onnx
from detr_onnx.models import Source, choose, open_model
from export.seeded import padded_batch, seeded_pixels

LOGITS_TOLERANCE = 1e-3  # of their standard deviation: float32 sums in another order, and Winograd convolutions
BOXES_TOLERANCE = 1e-4  # of the picture: the same, after a sigmoid


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    pytest.importorskip("openvino")
    return write_small_checkpoint(tmp_path_factory.mktemp("openvino") / "small")


def graph(checkpoint: Path, directory: Path, form: Form | None = None) -> Path:
    write_onnx(directory / "model.onnx", *read_model(checkpoint), form or Form())
    return directory / "model.onnx"


def test_without_openvino_asking_for_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"run pip install 'detr-onnx\[openvino\]'"):
        openvino_engine(tmp_path / "model.onnx")


@pytest.mark.parametrize("form", [Form(), Form((64, 80)), Form(mask=False), Form((64, 80), mask=False, batch=1)])
def test_every_form_answers_as_numpy_does(checkpoint, tmp_path, form):
    pixels = seeded_pixels(3, 1, 3, 64, 80)
    logits, boxes = openvino_engine(graph(checkpoint, tmp_path, form), "fp32").network(pixels, None)
    expected_logits, expected_boxes = numpy_engine(read_model(checkpoint)[0]).network(pixels, None)
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=LOGITS_TOLERANCE * expected_logits.std())
    np.testing.assert_allclose(boxes, expected_boxes, rtol=0, atol=BOXES_TOLERANCE)


def test_a_padded_batch_answers_as_numpy_does(checkpoint, tmp_path):
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, 97, 131), [(97, 131), (50, 131), (97, 33)])
    logits, boxes = openvino_engine(graph(checkpoint, tmp_path), "fp32").network(pixels, mask)
    expected_logits, expected_boxes = numpy_engine(read_model(checkpoint)[0]).network(pixels, mask)
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=LOGITS_TOLERANCE * expected_logits.std())
    np.testing.assert_allclose(boxes, expected_boxes, rtol=0, atol=BOXES_TOLERANCE)


def test_auto_takes_openvino_where_it_is_installed(checkpoint):
    detector = Detector(checkpoint)
    assert detector.engine.startswith("openvino ")
    assert detector.labels == LABELS


def test_threads_and_precision_are_what_was_asked_for(checkpoint):
    assert open_model(checkpoint, engine="openvino", threads=1, precision="fp32").engine.title.endswith("CPU, fp32")


def test_without_a_precision_the_backbone_alone_is_in_bf16_where_the_processor_has_it(checkpoint):
    expected = "bf16-backbone" if has_bfloat16() else "fp32"
    assert open_model(checkpoint, engine="openvino").engine.title.endswith(f"CPU, {expected}")


@pytest.fixture
def bf16_that_is_fp32(monkeypatch):
    """A processor that says it has bfloat16, and parts that are computed in float32: what is left is the cutting."""
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: ["FP32", "BF16"])
    monkeypatch.setitem(HINTS, BF16_BACKBONE, ("f32", "f32", "f32"))


@pytest.mark.parametrize("form", [Form(), Form((97, 131)), Form(precision="fp16-weights")])
def test_a_graph_cut_at_its_backbone_answers_as_in_one_piece(checkpoint, tmp_path, form, bf16_that_is_fp32):
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, 97, 131), [(97, 131), (50, 131), (97, 33)])
    path = graph(checkpoint, tmp_path, form)
    cut, whole = openvino_engine(path), openvino_engine(path, "fp32")
    assert cut.title.endswith("bf16-backbone")
    assert (cut.batch, cut.canvas_hw, cut.classes) == (whole.batch, whole.canvas_hw, whole.classes)
    for found, expected in zip(cut.network(pixels, mask), whole.network(pixels, mask), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_parts_are_stem_stages_and_transformer(checkpoint, tmp_path):
    import openvino

    model = openvino.Core().read_model(graph(checkpoint, tmp_path))
    kinds = [[node.get_type_name() for node in part.get_ops()] for part in cut(model, backbone_ends(model))]
    assert [some.count("Convolution") for some in kinds] == [1, 19, 1]  # the last is the projection
    assert [some.count("MaxPool") for some in kinds] == [1, 0, 0]
    assert "MatMul" not in kinds[0] + kinds[1]


def test_a_graph_without_names_of_its_stages_is_not_cut(checkpoint, tmp_path, bf16_that_is_fp32):
    path = graph(checkpoint, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"stem", b"mets"))
    assert openvino_engine(path).title.endswith("fp32")
    with pytest.raises(ModelFileError, match="does not say where its backbone begins and ends"):
        openvino_engine(path, "bf16-backbone")


def test_bf16_in_the_backbone_alone_is_nearer_to_fp32_than_bf16_throughout(checkpoint, tmp_path):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    pixels, path = seeded_pixels(3, 1, 3, 97, 131), graph(checkpoint, tmp_path)
    exact, nearer, farther = (
        openvino_engine(path, p).network(pixels, None)[0] for p in ("fp32", BF16_BACKBONE, "bf16")
    )
    assert 0 < np.abs(nearer - exact).mean() < np.abs(farther - exact).mean()


def test_bf16_of_a_checkpoint_keeps_half_the_bytes(checkpoint, tmp_path):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    pixels = seeded_pixels(3, 1, 3, 97, 131)
    halved = open_model(checkpoint, engine="openvino", precision="bf16").engine
    (kept,) = (path for path in (tmp_path / "cache" / "built").glob("*-openvino-*") if path.is_dir())
    assert {path.name for path in kept.iterdir()} == {"model.xml", "model.bin", "manifest.json"}
    exact, whole = (openvino_engine(graph(checkpoint, tmp_path), p).network(pixels, None)[0] for p in ("fp32", "bf16"))
    off = np.abs(halved.network(pixels, None)[0] - exact).mean()
    assert 0 < off < 1.5 * np.abs(whole - exact).mean()
    assert open_model(kept / "model.xml", threads=1).labels == LABELS


@pytest.mark.parametrize("precision", ["bf16", "bf16-backbone"])
def test_a_precision_that_the_processor_lacks_is_an_error(checkpoint, monkeypatch, precision):
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: ["FP32", "INT8"])
    with pytest.raises(EngineError, match=f"this processor has no {precision}: found no bfloat16"):
        open_model(checkpoint, engine="openvino", precision=precision)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_openvinos_own_format_is_openvinos(tmp_path, engine):
    with pytest.raises(EngineError, match=r"use engine openvino|runs checkpoints"):
        choose(Source(None, tmp_path / "model.xml"), engine, None)


def test_providers_are_not_openvinos(checkpoint):
    with pytest.raises(UsageError, match="engine openvino has no providers: found CUDA"):
        open_model(checkpoint, engine="openvino", providers=["CUDA"])


def test_a_truncated_graph_is_one_clear_error(checkpoint, tmp_path):
    path = graph(checkpoint, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"OpenVINO cannot load .*model\.onnx"):
        openvino_engine(path)


def test_a_missing_graph_is_one_clear_error(checkpoint, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        openvino_engine(tmp_path / "gone.onnx")


def test_pixels_of_a_shape_that_the_graph_does_not_take_are_one_error(checkpoint, tmp_path):
    engine = openvino_engine(graph(checkpoint, tmp_path, Form((64, 80), mask=False, batch=1)))
    with pytest.raises(EngineError, match=r"OpenVINO failed on .*model\.onnx"):
        engine.network(seeded_pixels(3, 1, 3, 64, 81), None)


def test_a_graph_without_metadata_runs_with_the_config_beside_it(checkpoint, tmp_path):
    path = write_foreign_onnx(tmp_path / "foreign.onnx", checkpoint, Form())
    assert open_model(path, engine="openvino", config=checkpoint).labels == LABELS
