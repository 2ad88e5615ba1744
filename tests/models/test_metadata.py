"""The configuration of an image processor is found beside a model, under the name of every version of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.load import _described
from detr_onnx.models.metadata import Description
from tests.small_model import LABELS, write_small_checkpoint

LIMITS = {"size": {"max_height": 48, "max_width": 64}, "pad_size": {"height": 64, "width": 64}}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a preprocessor_config.json."""
    write(tmp_path / "preprocessor_config.json", {"size": 600})
    return tmp_path


def test_without_a_configuration_the_preprocessing_is_that_of_detr(tmp_path: Path):
    assert Description.of(tmp_path).read_preprocessing() == Preprocessing()


def test_an_image_processor_in_processor_config_comes_first_as_in_transformers(directory: Path):
    write(directory / "processor_config.json", {"image_processor": LIMITS, "processor_class": "DetrProcessor"})
    expected = Preprocessing(48, 64, max_hw=(48, 64), pad_hw=(64, 64))
    assert Description.of(directory).read_preprocessing() == expected


def test_a_processor_config_without_an_image_processor_is_ignored(directory: Path):
    write(directory / "processor_config.json", {"processor_class": "DetrProcessor"})
    assert Description.of(directory).read_preprocessing() == Preprocessing(600, 1333)


def test_a_damaged_processor_config_is_an_error(directory: Path):
    (directory / "processor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"processor_config.json cannot be read as JSON"):
        Description.of(directory)


def test_a_network_without_a_mask_gets_no_padding(tmp_path: Path):
    model = write_small_checkpoint(tmp_path / "small")
    write(model / "preprocessor_config.json", LIMITS)
    engine = Engine("a test", lambda pixels, mask: (np.zeros(1), np.zeros(1)), batches_mixed_sizes=False)
    described, labels, preprocessing = _described(model / "model.onnx", engine, None, None)
    assert (described, labels, preprocessing) == (engine, LABELS, Preprocessing(48, 64, max_hw=(48, 64)))
