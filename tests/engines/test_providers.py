"""Execution providers: said in three ways, found or refused in one line, started or an error, and bound to a device."""

from __future__ import annotations

import importlib.metadata
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from detr_onnx.engines import onnxruntime as engine
from detr_onnx.engines.graph_engine import Port
from detr_onnx.engines.io_binding import bound_run
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.providers import (
    keeps_cores_busy,
    parse_providers,
    provider_names,
    resolve_providers,
    takes_fused_attention,
)
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import open_model
from tests.parity.seeded import seeded_pixels

onnxruntime = pytest.importorskip("onnxruntime")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
GPU_BUILD = [TENSORRT, CUDA, CPU]


# Said


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("CUDA", ["CUDA"]),
        (" CUDA , CPU", ["CUDA", "CPU"]),
        ("CUDA:device_id=1", [("CUDA", {"device_id": "1"})]),
        (
            "TensorRT:trt_fp16_enable=True:device_id=1,CUDA",
            [("TensorRT", {"trt_fp16_enable": "True", "device_id": "1"}), "CUDA"],
        ),
        ("CUDA:empty=", [("CUDA", {"empty": ""})]),
        ("X:a=b=c", [("X", {"a": "b=c"})]),
        (r"X:a=C:\cache:b=D:/x,CPU", [("X", {"a": r"C:\cache", "b": "D:/x"}), "CPU"]),
        ('["CUDA"]', ["CUDA"]),
        ('[["TensorRT", {"shapes": "x:1x3,y:1"}], "CPU"]', [("TensorRT", {"shapes": "x:1x3,y:1"}), "CPU"]),
    ],
)
def test_names_and_options_are_read_from_the_command_line(text, asked):
    assert parse_providers(text) == asked


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "CUDA,",
        ":a=b",
        "CUDA:",
        "CUDA:a",
        "CUDA:=1",
        "CUDA:a=1:a=2",
        "[",
        "[1]",
        '[["CUDA"]]',
        '[["CUDA", 1]]',
        "[[1, {}]]",
    ],
)
def test_an_unreadable_option_is_refused_with_the_expected_form(text):
    with pytest.raises(UsageError, match=r"--providers cannot be read: found .*NAME:option=value"):
        parse_providers(text)


def test_provider_names_leaves_out_the_options():
    assert provider_names(["CUDA", ("TensorRT", {"a": 1})]) == "CUDA, TensorRT"


# Found or refused


def test_no_request_means_the_cpu():
    assert resolve_providers(None, GPU_BUILD) == [(CPU, {})]


def test_the_cpu_is_added_last():
    names = [name for name, _ in resolve_providers(["TensorRT", ("cuda", {}), "CUDAExecutionProvider"], GPU_BUILD)]
    assert names == [TENSORRT, CUDA, CPU]


def test_given_options_override_the_defaults_for_many_sizes():
    (_, options), _ = resolve_providers([("CUDA", {"device_id": 1, "cudnn_conv_algo_search": "EXHAUSTIVE"})], GPU_BUILD)
    assert options == {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "device_id": 1,
    }


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["CUDA", ("CUDA", {"device_id": 1})], "provider CUDA is requested twice"),
        ([("CPU", {"threads": 1})], "provider CPU has no options: found threads"),
        (["CPU", "CUDA"], "providers after CPU are never used: found CPU.*name it last"),
        (["CUDA", ("CUDA",)], "providers are a list of names, or of names and options"),
        ([(1, {})], "providers are a list of names, or of names and options"),
        ([("CUDA", "device_id=1")], "providers are a list of names, or of names and options"),
    ],
)
def test_contradicting_requests_are_refused(asked, says):
    with pytest.raises(UsageError, match=says):
        resolve_providers(asked, GPU_BUILD)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("CUDA", "found CPUExecutionProvider; run pip uninstall onnxruntime, then pip install onnxruntime-gpu, which"),
        ("TensorRT", "pip install onnxruntime-gpu, which takes its place"),
        ("DirectML", "pip install onnxruntime-directml"),
        ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
        ("CoreML", "use onnxruntime on macOS"),
        ("XNNPACK", "install a build of ONNX Runtime that has it"),
        ("Kuda", "did you mean cuda"),
        ("Quantum", "for CUDA or TensorRT install onnxruntime-gpu in place of onnxruntime"),
    ],
)
def test_a_missing_provider_names_the_package_to_install(monkeypatch, name, says):
    only(monkeypatch, "onnxruntime")
    with pytest.raises(EngineError, match=f"this ONNX Runtime has no provider '{name}': .*{says}"):
        resolve_providers([name], [CPU])


