"""Where the server's page puts labels, by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

BOXES = Path(__file__).parents[2] / "detr_onnx" / "server" / "page" / "boxes.js"
PLACES = """
import { placeLabels } from "./boxes.mjs";
const context = { canvas: { width: 300, height: 200 }, measureText: (text) => ({ width: 7 * text.length }) };
console.log(JSON.stringify(placeLabels(context, JSON.parse(process.argv[2]), 1, 1)));
"""


@pytest.fixture
def places(tmp_path):
    """The rectangles of the labels of boxes, as left, top, right, bottom."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    shutil.copy(BOXES, tmp_path / "boxes.mjs")
    (tmp_path / "places.mjs").write_text(PLACES)

    def run(*boxes):
        sides = ("xmin", "ymin", "xmax", "ymax")
        detections = [{"label": "cat", "score": 0.5, "box": dict(zip(sides, box, strict=True))} for box in boxes]
        command = ["node", tmp_path / "places.mjs", json.dumps(detections)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return [(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in found]

    return run


def test_a_label_is_above_its_box_if_there_is_room(places):
    assert places() == []
    assert places((50, 60, 250, 150), (-5, 0, 40, 90), (280, 100, 299, 150)) == [
        (50, 42, 114, 60),
        (0, 0, 64, 18),
        (236, 82, 300, 100),
    ]


def test_labels_of_boxes_in_one_place_do_not_cover_each_other(places):
    found = places(*[(50, 60, 250, 150)] * 8)
    assert len(set(found)) == 8
    apart = [
        a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for i, a in enumerate(found) for b in found[:i]
    ]
    assert all(apart)
