"""OpenVINO runs the same graphs with the same answers, and says what it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.checkpoint.safetensors import widened
from detr_onnx.engines.bfloat16 import BF16_BACKBONE, BF16_MIXED, REGIONS, is_lowered, lower, raise_to_float32
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.openvino import convert_to_ir, openvino_engine
from detr_onnx.engines.openvino_package import has_bfloat16
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import EngineError, ModelFileError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.load import Source
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import choose, open_model
from detr_onnx.network.quantization import ConvQuantParams, QuantParams
from tests.cli.command_line import ROOT
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors
from tests.small_model import LABELS, write_foreign_onnx, write_small_checkpoint

LOGITS_TOLERANCE = 1e-3  # of their standard deviation: float32 sums in another order, and Winograd convolutions
BF16_TOLERANCE = 0.1  # of the standard deviation, in the mean: 8 bits through twenty convolutions; 1 is a wrong answer
BOXES_TOLERANCE = 1e-4  # of the image: the same, after a sigmoid
IMPORTS_OURS = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    pytest.importorskip("openvino")
    return write_small_checkpoint(tmp_path_factory.mktemp("openvino") / "small")


def graph(checkpoint: Path, directory: Path, form: ExportOptions | None = None) -> Path:
    write_onnx(directory / "model.onnx", *read_model(checkpoint), form or ExportOptions())
    return directory / "model.onnx"


def test_without_openvino_asking_for_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"run pip install 'detr-onnx\[openvino\]'"):
        openvino_engine(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "form",
    [ExportOptions(), ExportOptions((64, 80)), ExportOptions(mask=False), ExportOptions((64, 80), mask=False, batch=1)],
)
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
    assert detector.engine == "openvino"
    assert detector.class_names == LABELS


def test_threads_and_precision_are_what_was_asked_for(checkpoint):
    assert open_model(checkpoint, EngineOptions("openvino", threads=1, precision="fp32")).engine.title.endswith(
        "CPU, fp32"
    )


def test_without_a_precision_the_products_are_in_bf16_where_the_processor_has_it(checkpoint):
    expected = "bf16-mixed" if has_bfloat16() else "fp32"
    assert open_model(checkpoint, EngineOptions("openvino")).engine.title.endswith(f"CPU, {expected}")


@pytest.fixture
def any_processor_has_bf16(monkeypatch):
    """Where it does not, OpenVINO computes what is in bfloat16 in float32, from the rounded weights."""
    openvino = pytest.importorskip("openvino")

    monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: ["FP32", "BF16"])


@pytest.mark.parametrize("form", [ExportOptions(), ExportOptions((130, 163)), ExportOptions(precision="fp16-weights")])
@pytest.mark.parametrize("precision", [BF16_MIXED, BF16_BACKBONE])
def test_partly_in_bf16_a_graph_answers_nearly_as_in_fp32(
    checkpoint, tmp_path, form, precision, any_processor_has_bf16
):
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, 130, 163), [(130, 163), (70, 163), (130, 33)])
    path = graph(checkpoint, tmp_path, form)
    lowered, exact = openvino_engine(path, precision), openvino_engine(path, "fp32")
    assert lowered.title.endswith(precision)
    assert (lowered.batch, lowered.canvas_hw, lowered.classes) == (exact.batch, exact.canvas_hw, exact.classes)
    for found, expected in zip(lowered.network(pixels, mask), exact.network(pixels, mask), strict=True):
        assert 0 < np.abs(found - expected).mean() < BF16_TOLERANCE * expected.std()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith(("small", "basic"))])
def test_every_kind_of_backbone_can_be_in_bf16(tmp_path, name, any_processor_has_bf16):
    path = tmp_path / "model.onnx"
    write_onnx(path, Checkpoint(CONFIGS[name], seeded_tensors(CONFIGS[name], 5)), Preprocessing(), ExportOptions())
    pixels = seeded_pixels(3, 1, 3, 130, 163)
    lowered, exact = openvino_engine(path), openvino_engine(path, "fp32")
    assert lowered.title.endswith("bf16-mixed")
    for found, expected in zip(lowered.network(pixels, None), exact.network(pixels, None), strict=True):
        assert 0 < np.abs(found - expected).mean() < BF16_TOLERANCE * expected.std()


NARROW_SIZES = [(480, 32), (32, 480), (97, 32), (24, 33), (33, 24), (127, 200), (1, 1)]


@pytest.mark.parametrize("precision", [BF16_MIXED, BF16_BACKBONE, "bf16"])
@pytest.mark.parametrize("size_hw", NARROW_SIZES)
def test_narrow_images_are_computed_in_float32(checkpoint, tmp_path, precision, size_hw, any_processor_has_bf16):
    path = graph(checkpoint, tmp_path)
    lowered, exact = openvino_engine(path, precision), openvino_engine(path, "fp32")
    pixels = seeded_pixels(3, 1, 3, *size_hw)
    for found, expected in zip(lowered.network(pixels, None), exact.network(pixels, None), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("precision", [BF16_MIXED, BF16_BACKBONE])
def test_narrow_images_of_a_graph_kept_in_bf16_are_computed_in_float32(
    checkpoint, tmp_path, precision, any_processor_has_bf16
):
    path = graph(checkpoint, tmp_path)
    write_onnx(path, *read_model(checkpoint), ExportOptions(), external_data=True)
    exact = openvino_engine(graph(checkpoint, tmp_path.parent), "fp32")
    convert_to_ir(precision, path)
    lowered = openvino_engine(path.with_suffix(".xml"))
    assert lowered.title.endswith(precision)
    for size_hw in NARROW_SIZES:
        pixels = seeded_pixels(3, 1, 3, *size_hw)
        for found, expected in zip(lowered.network(pixels, None), exact.network(pixels, None), strict=True):
            assert np.abs(found - expected).mean() < BF16_TOLERANCE / 2 * expected.std()  # rounded weights alone


@pytest.mark.parametrize("precision", [BF16_MIXED, BF16_BACKBONE, "bf16"])
def test_narrow_images_have_the_same_answer_each_time(checkpoint, tmp_path, precision):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    engine = openvino_engine(graph(checkpoint, tmp_path), precision)
    for size_hw in NARROW_SIZES:
        pixels = seeded_pixels(3, 1, 3, *size_hw)
        first, again = (engine.network(pixels, None) for _ in range(2))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])


def kinds(model: object, dtype: str) -> list[str]:
    """The types of the nodes that give out a type of number."""
    return [node.get_type_name() for node in model.get_ops() if node.get_output_size() and says(node, dtype)]


def says(node: object, dtype: str) -> bool:
    return node.get_output_element_type(0).get_type_name() == dtype


def lowered_model(path: Path, precision: str) -> object:
    import openvino

    model = openvino.Core().read_model(path)
    assert not is_lowered(model)
    lower(model, REGIONS[precision], Preprocessing())
    assert is_lowered(model)
    assert not [node for node in model.get_ops() if node.get_type_name() == "Result" and says(node, "bf16")]
    return model


def test_bf16_of_the_backbone_begins_behind_the_stem_and_ends_behind_the_projection(checkpoint, tmp_path):
    model = lowered_model(graph(checkpoint, tmp_path), BF16_BACKBONE)
    assert kinds(model, "f32").count("Convolution") == 1  # the stem's
    assert kinds(model, "bf16").count("Convolution") == 19 + 1  # the stages' and the projection
    assert not {"MatMul", "MaxPool", "Softmax"} & {*kinds(model, "bf16")}
    assert kinds(model, "bf16").count("Convert") == 1


def test_mixed_bf16_keeps_sums_positions_and_the_queries_of_the_decoder_in_float32(checkpoint, tmp_path):
    model = lowered_model(graph(checkpoint, tmp_path), BF16_MIXED)
    in_bf16, in_fp32 = kinds(model, "bf16"), kinds(model, "f32")
    assert "Convolution" not in in_fp32
    assert {"Sin", "Cos", "MVN"} <= {*in_fp32}
    assert not {"Sin", "Cos", "MVN"} & {*in_bf16}
    names = {n.get_friendly_name() for n in model.get_ops() if n.get_type_name() == "MatMul" and says(n, "bf16")}
    assert {name.split("/")[3] for name in names if name.startswith("/encoder")} == {"self_attn", "fc1", "fc2"}
    assert {name.split("/")[-2] for name in names if name.startswith("/decoder")} == {"k_proj", "v_proj", "fc1", "fc2"}
    config = CONFIGS["small"]
    assert len(names) == 8 * config.encoder_layers + 4 * config.decoder_layers


@pytest.mark.parametrize("precision", [BF16_MIXED, BF16_BACKBONE])
def test_what_is_raised_again_differs_by_rounded_weights_only(checkpoint, tmp_path, precision):
    import openvino

    model = lowered_model(graph(checkpoint, tmp_path), precision)
    raise_to_float32(model)
    assert not is_lowered(model)
    pixels = seeded_pixels(3, 1, 3, 130, 163)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    logits = compiled({"pixel_values": pixels, "pixel_mask": np.ones((1, 130, 163), np.int64)})["logits"]
    expected = openvino_engine(graph(checkpoint, tmp_path), "fp32").network(pixels, None)[0]
    assert 0 < np.abs(logits - expected).mean() < BF16_TOLERANCE / 2 * expected.std()


@pytest.mark.parametrize("preprocessing", [
    Preprocessing(), Preprocessing(rescale_factor=1.0, mean=(0.0,) * 3, std=(1.0,) * 3),
    Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3), Preprocessing(rescale_factor=1 / 127.5, mean=(1.0, 0.9, 1.1)),
], ids=str)  # fmt: skip
@pytest.mark.parametrize(("colour", "share"), [(0, 0.02), (20, 0.4), (90, 0.9)])
def test_the_first_convolution_of_an_image_loses_little(checkpoint, tmp_path, preprocessing, colour, share):
    """A share of what rounded weights lose; the smaller, the less the colours differ (photographs: about 20 levels)."""
    import openvino

    middle = np.round(np.reshape(preprocessing.mean, (1, 3, 1, 1)) / preprocessing.rescale_factor)
    numbers = np.random.default_rng(5)
    levels = middle + numbers.integers(-100, 101, (1, 1, 64, 80)) + np.rint(numbers.normal(0, colour, (1, 3, 64, 80)))
    pixels = pixels_of(levels, preprocessing)

    def first(model: object) -> np.ndarray:
        return output_of(model, "/backbone/conv1/Relu", pixels)[:, :, 2:-2, 2:-2]  # at the border, padding is rounded

    exact, rounded, raised = (openvino.Core().read_model(graph(checkpoint, tmp_path)) for _ in range(3))
    lower(raised, REGIONS[BF16_MIXED], preprocessing)
    raise_to_float32(raised)
    (conv,) = (node for node in rounded.get_ops() if node.get_friendly_name() == "/backbone/conv1/Conv/WithoutBiases")
    weights = conv.input(1).get_source_output().get_node().data
    weights = widened(((weights.view(np.uint32) + 0x8000) >> 16).astype(np.uint16))
    conv.input(1).replace_source_output(openvino.op.Constant(weights).output(0))
    expected = first(exact)
    assert np.abs(first(raised) - expected).mean() < share * np.abs(first(rounded) - expected).mean()


def pixels_of(levels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The pixels [B,3,H,W] of levels."""
    mean, std = (np.reshape(v, (1, 3, 1, 1)) for v in (preprocessing.mean, preprocessing.std))
    return ((levels * preprocessing.rescale_factor - mean) / std).astype(np.float32)


