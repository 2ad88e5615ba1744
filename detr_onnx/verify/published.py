"""Values that are published for the official models; the tests of marker `weights` use them, too.

Sources: tests/models/detr/test_modeling_detr.py of huggingface/transformers (outputs, on image 39769 of COCO's val2017,
its fixture 000000039769.png); the model zoo of facebookresearch/detr and the paper's table 1 (COCO's figures).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Rows = tuple[tuple[float, ...], ...]

IMAGE_NAME = "000000039769.png"
THRESHOLD = 0.3  # of the published detections and segments
TOLERANCE = 2e-4  # of logits, boxes and scores, as published with them
TOLERANCE_PIXELS = 1e-4  # they are printed to four digits
TOLERANCE_MASKS = 2e-3  # as published with them
TOLERANCE_BOX_PX = 640 * TOLERANCE  # of boxes in pixels, in an image 640 pixels wide

PIXELS_SHAPE = (1, 3, 800, 1066)
PIXELS = (0.2796, 0.3138, 0.3481)
"""pixel_values[0, 0, 0, :3]; the same for every model."""


@dataclass(frozen=True)
class Detected:
    """The detections of a model above `THRESHOLD`, in query order."""

    scores: tuple[float, ...]
    labels: tuple[str, ...]
    first_xyxy_px: tuple[float, ...]
    whole_xyxy_px: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Panoptic:
    """The masks of a model.

    Attributes:
        shape: of the mask logits of every query.
        masks: of the first query, [:3, :3].
        segments: their number above `THRESHOLD`.
        first: id, label id, whether it was fused.
        first_score: of the same segment.
        corner: the id of the segment in the upper left corner.
    """

    shape: tuple[int, ...]
    masks: Rows
    segments: int
    first: tuple[int, int, bool]
    first_score: float
    corner: int


@dataclass(frozen=True)
class Outputs:
    """Parts [0, :3, :3] of a model's outputs."""

    logits: Rows
    boxes_cxcywh: Rows
    last_hidden_state: Rows = ()
    detections: Detected | None = None
    panoptic: Panoptic | None = None
    tensors: int | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class Published:
    """What is published for a model: outputs, and COCO's figures by the names of `average_precision.FIGURES`."""

    outputs: Outputs | None = None
    coco: Mapping[str, float] = field(default_factory=dict)


def _zoo(*figures: float) -> dict[str, float]:
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100",
             "AR_small", "AR_medium", "AR_large")  # fmt: skip
    return {name: round(value / 100, 4) for name, value in zip(names, figures, strict=False)}


PUBLISHED = {
    "facebook/detr-resnet-50": Published(
        Outputs(
            logits=((-19.1194, -0.0893, -11.0154), (-17.3640, -1.8035, -14.0219), (-20.0461, -0.5837, -11.1060)),
            boxes_cxcywh=((0.4433, 0.5302, 0.8852), (0.5494, 0.2517, 0.0529), (0.4998, 0.5360, 0.9955)),
            last_hidden_state=((0.0616, -0.5146, -0.4032), (-0.7629, -0.4934, -1.7153), (-0.4768, -0.6403, -0.7826)),
            detections=Detected(
                scores=(0.9982, 0.9960, 0.9955, 0.9988, 0.9987),
                labels=("remote", "remote", "couch", "cat", "cat"),
                first_xyxy_px=(40.1615, 70.8090, 175.5476, 117.9810),
                whole_xyxy_px=(
                    (40, 70, 175, 117), (333, 72, 368, 187), (0, 1, 639, 473), (13, 52, 314, 470), (345, 23, 640, 368),
                ),
            ),
            tensors=530,
            parameters=41_631_008,
        ),
        _zoo(42.0, 62.4, 44.2, 20.5, 45.8, 61.1, 33.3, 53.3, 57.4, 31.2, 62.8, 80.5),
    ),
    "facebook/detr-resnet-50-dc5": Published(coco=_zoo(43.3, 63.1, 45.9, 22.5, 47.3, 61.1)),
    "facebook/detr-resnet-101": Published(coco=_zoo(43.5, 63.8, 46.4, 21.9, 48.0, 61.8)),
    "facebook/detr-resnet-101-dc5": Published(coco=_zoo(44.9, 64.7, 47.7, 23.7, 49.5, 62.3)),
    "facebook/detr-resnet-50-panoptic": Published(
        Outputs(
            logits=((-18.1565, -1.7568, -13.5029), (-16.8888, -1.4138, -14.1028), (-17.5709, -2.5080, -11.8654)),
            boxes_cxcywh=((0.5344, 0.1789, 0.9285), (0.4420, 0.0572, 0.0875), (0.6630, 0.6887, 0.1017)),
            panoptic=Panoptic(
                shape=(100, 200, 267),
                masks=(
                    (-7.7557, -10.8788, -11.9797), (-11.8880, -16.4328, -17.7450), (-14.7315, -19.7382, -20.3003),
                ),
                segments=5,
                first=(1, 17, False),
                first_score=0.9941,
                corner=4,
            ),
        )
    ),
}  # fmt: skip
"""By the name on the hub."""
