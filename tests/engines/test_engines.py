"""Every engine computes the same outputs; ONNX Runtime also runs graphs of other exporters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.errors import EngineError, ModelFileError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from tests.parity.seeded import padded_batch, seeded_pixels
from tests.small_model import CONFIG, LABELS, write_foreign_onnx

onnxruntime = pytest.importorskip("onnxruntime")

LOGITS_TOLERANCE = 1e-3  # of their standard deviation: float32 sums in another order, through thirty layers
BOXES_TOLERANCE = 1e-5  # of the image: the same, after a sigmoid
FROZEN = [1, 64, 64]  # the mask that transformers.js feeds


@pytest.fixture(scope="module")
def numpy_network(small):
    return numpy_engine(read_model(small)[0]).network


def assert_agree(found, expected) -> None:
    (logits, boxes), (expected_logits, expected_boxes) = found, expected
    assert logits.dtype == boxes.dtype == np.float32
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=LOGITS_TOLERANCE * expected_logits.std())
    np.testing.assert_allclose(boxes, expected_boxes, rtol=0, atol=BOXES_TOLERANCE)


def images(height: int = 64, width: int = 80, count: int = 1):
    return seeded_pixels(3, count, 3, height, width)


def write_graph(path: Path, inputs: dict[str, list], outputs: dict[str, list], element: int = 1) -> Path:
    """A graph with these inputs and outputs; each output is a constant of ones."""
    make = onnx.helper.make_tensor_value_info
    ones = {name: np.ones([n if isinstance(n, int) else 1 for n in axes], np.float32) for name, axes in outputs.items()}
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
        for name, array in ones.items()
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "g",
            [make(name, element, axes) for name, axes in inputs.items()],
            [make(name, onnx.TensorProto.FLOAT, axes) for name, axes in outputs.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


# The network function


@pytest.mark.parametrize("mask_given", [False, True])
def test_onnx_runtime_and_numpy_agree(graph, numpy_network, mask_given):
    pixels = images(count=2)
    mask = np.ones((2, 64, 80), bool) if mask_given else None
    assert_agree(onnxruntime_engine(graph).network(pixels, mask), numpy_network(pixels, mask))


def test_onnx_runtime_and_numpy_agree_on_a_padded_batch(graph, numpy_network):
    pixels, mask = padded_batch(images(97, 131, 3), [(97, 131), (50, 131), (97, 33)])
    assert_agree(onnxruntime_engine(graph).network(pixels, mask), numpy_network(pixels, mask))


def test_no_mask_and_a_mask_without_padding_are_the_same(graph, numpy_network):
    pixels = images()
    for network in (numpy_network, onnxruntime_engine(graph).network):
        for one, other in zip(network(pixels, None), network(pixels, np.ones((1, 64, 80), bool)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_engine_has_a_title_and_its_limits(graph, small):
    assert numpy_engine(read_model(small)[0]).title == f"numpy {np.__version__}, fp32"
    engine = onnxruntime_engine(graph)
    assert engine.title == f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider, fp32"
    assert (engine.batches_mixed_sizes, engine.canvas_hw, engine.batch, engine.classes) == (
        True,
        None,
        None,
        len(LABELS),
    )


# Other exporters' files


def test_a_graph_without_a_mask_runs_images_of_one_size(tmp_path, small, numpy_network):
    engine = onnxruntime_engine(write_foreign_onnx(tmp_path / "m.onnx", small, ExportOptions(mask=False)))
    assert not engine.batches_mixed_sizes
    pixels = images(count=2)
    assert_agree(engine.network(pixels, np.ones((2, 64, 80), bool)), numpy_network(pixels, None))


def test_a_mask_input_of_fixed_size_is_filled_with_ones(tmp_path, small, numpy_network):
    path = write_foreign_onnx(tmp_path / "m.onnx", small, ExportOptions(), pixel_mask=FROZEN)
    engine = onnxruntime_engine(path)
    assert not engine.batches_mixed_sizes
    for shape in ((64, 80), (64, 64), (33, 47)):
        assert_agree(engine.network(images(*shape), None), numpy_network(images(*shape), None))


@pytest.mark.parametrize("form", ["no mask", "frozen mask"])
def test_padding_that_a_graph_cannot_mask_is_refused(tmp_path, small, form):
    made = ExportOptions(mask=form != "no mask")
    engine = onnxruntime_engine(write_foreign_onnx(tmp_path / "m.onnx", small, made, pixel_mask=FROZEN))
    pixels, mask = padded_batch(images(), [(64, 40)])
    with pytest.raises(UsageError, match="takes no mask"):
        engine.network(pixels, mask)


@pytest.mark.parametrize("mask", [True, False])
def test_a_fixed_input_shape_is_reported(tmp_path, small, numpy_network, mask):
    path = tmp_path / "fixed.onnx"
    write_onnx(path, *read_model(small), ExportOptions((64, 80), mask=mask, batch=2))
    engine = onnxruntime_engine(path)
    assert (engine.canvas_hw, engine.batch, engine.batches_mixed_sizes) == ((64, 80), 2, mask)
    assert_agree(engine.network(images(count=2), None), numpy_network(images(count=2), None))


def test_pixels_of_a_shape_that_the_graph_does_not_take_are_one_error(tmp_path, small):
    path = tmp_path / "fixed.onnx"
    write_onnx(path, *read_model(small), ExportOptions((64, 80), batch=1))
    with pytest.raises(EngineError, match=r"pixel_values of shape \[1, 3, 64, 81\] "):
        onnxruntime_engine(path).network(images(64, 81), None)


def test_a_failed_allocation_is_a_memory_error(graph, monkeypatch):
    class Exhausted:
        def __init__(self, *arguments, **options):
            self.real = real(*arguments, **options)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def run(self, *arguments):
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for 1 buffer")

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Exhausted)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        onnxruntime_engine(graph).network(images(), None)


# Files that are no model


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as refused:
        onnxruntime_engine(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_missing_file_and_a_directory_are_one_error(tmp_path):
    assert refusal(tmp_path / "gone.onnx").endswith("found no such file; check the path")
    assert refusal(tmp_path).endswith("found a directory; check the path")


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_are_refused(tmp_path, seed, capfd):
    path = tmp_path / "m.onnx"
    path.write_bytes(np.random.default_rng(seed).bytes(200 * seed))
    assert "is not an ONNX file" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused(tmp_path, graph, share, capfd):
    whole = graph.read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: int(len(whole) * share)])
    assert "is not an ONNX file" in refusal(tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_a_model_without_its_data_file_is_refused(tmp_path, small):
    write_onnx(tmp_path / "m.onnx", *read_model(small), ExportOptions(), external_data=True)
    onnxruntime_engine(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    assert "has its weights in another file: found no file" in refusal(tmp_path / "m.onnx")


PIXELS, LOGITS, BOXES = {"pixel_values": ["b", 3, "h", "w"]}, {"logits": [1, 5, 8]}, {"pred_boxes": [1, 5, 4]}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"input": [1, 3, 8, 8]}, {"output": [1, 2]}),
        (PIXELS, LOGITS),
        (PIXELS, BOXES | {"scores": [1, 5, 8]}),
        (PIXELS | {"prompt": [1]}, LOGITS | BOXES),
        ({"pixel_values": [1, 3]}, LOGITS | BOXES),
        ({"pixel_values": [1, "h", "w", 3]}, {"logits": [1, 5], "pred_boxes": [1, 5, 4]}),
        ({"pixel_values": ["b", 1, "h", "w"]}, LOGITS | BOXES),
        (PIXELS | {"pixel_mask": ["b", 1, "h", "w"]}, LOGITS | BOXES),
        (PIXELS, LOGITS | {"pred_boxes": [1, 5, 5]}),
    ],
)
def test_a_model_that_is_not_a_detr_is_refused_with_its_signature(tmp_path, inputs, outputs):
    text = refusal(write_graph(tmp_path / "m.onnx", inputs, outputs))
    assert "m.onnx is not a DETR: found inputs" in text
    assert all(name in text for name in (*inputs, *outputs))


def test_a_model_with_uint8_inputs_is_refused(tmp_path):
    path = write_graph(tmp_path / "m.onnx", PIXELS, LOGITS | BOXES, element=onnx.TensorProto.UINT8)
    assert "uint8 [b,3" in refusal(path)


@pytest.mark.parametrize(
    ("logits", "boxes", "images"),
    [([1, 6, 8], [1, 5, 4], 1), ([1, 5, 8], [1, 5, 4], 2), (["b", "q", "c"], [1, 1, 4], 1)],
)
def test_a_model_whose_outputs_do_not_fit_each_other_is_refused(tmp_path, logits, boxes, images):
    network = onnxruntime_engine(
        write_graph(tmp_path / "m.onnx", PIXELS, {"logits": logits, "pred_boxes": boxes})
    ).network
    with pytest.raises(ModelFileError, match=rf"is not a DETR: found logits of shape .* for {images} images, expected"):
        network(seeded_pixels(3, images, 3, 64, 80), None)


def test_additional_outputs_are_ignored(tmp_path):
    path = write_graph(tmp_path / "m.onnx", PIXELS, LOGITS | BOXES | {"last_hidden_state": [1, 5, 16]})
    assert onnxruntime_engine(path).classes == 7


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_the_number_of_threads_changes_little(graph, numpy_network, threads):
    assert_agree(onnxruntime_engine(graph, threads=threads).network(images(), None), numpy_network(images(), None))


def test_without_onnx_runtime_the_error_says_what_to_install(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        EngineError, match=r"needs the package onnxruntime.*pip install onnxruntime, or use engine numpy"
    ):
        onnxruntime_engine(graph)


def test_the_config_of_these_tests_is_small():
    assert CONFIG.d_model <= 64


def test_telemetry_of_onnx_runtime_is_off(tmp_path):
    """Its wheels for Linux and macOS write an identifier into the home and report; not when it is us who start it."""
    quiet = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    home = quiet | {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "GITHUB_ACTIONS": ""}
    script = "from detr_onnx import Detector; print(Detector('demo', engine='onnxruntime').runtime)"
    done = subprocess.run([sys.executable, "-c", script], env=home, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("onnxruntime")
    assert list(tmp_path.rglob("*")) == []