def output_of(model: object, name: str, pixels: np.ndarray) -> np.ndarray:
    """What a node computes, in float32."""
    import openvino

    (node,) = (node for node in model.get_ops() if node.get_friendly_name() == name)
    (parameter,) = (parameter for parameter in model.get_parameters() if len(parameter.get_partial_shape()) == 4)
    cut = openvino.Model([node.output(0)], [parameter])
    compiled = openvino.Core().compile_model(cut, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (result,) = compiled({"pixel_values": pixels}).values()
    return result


def test_the_stem_of_an_int8_file_loses_less_in_bf16(checkpoint, tmp_path):
    """It reads levels, and its output is rounded once, behind the pooling."""
    import openvino

    preprocessing, convolved, pooled = Preprocessing(), "/backbone/conv1/Relu", "/backbone/MaxPool"
    pixels = pixels_of(np.random.default_rng(3).integers(0, 256, (1, 1, 64, 80)).repeat(3, axis=1), preprocessing)
    exact = output_of(openvino.Core().read_model(graph(checkpoint, tmp_path)), convolved, pixels)
    steps = QuantParams.of_range(0, float(exact.max()))
    quant_params = {"backbone.conv1": ConvQuantParams(QuantParams.of_range(-2.2, 2.7), steps)}
    path = graph(checkpoint, tmp_path, ExportOptions(precision="int8", quant_params=quant_params))
    in_int8, lowered = (openvino.Core().read_model(path) for _ in range(2))
    lower(lowered, REGIONS[BF16_MIXED], preprocessing, stages_in_int8=True)
    raise_to_float32(lowered)
    lost = [float(np.abs(output_of(m, convolved, pixels) - exact).mean()) for m in (in_int8, lowered)]
    assert lost[1] < 0.9 * lost[0]
    after = output_of(lowered, pooled, pixels)
    assert not np.array_equal(steps.rounded(after), after)
    behind = output_of(lowered, "/backbone/DequantizeLinear", pixels)
    np.testing.assert_allclose(behind, steps.rounded(after), atol=1e-6)


def test_what_biases_lose_in_bf16_is_added_again(checkpoint, tmp_path):
    import openvino

    exact, lowered = (openvino.Core().read_model(graph(checkpoint, tmp_path)) for _ in range(2))
    lower(lowered, REGIONS[BF16_BACKBONE], Preprocessing())
    biases = {name: value for name, value in constants(exact) if name.endswith("bias") and "backbone.layer" in name}
    kept = [value for _, value in constants(lowered)]
    for bias in biases.values():
        rounded = next(k for k in kept if k.size == bias.size and np.allclose(k.ravel(), bias, rtol=2**-8))
        lost = bias - rounded.ravel()
        assert np.abs(lost).max() > 0
        assert any(k.size == bias.size and np.allclose(k.ravel(), lost, rtol=2**-8, atol=0) for k in kept)


def constants(model: object) -> list[tuple[str, np.ndarray]]:
    """Name and values, as float32, of each constant of floats."""
    return [
        (node.get_friendly_name(), node.get_data(dtype=np.float32))
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and (says(node, "bf16") or says(node, "f32"))
    ]


def test_a_graph_whose_nodes_have_other_names_stays_in_fp32(checkpoint, tmp_path, any_processor_has_bf16):
    path = graph(checkpoint, tmp_path)
    path.write_bytes(path.read_bytes().replace(b"/decoder/", b"/redoced/"))
    assert openvino_engine(path).title.endswith("fp32")
    with pytest.raises(ModelFileError, match="no nodes in float32 with the names of our graphs; use precision fp32"):
        openvino_engine(path, "bf16-mixed")


def test_a_graph_whose_nodes_another_tool_has_merged_stays_in_fp32(checkpoint, tmp_path, any_processor_has_bf16):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "merged.onnx")
    onnxruntime.InferenceSession(str(graph(checkpoint, tmp_path)), options, providers=["CPUExecutionProvider"])
    assert openvino_engine(tmp_path / "merged.onnx").title.endswith("fp32")
    for precision in (BF16_MIXED, BF16_BACKBONE):
        with pytest.raises(ModelFileError, match=f"cannot be computed in {precision}"):
            openvino_engine(tmp_path / "merged.onnx", precision)


