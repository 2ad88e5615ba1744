"""Every dialect's names are understood, and told apart, by the names alone."""

from __future__ import annotations

import pytest

from detr_onnx.checkpoint.load import expected_shapes
from detr_onnx.checkpoint.naming import spelling_of
from tests.parity.seeded import CONFIGS, SPELLINGS

NAMES = tuple(expected_shapes(CONFIGS["small-table-transformer"])) + tuple(expected_shapes(CONFIGS["small"]))


def test_no_names_have_a_spelling_that_knows_none():
    assert spelling_of([]).canonical("weight") is None


@pytest.mark.parametrize("dialect", SPELLINGS)
def test_a_file_s_own_names_tell_its_dialect(dialect):
    spelling = SPELLINGS[dialect]
    assert spelling_of({spelling.spelled(name) for name in NAMES}) == spelling


@pytest.mark.parametrize("prefix", ["", "detr."])
@pytest.mark.parametrize("dialect", SPELLINGS)
def test_spelling_a_name_and_reading_it_gives_it_back(dialect, prefix):
    spelling = spelling_of({prefix + SPELLINGS[dialect].spelled(name) for name in NAMES})
    assert spelling.prefix == prefix
    for name in NAMES:
        if "in_proj" not in spelling.spelled(name):
            assert spelling.canonical(spelling.spelled(name)) == name


def test_the_original_packs_q_k_and_v():
    attention = "decoder.layers.3.encoder_attn"
    names = {SPELLINGS["original"].spelled(f"{attention}.{part}_proj.weight") for part in "qkv"}
    assert names == {"transformer.decoder.layers.3.multihead_attn.in_proj_weight"}


@pytest.mark.parametrize("name", [
    "", ".weight", "model.encoder.layers.x.fc1.weight", "model.encoder.layers.99999999999.fc1.weight",
    "model.encoder.layers.٣.fc1.weight", "encoder.layers.0.fc1.weight", "model.encoder.layers.0.fc1",
])  # fmt: skip
def test_a_name_of_nobody_s_has_no_canonical_one(name):
    assert SPELLINGS["huggingface-timm"].canonical(name) is None


def test_a_title_names_both_halves():
    assert SPELLINGS["original"].title == "backbone in the naming of original (torchvision), transformer of original"