def test_an_onnxruntime_that_hides_another_build_is_named(monkeypatch):
    only(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    with pytest.raises(EngineError, match="onnxruntime hides onnxruntime-gpu: run pip uninstall onnxruntime onnx"):
        resolve_providers(["CUDA"], [CPU])


def only(monkeypatch, *installed: str) -> None:
    """As if these distributions were installed and no others."""

    def distribution(name: str) -> None:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


# Started or an error


@pytest.mark.parametrize("asked", [["CPU"], ["cpu"], ["CPUExecutionProvider"], ["CPU", "CPU"], None])
def test_the_cpu_can_be_requested_by_any_of_its_names(graph, asked):
    assert "CPUExecutionProvider" in onnxruntime_engine(graph, asked).title


@pytest.mark.parametrize("asked", [[], "CUDA"])
def test_providers_are_a_list_of_names(graph, asked):
    with pytest.raises(UsageError, match="providers are a list of names, or"):
        onnxruntime_engine(graph, asked)


def test_a_provider_that_this_build_lacks_is_an_error_that_names_what_it_has(graph):
    with pytest.raises(EngineError, match=r"no provider 'Quantum': found .*CPUExecutionProvider; .*onnxruntime-gpu"):
        onnxruntime_engine(graph, ["Quantum"])


def test_a_provider_that_silently_does_not_start_is_an_error(graph, monkeypatch, capfd):
    """As a GPU build of ONNX Runtime does on a machine without a driver."""
    asked = {}

    def session(path, options, providers, **others):
        asked.update(providers=providers, **others)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(
        EngineError, match=r"did not start CUDAExecutionProvider: found only CPUExecutionProvider; check"
    ):
        onnxruntime_engine(graph, ["CUDA"])
    assert [name for name, _ in asked["providers"]] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert asked["enable_fallback"] == 0
    assert capfd.readouterr().out == ""


def test_a_provider_that_fails_to_start_is_an_error_of_the_engine_not_of_the_file(graph, monkeypatch):
    def session(*arguments, **options):
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no CUDA-capable device is detected")

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(EngineError, match=r"on CUDAExecutionProvider, .*: found no CUDA-capable device is detected"):
        onnxruntime_engine(graph, ["CUDA"])


class Started:
    """A session whose nodes lie where a test says."""

    def __init__(self, nodes: dict[str, int]) -> None:
        self.nodes = nodes

    def get_providers(self) -> list[str]:
        return list(self.nodes)

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [None] * count)
            for name, count in self.nodes.items()
        ]


def test_a_provider_that_takes_no_node_is_an_error():
    with pytest.raises(EngineError, match=f"{CUDA} runs no node of the graph: found nodes: {CPU} 300"):
        engine._check_started(Started({CUDA: 0, CPU: 300}), [CUDA, CPU])


def test_the_number_of_nodes_of_each_provider_is_logged(caplog):
    caplog.set_level(logging.INFO, "detr_onnx")
    engine._check_started(Started({CUDA: 290, CPU: 10}), [CUDA, CPU])
    assert caplog.messages == [f"nodes: {CUDA} 290, {CPU} 10"]


def test_output_of_loading_libraries_is_logged_and_not_printed(caplog, capsys):
    engine._load_libraries(SimpleNamespace(preload_dlls=lambda: print("Failed to load libcudnn.so.9")))
    engine._load_libraries(SimpleNamespace())
    assert caplog.messages == ["Failed to load libcudnn.so.9"]
    assert capsys.readouterr().out == ""


# Bound to a device; the CPU is one too


@pytest.fixture(scope="module")
def session(graph):
    return onnxruntime.InferenceSession(str(graph), providers=[CPU])


def feeds(count: int, height: int, width: int) -> dict:
    pixels = seeded_pixels(count + height, count, 3, height, width)
    return {"pixel_values": pixels, "pixel_mask": np.ones((count, height, width), np.int64)}