def test_a_graph_in_fp16_stays_in_fp32(checkpoint, tmp_path, any_processor_has_bf16):
    path = graph(checkpoint, tmp_path, ExportOptions(precision="fp16"))
    assert openvino_engine(path).title.endswith("fp32")
    with pytest.raises(ModelFileError, match="cannot be computed in bf16-mixed"):
        openvino_engine(path, "bf16-mixed")


def test_a_backbone_in_int8_is_not_put_into_bf16(checkpoint, tmp_path, any_processor_has_bf16):
    path = graph(checkpoint, tmp_path, ExportOptions(precision="int8"))
    with pytest.raises(ModelFileError, match=r"cannot be converted to bf16: found int8; use precision bf16-mixed"):
        openvino_engine(path, "bf16-backbone")


def test_bf16_in_parts_is_nearer_to_fp32_than_bf16_throughout(checkpoint, tmp_path):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    path, off = graph(checkpoint, tmp_path), {BF16_BACKBONE: 0.0, BF16_MIXED: 0.0, "bf16": 0.0}
    engines = {precision: openvino_engine(path, precision) for precision in ("fp32", *off)}
    for seed in range(6):  # rounding is random: with one image the order can be another
        pixels = seeded_pixels(seed, 1, 3, 130, 163)
        exact = engines["fp32"].network(pixels, None)[0]
        for precision in off:
            off[precision] += float(np.abs(engines[precision].network(pixels, None)[0] - exact).mean())
    assert 0 < off[BF16_BACKBONE] < off[BF16_MIXED] < off["bf16"]


