"""A checkpoint in any known naming loads, or is refused with everything that is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import checkpoint_of, load_checkpoint
from detr_onnx.checkpoint.naming import Naming
from detr_onnx.checkpoint.naming_tables import BACKBONES, TRANSFORMERS
from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.errors import CheckpointError
from detr_onnx.exporter.onnx_file import ExportOptions, onnx_model
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.config import DetrConfig
from tests.parity.seeded import CONFIGS, SPELLINGS, seeded_tensors, spelled, write_checkpoint

SMALL = CONFIGS["small"]
PANOPTIC = CONFIGS["small-panoptic"]
HALF_PRECISION = 2.0**-11  # the largest relative error of rounding to float16
BFLOAT_PRECISION = 2.0**-7  # of cutting a float32 down to bfloat16


@pytest.fixture(scope="module")
def tensors():
    return seeded_tensors(SMALL, seed=1)


@pytest.fixture(scope="module")
def panoptic_tensors():
    return seeded_tensors(PANOPTIC, seed=1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, SMALL, seed=1)


def rewritten(directory: Path, tensors: Mapping[str, NDArray[np.float32]], naming: str = "huggingface-native") -> Path:
    write_safetensors(directory / "model.safetensors", spelled(tensors, SPELLINGS[naming]))
    return directory


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_empty_directory_holds_no_checkpoint(tmp_path):
    assert "found an empty directory, expected config.json and model.safetensors" in refusal(tmp_path)


def test_a_file_without_tensors_lacks_them_all(directory):
    write_safetensors(directory / "model.safetensors", {})
    message = refusal(directory)
    assert " missing; " in message
    assert re.search(r"and \d+ more, expected 197 tensors", message)


@pytest.mark.parametrize("naming", SPELLINGS)
def test_every_naming_gives_the_same_tensors_in_the_same_order(naming, tensors, directory):
    checkpoint = load_checkpoint(rewritten(directory, tensors, naming))
    assert checkpoint.config == SMALL
    assert list(checkpoint.tensors) == list(tensors)
    assert all(np.array_equal(checkpoint.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "form", [ExportOptions(), ExportOptions(shape_hw=(64, 96), mask=False)], ids=["dynamic", "fixed"]
)
def test_every_naming_gives_byte_identical_graphs(form, tensors, directory):
    graphs = {
        onnx_model(load_checkpoint(rewritten(directory, tensors, naming)), Preprocessing(), form).SerializeToString()
        for naming in SPELLINGS
    }
    assert len(graphs) == 1


def test_the_order_of_the_file_does_not_matter(tensors):
    backwards = spelled(dict(reversed(tensors.items())), SPELLINGS["huggingface-timm"])
    assert list(checkpoint_of(backwards, SMALL, "file").tensors) == list(tensors)


@pytest.mark.parametrize("wrapper", ["", "module.", "model."])
@pytest.mark.parametrize("naming", SPELLINGS)
def test_a_panoptic_checkpoint_is_read_with_its_mask_head(naming, wrapper, panoptic_tensors):
    inside = replace(SPELLINGS[naming], prefix=f"{wrapper}detr.")
    config = replace(PANOPTIC, masks=False)  # the tensors tell
    found = checkpoint_of(spelled(panoptic_tensors, inside), config, "file")
    assert found.config == PANOPTIC
    assert list(found.tensors) == list(panoptic_tensors)
    assert all(np.array_equal(found.tensors[name], tensor) for name, tensor in panoptic_tensors.items())


def test_the_names_of_a_mask_head_are_those_of_transformers_and_of_the_original(panoptic_tensors):
    original, current = (
        set(spelled(panoptic_tensors, replace(SPELLINGS[naming], prefix="detr.")))
        for naming in ("original", "transformers5-native")
    )
    assert {"bbox_attention.q_linear.weight", "mask_head.lay5.bias", "mask_head.adapter3.weight"} <= original
    assert {"bbox_attention.q_proj.weight", "mask_head.fpn_stages.2.refine.conv.bias",
            "mask_head.fpn_stages.2.fpn_adapter.weight", "mask_head.conv1.norm.bias"} <= current  # fmt: skip
    assert {"detr.class_embed.weight", "detr.class_labels_classifier.weight"} <= original | current


def test_half_a_mask_head_is_an_error_that_names_what_is_missing(panoptic_tensors):
    half = {name: tensor for name, tensor in panoptic_tensors.items() if "adapter2" not in name}
    named = spelled(half, replace(SPELLINGS["huggingface-native"], prefix="detr."))
    with pytest.raises(CheckpointError, match=r"mask_head\.adapter2\.weight missing"):
        checkpoint_of(named, PANOPTIC, "file")


def test_a_config_with_a_mask_head_and_weights_without_one_do_not_fit(tensors):
    named = spelled(tensors, replace(SPELLINGS["huggingface-native"], prefix="detr."))
    with pytest.raises(CheckpointError, match=r"bbox_attention\.q_linear\.weight missing"):
        checkpoint_of(named, replace(SMALL, encoder_heads=8, masks=True), "file")


def test_a_mask_head_that_cannot_be_run_is_refused(panoptic_tensors):
    named = spelled(panoptic_tensors, SPELLINGS["huggingface-native"])
    with pytest.raises(CheckpointError, match="d_model 64, 2 encoder heads"):
        checkpoint_of(named, replace(PANOPTIC, encoder_heads=2), "file")


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.", "module._orig_mod.", "model.detr.", "detr."])
@pytest.mark.parametrize("naming", SPELLINGS)
def test_the_prefix_of_a_wrapper_is_understood(prefix, naming, tensors):
    wrapped = {prefix + name: tensor for name, tensor in spelled(tensors, SPELLINGS[naming]).items()}
    found = checkpoint_of(wrapped, SMALL, "file").tensors
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


def test_a_checkpoint_of_detectron2_is_read(tensors):
    naming = Naming("detr.", BACKBONES[5], TRANSFORMERS[0])
    found = checkpoint_of(
        spelled(tensors, naming) | {"criterion.empty_weight": np.ones(8, "f4")}, SMALL, "file"
    ).tensors
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)


def test_heads_for_other_tasks_are_left_out_with_a_note(tensors, caplog):
    heads = {f"{name}.weight": np.ones(2, "f4") for name in ("aux_head", "model.keypoint_head", "a", "b")}
    found = checkpoint_of(spelled(tensors, SPELLINGS["huggingface-timm"]) | heads, SMALL, "file").tensors
    assert list(found) == list(tensors)
    (record,) = caplog.records
    assert "file: 4 tensors are not part of a DETR detector" in record.message
    assert "aux_head.weight, model.keypoint_head.weight, a.weight, …" in record.message


def test_a_checkpoint_without_extra_heads_has_no_note(tensors, caplog):
    counted = {"criterion.empty_weight": np.ones(8, "f4")}  # of the original training script
    checkpoint_of(spelled(tensors, SPELLINGS["huggingface-timm"]) | counted, SMALL, "file")
    assert caplog.records == []


def test_stages_after_the_last_one_in_use_are_left_out(tensors):
    three = replace(SMALL, backbone=replace(SMALL.backbone, depths=(1, 2, 1), widths=(32, 48, 64)))
    own = seeded_tensors(three, seed=1)
    fourth = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.layer4.")}
    found = checkpoint_of(spelled(own | fourth, SPELLINGS["huggingface-native"]), three, "file").tensors
    assert list(found) == list(own)


def test_counts_of_training_batches_are_left_out(tensors):
    named = spelled(tensors, SPELLINGS["huggingface-timm"])
    counts = {
        name.replace("running_mean", "num_batches_tracked"): np.array(7) for name in named if "running_mean" in name
    }
    assert set(checkpoint_of(named | counts, SMALL, "file").tensors) == set(tensors)


@pytest.mark.parametrize(("dtype", "precision"), [("F16", HALF_PRECISION), ("BF16", BFLOAT_PRECISION)])
def test_weights_in_half_precision_are_widened(dtype, precision, tensors, directory):
    named = spelled(tensors, SPELLINGS["huggingface-native"])
    header, buffer = {}, b""
    for name, tensor in named.items():
        data = tensor.astype("<f2") if dtype == "F16" else (tensor.view("<u4") >> 16).astype("<u2")
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [len(buffer), len(buffer) + data.nbytes],
        }
        buffer += data.tobytes()
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + buffer)
    found = load_checkpoint(directory).tensors
    assert {tensor.dtype for tensor in found.values()} == {np.dtype("f4")}
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], tensor, rtol=precision, atol=1e-7)


def test_the_shapes_in_a_bare_file_tell_its_config(tmp_path):
    config = DetrConfig(**{**vars(SMALL), "encoder_heads": 8, "decoder_heads": 8})
    write_safetensors(tmp_path / "bare.safetensors", spelled(seeded_tensors(config, 1), SPELLINGS["original"]))
    found = load_checkpoint(tmp_path / "bare.safetensors").config
    assert found == DetrConfig(**{**vars(config), "labels": tuple(f"LABEL_{i}" for i in range(7))})


def test_a_file_without_a_config_says_what_is_assumed(tmp_path, caplog):
    config = DetrConfig(**{**vars(SMALL), "encoder_heads": 8, "decoder_heads": 8})
    write_safetensors(tmp_path / "bare.safetensors", spelled(seeded_tensors(config, 1), SPELLINGS["original"]))
    load_checkpoint(tmp_path / "bare.safetensors")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "bare.safetensors has no config.json: assuming 8 attention heads and no dilation" in record.message
    caplog.clear()
    load_checkpoint(tmp_path / "bare.safetensors", config)
    assert caplog.records == []


def test_a_config_that_is_given_replaces_the_one_beside_the_file(directory):
    given = DetrConfig(**{**vars(SMALL), "labels": ("one", "two", "three", "four", "five", "six", "seven")})
    assert load_checkpoint(directory, given).config == given
    assert load_checkpoint(directory / "model.safetensors", given).config == given


def test_all_problems_are_reported_at_once_in_the_file_s_own_names(tensors, directory):
    broken = dict(tensors)
    del broken["decoder.layers.1.fc2.bias"]
    broken["class_labels_classifier.bias"] = np.zeros(9, "f4")
    broken["encoder.layers.0.fc1.bias"] = tensors["encoder.layers.0.fc1.bias"] * np.float32(np.nan)
    broken["encoder.layers.9.fc1.weight"] = np.zeros(1, "f4")
    message = refusal(rewritten(directory, broken))
    assert "model.decoder.layers.1.fc2.bias missing" in message
    assert "class_labels_classifier.bias of shape [9], not [8]" in message
    assert "encoder.layers.9.fc1.weight unexpected" in message
    assert "model.encoder.layers.0.fc1.bias with 128 values that are NaN or infinite" in message
    assert "backbone in the naming of Hugging Face, native, transformer of Hugging Face" in message


def test_packed_projections_are_reported_by_their_packed_name(tensors, directory):
    named = spelled(tensors, SPELLINGS["original"])
    del named["transformer.encoder.layers.0.self_attn.in_proj_weight"]
    named["transformer.decoder.layers.0.multihead_attn.in_proj_bias"] = np.zeros(64, "f4")
    write_safetensors(directory / "model.safetensors", named)
    message = refusal(directory)
    assert message.count("transformer.encoder.layers.0.self_attn.in_proj_weight missing") == 1
    assert "transformer.decoder.layers.0.multihead_attn.in_proj_bias of shape [64], not [192]" in message
    assert "q_proj" not in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found(value, tensors):
    wrong = tensors | {"bbox_predictor.layers.0.weight": tensors["bbox_predictor.layers.0.weight"].copy()}
    wrong["bbox_predictor.layers.0.weight"][3, 5] = value
    with pytest.raises(CheckpointError, match=r"bbox_predictor\.layers\.0\.weight with 1 values that are NaN"):
        checkpoint_of(spelled(wrong, SPELLINGS["huggingface-timm"]), SMALL, "file")


def test_large_numbers_whose_sum_overflows_are_finite(tensors):
    large = tensors | {"class_labels_classifier.bias": np.full(8, 3e38, "f4")}
    checkpoint_of(spelled(large, SPELLINGS["huggingface-timm"]), SMALL, "file")


def test_integers_are_not_weights(tensors):
    wrong = spelled(tensors, SPELLINGS["huggingface-timm"]) | {"class_labels_classifier.bias": np.zeros(8, np.int64)}
    with pytest.raises(CheckpointError, match=r"class_labels_classifier\.bias of int64, not floats"):
        checkpoint_of(wrong, SMALL, "file")


def test_a_tensor_under_two_names_is_refused(tensors):
    twice = spelled(tensors, SPELLINGS["huggingface-timm"])
    twice["model.encoder.layers.00.fc1.bias"] = twice["model.encoder.layers.0.fc1.bias"]
    twice["encoder.layers.0.fc1.bias"] = twice["model.encoder.layers.0.fc1.bias"]
    with pytest.raises(CheckpointError, match=r"00\.fc1\.bias unexpected; encoder\.layers\.0\.fc1\.bias unexpected"):
        checkpoint_of(twice, SMALL, "file")


def test_weights_of_another_model_are_refused_with_a_count(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {f"bert.{i}.weight": np.zeros(1, "f4") for i in range(20)})
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    assert "more, expected 530 tensors" in refusal(tmp_path)


def test_weights_of_another_model_without_a_config_do_not_tell_what_they_are(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"bert.weight": np.zeros(1, "f4")})
    assert "do not tell what model they are" in refusal(tmp_path)


def test_a_missing_path_is_refused(tmp_path):
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "detr-r50-e632da11.pth"])
def test_a_pickle_is_never_read_and_the_command_to_convert_it_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    assert f"run detr-onnx convert {tmp_path / name} -o DIRECTORY" in refusal(tmp_path)
    assert "is a pickle, which can run code" in refusal(tmp_path / name)


@pytest.mark.parametrize(("text", "complaint"), [
    ("", "cannot be read as JSON"),
    ("{", "cannot be read as JSON"),
    ("[" * 100_000, "cannot be read as JSON"),
    ("[]", "found a JSON list, expected an object"),
    ("null", "found a JSON NoneType"),
    ('{"model_type": "bert"}', "found model_type 'bert'"),
    ('{"model_type": "detr", "position_embedding_type": "learned"}', "position_embedding_type 'learned'"),
])  # fmt: skip
def test_what_is_not_a_config_is_refused_by_its_path(text, complaint, directory):
    (directory / "config.json").write_text(text)
    message = refusal(directory)
    assert complaint in message
    assert str(directory / "config.json") in message
