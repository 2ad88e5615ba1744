"""Class names with line breaks, control characters and halves of characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.bench.hosted.responses import parse_response
from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.cli.formats import table
from detr_onnx.detections import Detections
from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError, ModelFileError, UsageError
from detr_onnx.image.files import ImageFile
from detr_onnx.models.metadata import describe_graph
from tests.fuzz.checkpoints import TINY
from tests.fuzz.journals import CAT

HALF = "\ud800"
"""Half of a character: JSON may hold it, UTF-8 cannot."""

IMAGE = ImageFile("a.jpg", Path("a.jpg"))
ODD = ("two\nlines", "\x1b[31mred", "null\0", "x" * 5000, "\u202ereversed", "tab\t", "")


def found(*names: str) -> Detections:
    """One detection of each class."""
    count = len(names)
    boxes = np.tile(np.float32([2, 2, 30, 20]), (count, 1))
    return Detections(np.full(count, 0.5, np.float32), np.arange(count), boxes, names)


def test_odd_names_are_drawn_and_shown_on_one_line():
    detections = found(*ODD)
    assert found("two\nlines").draw(Image.new("RGB", (64, 48))).size == (64, 48)
    assert detections.draw(Image.new("RGB", (64, 48))).size == (64, 48)
    assert repr(detections).isprintable()
    assert "\n" not in json.dumps(detections.to_api())
    assert all(line.isprintable() for line in "".join(table([(IMAGE, detections)])).split("\n"))


@pytest.mark.parametrize("fields", [{"id2label": {"0": HALF}}, {"id2label": {"0": "cat", "1": f"a{HALF}b"}}])
def test_a_config_with_half_a_character_for_a_name_is_refused(fields: dict[str, Any]):
    text = json.loads(json.dumps(fields))
    with pytest.raises(CheckpointError, match="id2label does not name class") as refusal:
        config_from_huggingface({"model_type": "detr", **text}, "config.json")
    assert str(refusal.value).isprintable()


def test_metadata_with_half_a_character_for_a_name_is_refused(tmp_path):
    fields = {**TINY.to_fields(), "labels": ["cat", HALF]}
    metadata = {"detr_onnx.config": json.dumps(fields), "detr_onnx.preprocessing": "{}"}
    engine = Engine("a test", lambda pixels, mask: (pixels, pixels), metadata=metadata)
    with pytest.raises(ModelFileError, match="has metadata that cannot be read"):
        describe_graph(tmp_path / "model.onnx", engine, None, None)


def test_half_a_character_is_not_a_name_of_the_caller():
    with pytest.raises(UsageError, match="labels is not a list of names"):
        Detector("demo", labels=["cat", HALF])


def test_a_remote_api_that_names_half_a_character_has_failed():
    body = json.dumps([{**CAT, "label": HALF}]).encode()
    assert parse_response("huggingface", 200, body).outcome == "failed"
    message = parse_response("huggingface", 400, json.dumps({"error": f"{HALF}\x1b[31m"}).encode()).message
    assert message.isprintable()
