"""How far each precision may differ from float32: one table, with its sources.

Differences of logits are in standard deviations of the reference's logits, those of boxes in 0..1 of the image. Shares
of identical detections are those published in docs/speed.md and docs/files.md, which come from 500 scenes and a trained
model; on fewer detections three standard errors of so many are allowed for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STANDARD_ERRORS = 3
FEWEST_DETECTIONS = 100  # a share of fewer says more about them than about the precision


@dataclass(frozen=True)
class Bar:
    """What a precision must keep to.

    Attributes:
        logits_largest: difference of any logit; None where single ones may differ.
        logits_mean: mean absolute difference of the logits.
        boxes_mean: mean absolute difference of the boxes.
        identical: share of the detections above 0.5 that both have.
        source: of the numbers.
    """

    logits_largest: float | None
    logits_mean: float
    boxes_mean: float
    identical: float
    source: str

    def required(self, detections: int) -> float:
        """The share of identical detections that so many must reach at least."""
        error = math.sqrt(self.identical * (1 - self.identical) / max(1, detections))
        return max(0.0, self.identical - STANDARD_ERRORS * error)


BARS = {
    "fp32": Bar(1e-3, 1e-4, 1e-5, 0.9995, "tests/engines; benchmarks/shapes.py; docs/files.md: 100.0 %"),
    "fp16-weights": Bar(0.03, 0.005, 0.001, 0.999, "tests/exporter/test_precision.py; docs/files.md: 99.9 %"),
    "fp16": Bar(0.1, 0.01, 0.002, 0.997, "tests/exporter/test_precision.py; docs/files.md: 99.7 %"),
    "bf16-backbone": Bar(None, 0.05, 0.01, 0.996, "tests/engines/test_openvino.py; docs/speed.md: 99.6 %"),
    "bf16-mixed": Bar(None, 0.1, 0.02, 0.99, "tests/engines/test_openvino.py; docs/speed.md: 99.2 %"),
    "bf16": Bar(None, 0.1, 0.02, 0.982, "tests/engines/test_openvino.py; docs/speed.md: 98.2 %"),
    "int8-weights": Bar(None, 0.1, 0.02, 0.99, "tests/exporter/test_precision.py; docs/files.md: 99.0 %"),
    "int8": Bar(None, 0.4, 0.05, 0.988, "exporter/trial.py; benchmarks/shapes.py; docs/files.md"),
}
"""From the strictest to the loosest."""


def bar_for(precision: str) -> Bar:
    """The bar of a precision; that of fp32 for one that a foreign graph does not tell."""
    return BARS.get(precision, BARS["fp32"])