def test_bf16_of_a_checkpoint_keeps_half_the_bytes(checkpoint, tmp_path):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    pixels = seeded_pixels(3, 1, 3, 130, 163)
    halved = open_model(checkpoint, EngineOptions("openvino", precision="bf16")).engine
    (kept,) = (path for path in (tmp_path / "cache" / "built").glob("*-openvino-*") if path.is_dir())
    assert {path.name for path in kept.iterdir()} == {"model.xml", "model.bin", "manifest.json"}
    exact, whole = (openvino_engine(graph(checkpoint, tmp_path), p).network(pixels, None)[0] for p in ("fp32", "bf16"))
    off = np.abs(halved.network(pixels, None)[0] - exact).mean()
    assert 0 < off < 1.5 * np.abs(whole - exact).mean()
    assert open_model(kept / "model.xml", EngineOptions(threads=1)).labels == LABELS


def test_what_is_kept_in_bf16_is_not_called_fp32(checkpoint, tmp_path):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    direct = openvino_engine(graph(checkpoint, tmp_path), BF16_MIXED)
    kept = open_model(checkpoint, EngineOptions("openvino")).engine
    pixels = seeded_pixels(3, 1, 3, 130, 163)
    found, expected = (engine.network(pixels, None)[0] for engine in (kept, direct))
    assert np.abs(found - expected).mean() < BF16_TOLERANCE / 2 * expected.std()  # weights in float16 elsewhere
    (path,) = (tmp_path / "cache" / "built").glob("*-bf16-mixed/model.xml")
    assert openvino_engine(path).title.endswith("bf16-mixed")
    for other in ("fp32", "bf16", "bf16-backbone"):
        with pytest.raises(ModelFileError, match=rf"is not in {other}: found parts in .*; use precision bf16-mixed"):
            openvino_engine(path, other)


