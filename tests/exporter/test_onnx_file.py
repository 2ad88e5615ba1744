"""Every graph is valid, agrees with numpy and describes itself; writing is atomic, and its errors are one line."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from detr_onnx import __version__
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.errors import EngineError, OutputError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model, tensors_sha256, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import stage_names
from tests.network_stages import numpy_stages, run_graph
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors

# Of logits and boxes around 1: ONNX Runtime sums in another order than numpy, through twenty layers.
LOGITS_TOLERANCE = 1e-4
BOXES_TOLERANCE = 1e-5

SMALL = CONFIGS["small"]
HW = (97, 131)
OPTIONS = {
    "any size, mask": ExportOptions(),
    "any size, no mask": ExportOptions(mask=False),
    "one size, mask": ExportOptions(shape_hw=HW),
    "one size, no mask": ExportOptions(shape_hw=HW, mask=False),
    "one size, mask, three images": ExportOptions(shape_hw=HW, batch=3),
    "one size, no mask, three images": ExportOptions(shape_hw=HW, mask=False, batch=3),
    "any size, mask, stages": ExportOptions(stages=stage_names(SMALL)),
    "any size, no mask, stages": ExportOptions(mask=False, stages=stage_names(SMALL)),
    "one size, no mask, stages": ExportOptions(shape_hw=HW, mask=False, stages=stage_names(SMALL)),
}
SHAPE_WORK = {"Shape", "Range", "ConstantOfShape", "Sin", "Cos", "CumSum", "Floor", "Min"}
KINDS = ("small", "small-dc5", "small-table-transformer")
every_graph = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


@pytest.fixture(scope="module")
def checkpoint_of():
    names = (*KINDS, "small-panoptic")
    checkpoints = {name: Checkpoint(CONFIGS[name], seeded_tensors(CONFIGS[name], 1)) for name in names}
    return checkpoints.__getitem__


def model_of(checkpoint: Checkpoint, options: ExportOptions) -> onnx.ModelProto:
    return onnx_model(checkpoint, Preprocessing(), options)


def operations(model: onnx.ModelProto, place: str = "") -> list[str]:
    return [node.op_type for node in model.graph.node if node.name.startswith(place)]


@every_graph
@pytest.mark.parametrize("name", [*KINDS, "small-panoptic"])
def test_the_graph_passes_the_full_check_and_strict_shape_inference(name, options, checkpoint_of):
    model = model_of(
        checkpoint_of(name), ExportOptions(**{**vars(options), "stages": options.stages and stage_names(CONFIGS[name])})
    )
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {value.name for value in inferred.graph.value_info} >= {
        output for node in model.graph.node for output in node.output if output.startswith("/")
    }


@every_graph
@pytest.mark.parametrize("name", KINDS)
def test_every_graph_agrees_with_numpy(name, options, checkpoint_of):
    config, tensors = CONFIGS[name], checkpoint_of(name).tensors
    options = ExportOptions(**{**vars(options), "stages": ()})
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, *HW), [(97, 60), (50, 131), (97, 131)])
    found = run_graph(config, tensors, pixels, mask, options)
    truth = numpy_stages(config, tensors, pixels, mask if options.mask else None)
    np.testing.assert_allclose(found["logits"], truth["logits"], atol=LOGITS_TOLERANCE)
    np.testing.assert_allclose(found["boxes"], truth["boxes"], atol=BOXES_TOLERANCE)


FUSED = {
    "any size, mask": ExportOptions(fused_attention=True),
    "any size, no mask": ExportOptions(mask=False, fused_attention=True),
    "one size, mask": ExportOptions(shape_hw=HW, batch=3, fused_attention=True),
    "one size, no mask": ExportOptions(shape_hw=HW, mask=False, batch=3, fused_attention=True),
}


@pytest.mark.parametrize("options", FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("name", KINDS)
def test_attention_as_one_node_agrees_with_numpy(name, options, checkpoint_of):
    config, tensors = CONFIGS[name], checkpoint_of(name).tensors
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, *HW), [(97, 60), (50, 131), (97, 131)])
    found = run_graph(config, tensors, pixels, mask, options)
    truth = numpy_stages(config, tensors, pixels, mask if options.mask else None)
    np.testing.assert_allclose(found["logits"], truth["logits"], atol=LOGITS_TOLERANCE)
    np.testing.assert_allclose(found["boxes"], truth["boxes"], atol=BOXES_TOLERANCE)


def test_only_fused_attention_uses_operators_of_onnx_runtime(checkpoint_of):
    plain, fused = (model_of(checkpoint_of("small"), ExportOptions(fused_attention=fused)) for fused in (False, True))
    assert {node.domain for node in plain.graph.node} == {""}
    assert operations(fused).count("MultiHeadAttention") == 5  # one of six is a constant


@pytest.mark.parametrize("size_hw", [(1, 1), (32, 32), (33, 47), (200, 31)])
def test_a_graph_for_any_size_runs_every_size(size_hw, checkpoint_of):
    pixels = seeded_pixels(3, 1, 3, *size_hw)
    for options in (ExportOptions(), ExportOptions(mask=False)):
        found = run_graph(SMALL, checkpoint_of("small").tensors, pixels, np.ones((1, *size_hw)), options)
        truth = numpy_stages(SMALL, checkpoint_of("small").tensors, pixels, None)
        np.testing.assert_allclose(found["logits"], truth["logits"], atol=LOGITS_TOLERANCE)


@pytest.mark.parametrize("mask_hw", [(64, 64), (1, 1), (97, 131), (800, 800)])
def test_a_mask_of_ones_of_another_size_than_the_image_means_no_padding(mask_hw, checkpoint_of):
    """transformers.js always feeds 64x64."""
    pixels = seeded_pixels(3, 1, 3, *HW)
    found = run_graph(SMALL, checkpoint_of("small").tensors, pixels, np.ones((1, *mask_hw)), ExportOptions())
    truth = numpy_stages(SMALL, checkpoint_of("small").tensors, pixels, None)
    np.testing.assert_allclose(found["logits"], truth["logits"], atol=LOGITS_TOLERANCE)


@every_graph
def test_inputs_and_outputs_have_the_names_and_types_of_hugging_face_s_export(options, checkpoint_of):
    graph = model_of(checkpoint_of("small"), options).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    masked = {"pixel_mask": onnx.TensorProto.INT64} if options.mask else {}
    assert types == {"pixel_values": onnx.TensorProto.FLOAT, **masked}
    assert [value.name for value in graph.output][:2] == ["logits", "pred_boxes"]


def test_the_inputs_of_a_graph_for_one_size_have_that_size(checkpoint_of):
    options = ExportOptions(shape_hw=HW, mask=True, batch=2)
    inputs = {v.name: v.type.tensor_type.shape.dim for v in model_of(checkpoint_of("small"), options).graph.input}
    assert [d.dim_value for d in inputs["pixel_values"]] == [2, 3, *HW]
    assert [d.dim_value for d in inputs["pixel_mask"]] == [2, *HW]


@every_graph
def test_every_node_has_a_unique_name_that_begins_with_its_module(options, checkpoint_of):
    names = [node.name for node in model_of(checkpoint_of("small"), options).graph.node]
    assert len(set(names)) == len(names)
    modules = ("/backbone/", "/position/", "/input_projection/", "/encoder/layers.", "/decoder/", "/bbox_predictor/",
              "/class_labels_classifier/", "/outputs/", "/Reshape", "/Transpose")  # fmt: skip
    assert [name for name in names if not name.startswith(modules)] == []
    assert "/encoder/layers.0/self_attn/q_proj/MatMul" in names


def test_every_constant_is_used_and_every_value_is_made_once(checkpoint_of):
    for options in OPTIONS.values():
        graph = model_of(checkpoint_of("small"), options).graph
        used = {edge for node in graph.node for edge in node.input} | {value.name for value in graph.output}
        made = [edge for node in graph.node for edge in node.output] + [tensor.name for tensor in graph.initializer]
        assert len(set(made)) == len(made)
        assert {tensor.name for tensor in graph.initializer} <= used
        assert {value.name for value in graph.input} <= used


@pytest.mark.parametrize("name", KINDS)
def test_for_one_size_without_a_mask_no_shape_and_no_position_is_computed(name, checkpoint_of):
    assert SHAPE_WORK.isdisjoint(operations(model_of(checkpoint_of(name), ExportOptions(shape_hw=HW, mask=False))))
    assert not operations(model_of(checkpoint_of(name), ExportOptions(shape_hw=HW, mask=False)), "/position")


def test_for_one_size_with_a_mask_no_shape_is_computed(checkpoint_of):
    nodes = set(operations(model_of(checkpoint_of("small"), ExportOptions(shape_hw=HW))))
    assert {"Shape", "Range", "ConstantOfShape", "Floor", "Min"}.isdisjoint(nodes)


@every_graph
@pytest.mark.parametrize("name", KINDS)
def test_the_first_self_attention_of_the_decoder_is_a_constant(name, options, checkpoint_of):
    options = ExportOptions(**{**vars(options), "stages": ()})
    model = model_of(checkpoint_of(name), options)
    assert operations(model, "/decoder/layers.0/self_attn") == []
    assert operations(model, "/decoder/layers.1/self_attn") != []


def test_there_is_no_batch_norm(checkpoint_of):
    assert "BatchNormalization" not in operations(model_of(checkpoint_of("small"), ExportOptions()))


@every_graph
def test_the_file_describes_itself(options, checkpoint_of):
    checkpoint = checkpoint_of("small")
    model = model_of(checkpoint, options)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert DetrConfig.from_fields(json.loads(entries["detr_onnx.config"])) == SMALL
    assert Preprocessing.from_json(json.loads(entries["detr_onnx.preprocessing"]), "metadata") == Preprocessing()
    assert entries["detr_onnx.precision"] == "fp32"
    assert entries["detr_onnx.source_sha256"] == tensors_sha256(checkpoint.tensors)
    assert entries["detr_onnx.version"] == model.producer_version == __version__
    assert model.producer_name == "detr-onnx"


def test_the_digest_of_weights_depends_on_names_shapes_and_values_but_not_on_the_order():
    tensors = {"a": np.float32([1, 2]), "b": np.float32([3])}
    assert tensors_sha256(tensors) == tensors_sha256(dict(reversed(tensors.items())))
    others = [{}, {"a": tensors["a"]}, tensors | {"b": np.float32([4])}, tensors | {"a": np.float32([[1, 2]])},
              {"c": tensors["a"], "b": tensors["b"]}]  # fmt: skip
    assert len({tensors_sha256(each) for each in [tensors, *others]}) == 1 + len(others)


@every_graph
@pytest.mark.parametrize("external_data", [False, True])
def test_two_runs_write_the_same_bytes(options, external_data, checkpoint_of, tmp_path):
    written = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        path = tmp_path / run / "model.onnx"
        write_onnx(path, checkpoint_of("small"), Preprocessing(), options, external_data=external_data)
        written.append({file.name: file.read_bytes() for file in path.parent.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"model.onnx", *(["model.onnx.data"] if external_data else [])}


def test_external_weights_give_the_same_outputs(checkpoint_of, tmp_path):
    pixels = seeded_pixels(3, 1, 3, *HW)
    outputs = []
    for external_data in (False, True):
        path = tmp_path / f"{external_data}.onnx"
        write_onnx(
            path, checkpoint_of("small"), Preprocessing(), ExportOptions(mask=False), external_data=external_data
        )
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, {"pixel_values": pixels}))
    assert all(np.array_equal(*pair) for pair in zip(*outputs, strict=True))
    assert (tmp_path / "True.onnx").stat().st_size < (tmp_path / "False.onnx").stat().st_size / 4


def test_writing_again_replaces_the_file(checkpoint_of, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    write_onnx(path, checkpoint_of("small"), Preprocessing(), ExportOptions())
    onnx.checker.check_model(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_weights_beside_a_file_go_with_it_when_it_is_replaced_by_one_that_contains_its_own(
    checkpoint_of, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "detr_onnx")
    path, model = tmp_path / "model.onnx", (checkpoint_of("small"), Preprocessing(), ExportOptions())
    write_onnx(path, *model, external_data=True)
    write_onnx(path, *model)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert caplog.messages == [f"removed {tmp_path / 'model.onnx.data'}, the weights of the file that was replaced"]


def metadata_of_nobody(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def other_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "other.data"


@pytest.mark.parametrize("change", [metadata_of_nobody, other_weights])
def test_weights_that_are_not_ours_stay(change, checkpoint_of, tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(path, checkpoint_of("small"), Preprocessing(), ExportOptions(), external_data=True)
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    write_onnx(path, checkpoint_of("small"), Preprocessing(), ExportOptions())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_weights_beside_a_file_that_is_not_a_graph_stay(checkpoint_of, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    (tmp_path / "model.onnx.data").write_bytes(b"data")
    write_onnx(tmp_path / "model.onnx", checkpoint_of("small"), Preprocessing(), ExportOptions())
    assert (tmp_path / "model.onnx.data").read_bytes() == b"data"


@pytest.mark.parametrize(("shape_hw", "batch", "found"), [
    ((99999, 99999), None, "99999x99999"),
    ((800, 1333), 100, "800x1333 in a batch of 100"),
    (None, 10**10, "a batch of 10000000000"),
])  # fmt: skip
def test_a_shape_that_engines_would_refuse_is_refused_at_once(shape_hw, batch, found):
    expected = "expected at most 89,478,485 pixels in all images together; give fewer images"
    with pytest.raises(UsageError, match=rf"^the shape is too large: found {found}, {expected}"):
        ExportOptions(shape_hw, batch=batch)


def test_a_graph_that_is_too_large_for_one_file_needs_another_one_for_its_weights(checkpoint_of, tmp_path, monkeypatch):
    monkeypatch.setattr("detr_onnx.exporter.onnx_file.ONNX_BYTES", 10_000)
    model = checkpoint_of("small"), Preprocessing(), ExportOptions()
    with pytest.raises(
        OutputError, match=r"too large for an \.onnx file: found .* expected at most 10,000; add --external"
    ):
        write_onnx(tmp_path / "model.onnx", *model)
    assert [*tmp_path.iterdir()] == []
    write_onnx(tmp_path / "model.onnx", *model, external_data=True)


def test_a_missing_directory_is_an_output_error(checkpoint_of, tmp_path):
    path = tmp_path / "nowhere" / "model.onnx"
    with pytest.raises(OutputError, match="cannot be written: found No such file or directory"):
        write_onnx(path, checkpoint_of("small"), Preprocessing(), ExportOptions())


@pytest.mark.parametrize("external_data", [False, True])
def test_a_path_that_is_a_directory_is_an_output_error_and_leaves_no_file(external_data, checkpoint_of, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OutputError, match=r"model\.onnx cannot be written"):
        write_onnx(
            tmp_path / "model.onnx",
            checkpoint_of("small"),
            Preprocessing(),
            ExportOptions(),
            external_data=external_data,
        )
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_without_its_weights_no_graph_is_written(checkpoint_of, tmp_path):
    (tmp_path / "model.onnx.data").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_onnx(
            tmp_path / "model.onnx", checkpoint_of("small"), Preprocessing(), ExportOptions(), external_data=True
        )
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx.data"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_directory_without_permission_is_an_output_error(checkpoint_of, tmp_path: Path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="Permission denied"):
        write_onnx(tmp_path / "model.onnx", checkpoint_of("small"), Preprocessing(), ExportOptions())


def test_without_the_package_onnx_the_error_tells_what_to_install(checkpoint_of, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for write in (
        lambda: onnx_model(checkpoint_of("small"), Preprocessing(), ExportOptions()),
        lambda: write_onnx(tmp_path / "model.onnx", checkpoint_of("small"), Preprocessing(), ExportOptions()),
    ):
        with pytest.raises(EngineError, match=r"pip install 'detr-onnx\[export\]'"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stage_is_a_usage_error(checkpoint_of):
    with pytest.raises(UsageError, match=r"found encoder\.9, expected some of stem, stage1"):
        model_of(checkpoint_of("small"), ExportOptions(stages=("stem", "encoder.9")))
