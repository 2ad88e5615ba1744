"""The naming of a file is detected from its names alone, and translates them both ways."""

from __future__ import annotations

import pytest

from detr_onnx.checkpoint.naming import detect_naming
from detr_onnx.checkpoint.tensor_shapes import expected_shapes
from tests.parity.seeded import CONFIGS, SPELLINGS

NAMES = tuple(expected_shapes(CONFIGS["small-table-transformer"])) + tuple(expected_shapes(CONFIGS["small"]))


def test_without_names_there_is_no_canonical_name():
    assert detect_naming([]).canonical_name("weight") is None


@pytest.mark.parametrize("title", SPELLINGS)
def test_the_names_of_a_file_tell_its_naming(title):
    naming = SPELLINGS[title]
    assert detect_naming({naming.name_in_file(name) for name in NAMES}) == naming


@pytest.mark.parametrize("prefix", ["", "detr.", "model.", "module.", "_orig_mod.", "module._orig_mod.", "model.detr."])
@pytest.mark.parametrize("title", SPELLINGS)
def test_a_canonical_name_survives_the_way_into_a_file_and_back_under_every_prefix(title, prefix):
    naming = detect_naming({prefix + SPELLINGS[title].name_in_file(name) for name in NAMES})
    assert naming.prefix == prefix
    for name in NAMES:
        if "in_proj" not in naming.name_in_file(name):
            assert naming.canonical_name(naming.name_in_file(name)) == name


def test_the_original_packs_q_k_and_v():
    attention = "decoder.layers.3.encoder_attn"
    names = {SPELLINGS["original"].name_in_file(f"{attention}.{part}_proj.weight") for part in "qkv"}
    assert names == {"transformer.decoder.layers.3.multihead_attn.in_proj_weight"}


@pytest.mark.parametrize("name", [
    "", ".weight", "model.encoder.layers.x.fc1.weight", "model.encoder.layers.99999999999.fc1.weight",
    "model.encoder.layers.٣.fc1.weight", "encoder.layers.0.fc1.weight", "model.encoder.layers.0.fc1",
])  # fmt: skip
def test_an_unknown_name_has_no_canonical_name(name):
    assert SPELLINGS["huggingface-timm"].canonical_name(name) is None


def test_a_title_names_both_parts():
    assert SPELLINGS["original"].title == "backbone in the naming of original (torchvision), transformer of original"
