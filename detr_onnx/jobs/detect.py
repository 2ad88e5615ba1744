"""Detects in the inputs of a job, while the next ones are decoded. What goes wrong with an image is in its row."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from detr_onnx.errors import DetrError
from detr_onnx.image.decode import read_rgb
from detr_onnx.jobs.inputs import Input
from detr_onnx.jobs.rows import Origin, Row, error_row, row_of
from detr_onnx.read_ahead import read_ahead
from detr_onnx.unexpected_errors import error_of_image

if TYPE_CHECKING:
    from detr_onnx.detector import Detector
    from detr_onnx.pipeline import Prepared


def detect_rows(
    detector: Detector, inputs: Iterable[Input], threshold: float, labels: Sequence[str] | None = None
) -> Generator[Row, None, None]:
    """A row for each input, in order.

    Args:
        detector: what detects.
        inputs: may be endless; only a few are held in memory at a time.
        threshold: in 0..1; scores must be strictly greater.
        labels: the only labels to keep; None for all.
    """
    origin = Origin.of(detector)

    def prepare(item: Input) -> Prepared | DetrError:
        try:
            return _prepare(detector, item)
        except Exception as error:  # noqa: BLE001 - the row says what failed
            return error_of_image(item.path, error)

    for item, prepared in read_ahead(prepare, inputs, meanwhile=detector.leaves_cores):
        if isinstance(prepared, DetrError):
            yield error_row(item.path, prepared, origin)
            continue
        size_wh = prepared[-1][0][::-1].tolist()
        try:
            detections = detector.detect_prepared(*prepared, threshold)[0]
            row = row_of(item.path, size_wh, detections if labels is None else detections.only(labels), origin)
        except Exception as error:  # noqa: BLE001 - as above
            row = error_row(item.path, error_of_image(item.path, error), origin, size_wh)
        yield row


def _prepare(detector: Detector, item: Input) -> Prepared:
    """What the network takes; raises whatever goes wrong with the image."""
    if isinstance(item.source, DetrError):
        raise item.source
    return detector.preprocess([read_rgb(item.source, name=item.path)])
