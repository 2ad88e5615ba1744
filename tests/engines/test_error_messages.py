"""What engines say is wrong survives the shortening of their messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detr_onnx.engines.error_messages import LONGEST_REASON, onnxruntime_reason, openvino_reason
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import ModelFileError
from detr_onnx.models.open import demo_directory, open_model

IN_NODE = (
    "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Load model from /tmp/a : b/m.onnx failed:This is an invalid model. "
    'In Node, ("/backbone/conv1", Foo, "", -1) : ("pixel_values": tensor(float),) -> ("y",) , '
    "Error No Op registered for Foo with domain_version of 17"
)
IN_SOURCE = (
    "[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed:/onnxruntime_src/core/graph/model.cc:256 "
    "onnxruntime::Model::Model(onnx::ModelProto&&, const std::function<void(int)>&, const onnxruntime::ModelOptions&) "
    "Unsupported model IR version: 99, max supported IR version: 14\n"
)
WITHOUT_ARGUMENTS = (
    "[ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1730 ValidateEmbeddedTensorProtoDataSizeAndShape Initializer "
    "'conv1.bias': raw_data size (192 bytes) does not match expected size from shape and data type (196 bytes)"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (IN_NODE, "node /backbone/conv1 (Foo): No Op registered for Foo with domain_version of 17"),
        (IN_SOURCE, "Unsupported model IR version: 99, max supported IR version: 14"),
        (
            WITHOUT_ARGUMENTS,
            "Initializer 'conv1.bias': raw_data size (192 bytes) does not match expected size from shape and data type "
            "(196 bytes)",
        ),
        ("Something else: 3 : 4", "Something else: 3 : 4"),
        ("", "RuntimeError"),
    ],
)
def test_a_message_of_onnx_runtime_is_reduced_to_its_cause(message, reason):
    assert onnxruntime_reason(RuntimeError(message)) == reason


def test_a_long_reason_keeps_its_end():
    reason = onnxruntime_reason(RuntimeError("x" * 1000 + " because of y"))
    assert len(reason) == LONGEST_REASON
    assert reason.endswith(" because of y")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Exception from core.cpp:84:\nLoading\nnot a scalar\n\n", "not a scalar"),
        (
            "Exception from core.cpp:84:\nSummary:\n-- No conversion rule found for operations: Foo-17\n-- Conv-17\n\n",
            "No conversion rule found for operations: Foo-17",
        ),
        ("Summary:", "Summary:"),
        ("", "RuntimeError"),
    ],
)
def test_a_message_of_openvino_is_reduced_to_its_cause(message, reason):
    assert openvino_reason(RuntimeError(message)) == reason


def newer_ir(model):
    model.ir_version = 99


def newer_opset(model):
    model.opset_import[0].version = 99


def unknown_operator(model):
    model.graph.node[3].op_type = "Foo"


@pytest.mark.parametrize(
    ("engine", "spoil", "reason"),
    [
        ("onnxruntime", newer_ir, r"Unsupported model IR version: 99, max supported IR version: \d+"),
        ("onnxruntime", newer_opset, "Opset 99 is under development|Current official support"),
        ("onnxruntime", unknown_operator, r"node /backbone/\S+ \(Foo\): No Op registered for Foo"),
        ("openvino", unknown_operator, "(No conversion rule found for|not support the following ONNX) operations: Foo"),
    ],
)
def test_a_graph_that_an_engine_cannot_run_is_refused_with_the_cause(tmp_path, engine, spoil, reason):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip(engine)
    model = onnx.load(demo_directory() / "model.onnx")
    spoil(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=reason):
        open_model(tmp_path / "m.onnx", EngineOptions(engine))


def test_a_name_that_is_not_utf_8_is_one_error(tmp_path):
    pytest.importorskip("onnxruntime")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.onnx"))
    try:
        path.write_bytes((demo_directory() / "model.onnx").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ModelFileError, match="found a name that is not UTF-8; rename the file or its directory"):
        open_model(path, EngineOptions("onnxruntime"))