@pytest.mark.parametrize("known", [True, False])
def test_bound_and_plain_runs_give_the_same_outputs_in_any_order(session, known):
    shapes = [tuple(value.shape) if known else ("b", "q", "c") for value in session.get_outputs()]
    names = ["logits", "pred_boxes"]
    outputs = [Port(name, "float32", shape) for name, shape in zip(names, shapes, strict=True)]
    run = bound_run(session, onnxruntime.OrtValue, outputs, "cpu", 0)
    answers = []
    for size in ((1, 64, 80), (1, 64, 80), (2, 64, 80), (1, 48, 64), (1, 64, 80)):
        given = feeds(*size)
        before = given["pixel_values"].copy()
        answers.append((run(given, names), session.run(names, given)))
        np.testing.assert_array_equal(given["pixel_values"], before)
    for found, expected in answers:  # compared at the end: no answer may lie in memory that is used again
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_on_a_device_gives_the_outputs_of_the_cpu(small, tmp_path, monkeypatch, precision):
    path = tmp_path / "m.onnx"
    write_onnx(path, *read_model(small), ExportOptions(precision=precision, fused_attention=True))
    plain = onnxruntime_engine(path).network
    monkeypatch.setattr(engine, "DEVICES", {CPU: "cpu"})
    bound = onnxruntime_engine(path).network
    pixels = seeded_pixels(1, 1, 3, 64, 80)
    for one, other in zip(plain(pixels, None), bound(pixels, None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_outputs_of_dynamic_length_are_returned_from_a_device(small, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    write_onnx(path, *read_model(small), ExportOptions(attention=True))
    plain = onnxruntime_engine(path).attention()
    monkeypatch.setattr(engine, "DEVICES", {CPU: "cpu"})
    bound = onnxruntime_engine(path).attention()
    pixels, cells = seeded_pixels(1, 1, 3, 64, 80), np.array([[0, 3]])
    for threshold in (-1.0, 2.0, 0.3):
        expected = plain.attend(pixels, None, threshold, cells)
        for one, other in zip(bound.attend(pixels, None, threshold, cells), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_device_gives_the_same_outputs_with_and_without_masks_in_turns(panoptic, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    write_onnx(path, *read_model(panoptic), ExportOptions())
    plain = onnxruntime_engine(path)
    monkeypatch.setattr(engine, "DEVICES", {CPU: "cpu"})
    bound = onnxruntime_engine(path)
    pixels = seeded_pixels(1, 1, 3, 64, 80)
    for threshold in (None, 0.0, None, 0.0):
        answers = [
            opened.network(pixels, None) if threshold is None else opened.segment(pixels, None, threshold)
            for opened in (plain, bound)
        ]
        for one, other in zip(*answers, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_failure_of_a_bound_run_is_one_error(graph, monkeypatch):
    monkeypatch.setattr(engine, "DEVICES", {CPU: "cpu"})
    network = onnxruntime_engine(graph).network
    with pytest.raises(EngineError, match=r"failed on .* with pixel_values of shape \[1, 4, 64, 80\]"):
        network(np.zeros((1, 4, 64, 80), np.float32), None)


# The graph that suits them


@pytest.mark.parametrize(
    ("asked", "fused"),
    [
        (None, True),
        (["CPU"], True),
        (["CUDA"], True),
        ([("DirectML", {})], True),
        (["TensorRT", "CUDA"], False),
        (["CoreML"], False),
        (["XNNPACK"], False),
    ],
)
def test_attention_is_fused_for_providers_with_a_kernel_for_it(asked, fused):
    assert takes_fused_attention(asked) == fused


def test_a_checkpoint_is_written_in_the_precision_and_form_that_a_gpu_takes(small, monkeypatch, tmp_path):
    written = []
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "detr_onnx.exporter.onnx_file.write_onnx", lambda path, *model, **options: written.append(model[-1])
    )
    for providers in (["CUDA"], ["TensorRT", "CUDA"]):
        with pytest.raises(EngineError, match="this ONNX Runtime has no provider"):
            open_model(small, EngineOptions(providers=providers, precision="fp16"))
    assert [(form.precision, form.fused_attention) for form in written] == [("fp16", True), ("fp16", False)]


def test_without_cuda_the_command_line_names_the_available_providers_and_the_package_to_install(graph):
    with pytest.raises(EngineError) as refused:
        open_model(graph, EngineOptions(engine="onnxruntime", providers=[("CUDA", {"device_id": 0})]))
    text = str(refused.value)
    assert text.startswith("this ONNX Runtime has no provider 'CUDA': found ")
    assert (CPU in text, "onnxruntime-gpu" in text, "\n" in text) == (True, True, False)


@pytest.mark.parametrize(
    ("spec", "busy"),
    [(None, True), (["CPU"], True), (["CPUExecutionProvider"], True), (["XNNPACK"], True), (["CUDA"], False),
     ([("CUDAExecutionProvider", {"device_id": 1}), "CPU"], False), (["TensorRT"], False)],
)  # fmt: skip
def test_the_first_provider_decides_whether_the_cores_are_busy(spec, busy):
    assert keeps_cores_busy(spec) is busy
