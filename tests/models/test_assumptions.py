"""What is assumed of a model without a config is note whenever it is opened, also from a cached graph."""

from __future__ import annotations

import pytest

from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.engines.options import EngineOptions
from detr_onnx.models.open import open_model
from tests.parity.seeded import CONFIGS, SPELLINGS, seeded_tensors, spelled, write_checkpoint

EIGHT_HEADS = CONFIGS["basic-three-stages"]


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_every_opening_of_a_bare_file_says_what_is_assumed(engine, tmp_path, caplog):
    weights = tmp_path / "bare.safetensors"
    write_safetensors(weights, spelled(seeded_tensors(EIGHT_HEADS, seed=1), SPELLINGS["original"]))
    directory = write_checkpoint(tmp_path / "whole", EIGHT_HEADS, seed=1)
    for config in (None, None, directory / "config.json"):
        caplog.clear()
        open_model(weights, EngineOptions(engine=engine), config=config, cache_dir=tmp_path / "cache")
        warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
        note = f"{weights} has no config.json: assuming 8 attention heads and no dilation"
        assert warnings == ([] if config else [note])
