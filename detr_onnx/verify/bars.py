"""The bar of each precision: how far it may differ from float32. One table, with the sources of its numbers.

Differences of logits are in standard deviations of the reference's logits, those of boxes in fractions of the image's
sides. Shares of identical detections are published in docs/files.md, where they were measured with the demo model on
500 scenes. A share of few detections is uncertain, so it may be lower by three standard errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STANDARD_ERRORS = 3
FEWEST_DETECTIONS = 100  # the share of fewer depends on chance more than on the precision, and is not judged


@dataclass(frozen=True)
class Bar:
    """The limits of one precision.

    Attributes:
        logits_largest: most that any logit may differ; None where single logits may differ by more.
        logits_mean: most that the logits may differ on average.
        boxes_mean: most that the boxes may differ on average.
        identical: least share of the detections above 0.5 that must be the same with both.
        source: where the numbers come from.
    """

    logits_largest: float | None
    logits_mean: float
    boxes_mean: float
    identical: float
    source: str

    def required(self, detections: int) -> float:
        """The least share of identical detections, if it is measured on this number of detections."""
        error = math.sqrt(self.identical * (1 - self.identical) / max(1, detections))
        return max(0.0, self.identical - STANDARD_ERRORS * error)


BARS = {
    "fp32": Bar(1e-3, 1e-4, 1e-5, 0.9995, "tests/engines; benchmarks/shapes.py; docs/files.md: 100.0 %"),
    "fp16-weights": Bar(0.03, 0.005, 0.001, 0.999, "tests/exporter/test_precision.py; docs/files.md: 100.0 %"),
    "fp16": Bar(0.1, 0.01, 0.002, 0.997, "tests/exporter/test_precision.py; docs/files.md: 100.0 %"),
    "bf16-backbone": Bar(None, 0.05, 0.01, 0.996, "tests/engines/test_openvino.py; docs/files.md: 99.9 %"),
    "bf16-mixed": Bar(None, 0.1, 0.02, 0.99, "tests/engines/test_openvino.py; docs/files.md: 99.1 %"),
    "bf16": Bar(None, 0.1, 0.02, 0.982, "tests/engines/test_openvino.py; docs/files.md: 98.2 %"),
    "int8-weights": Bar(None, 0.1, 0.02, 0.987, "tests/exporter/test_precision.py; docs/files.md: 98.8 %"),
    "int8": Bar(None, 0.4, 0.05, 0.988, "exporter/trial.py; benchmarks/shapes.py; docs/files.md: 99.4 %"),
}
"""From the strictest to the loosest."""


def bar_for(precision: str) -> Bar:
    """The bar of a precision; that of fp32 if a graph from another exporter does not say its precision."""
    return BARS.get(precision, BARS["fp32"])
