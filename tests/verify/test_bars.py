"""The table of bars against the shares of identical detections that docs/files.md publishes."""

from __future__ import annotations

import json

import pytest

from detr_onnx.verify.bars import BARS
from tests.docs.blocks import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"


@pytest.mark.parametrize("precision", BARS)
def test_the_source_has_the_measured_share_and_the_bar_is_not_above_it(precision):
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    keys = {f"onnxruntime-{precision}", f"openvino-fp32-{precision}"}  # on OpenVINO, bf16… is how a float32 file is run
    (identical,) = (row["identical"] for row in rows if row["key"] in keys)
    assert BARS[precision].source.endswith(f"docs/files.md: {identical:.1%}".replace("%", " %"))
    assert BARS[precision].identical <= identical