@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed", "bf16-backbone"])
def test_a_precision_that_the_processor_lacks_is_an_error(checkpoint, monkeypatch, precision):
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: ["FP32", "INT8"])
    with pytest.raises(EngineError, match=f"this processor does not compute in {precision}: found no bfloat16"):
        open_model(checkpoint, EngineOptions("openvino", precision=precision))


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_openvinos_own_format_is_openvinos(tmp_path, engine):
    with pytest.raises(EngineError, match=r"use engine openvino|runs checkpoints"):
        choose(Source(None, tmp_path / "model.xml"), EngineOptions(engine))


def test_providers_are_not_openvinos(checkpoint):
    with pytest.raises(UsageError, match="engine openvino does not take providers: found CUDA; use engine onnxruntime"):
        open_model(checkpoint, EngineOptions("openvino", providers=["CUDA"]))


def test_a_truncated_graph_is_one_clear_error(checkpoint, tmp_path):
    path = graph(checkpoint, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ModelFileError, match=r"model\.onnx is not an ONNX file: found 1000 bytes, which end in the middle of a field"
    ):
        openvino_engine(path)


def test_a_missing_graph_is_one_clear_error(checkpoint, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        openvino_engine(tmp_path / "gone.onnx")


def test_pixels_of_a_shape_that_the_graph_does_not_take_are_one_error(checkpoint, tmp_path):
    engine = openvino_engine(graph(checkpoint, tmp_path, ExportOptions((64, 80), mask=False, batch=1)))
    with pytest.raises(EngineError, match=r"OpenVINO failed on .*model\.onnx"):
        engine.network(seeded_pixels(3, 1, 3, 64, 81), None)


def test_a_graph_without_metadata_runs_with_the_config_beside_it(checkpoint, tmp_path):
    path = write_foreign_onnx(tmp_path / "foreign.onnx", checkpoint, ExportOptions())
    assert open_model(path, EngineOptions("openvino"), config=checkpoint).labels == LABELS


AFFINITIES = """
import contextlib, os, sys, threading
import numpy as np
from detr_onnx.engines.options import EngineOptions
from detr_onnx.models.open import open_model
network = open_model(sys.argv[1], EngineOptions("openvino", threads=1)).engine.network
images = np.zeros((1, 3, 320, 320), np.float32), np.ones((1, 320, 320), bool)
working = threading.Thread(target=lambda: [network(*images) for _ in range(20)])
working.start()
found = set()
while working.is_alive():  # threads are pinned while they work
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            found.add(len(os.sched_getaffinity(int(task))))
print(found)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_few_threads_are_not_pinned_so_that_processes_do_not_share_a_core(checkpoint, tmp_path):
    variables = os.environ | {"DETR_ONNX_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", AFFINITIES, str(checkpoint)], capture_output=True, text=True, env=variables, check=True
    )
    assert done.stdout == f"{ {len(os.sched_getaffinity(0))} }\n"


FORKED = """
import multiprocessing
from detr_onnx import Detector
from detr_onnx.errors import EngineError
from detr_onnx.models.open import demo_image

def detect(image):
    try:
        return len(Detector("demo", engine="openvino")(image))
    except EngineError as error:
        return str(error)

def in_a_fork():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(detect, (demo_image(),))

if __name__ == "__main__":
    detector = Detector("demo", engine="openvino")
    print(in_a_fork())
    del detector
    print(in_a_fork())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_opens_no_second_model_and_says_so(tmp_path):
    """OpenVINO would hang or abort there, and the pool wait for ever."""
    pytest.importorskip("openvino")
    (tmp_path / "forked.py").write_text(FORKED)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "forked.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=IMPORTS_OURS, timeout=60)
    refused, accepted = done.stdout.splitlines()
    assert "found a process that was forked while a model was open in OpenVINO; start processes with" in refused
    assert int(accepted) > 0  # the first one is no longer open
