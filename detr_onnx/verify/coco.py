"""COCO's twelve figures of a model beside the published ones, with a standard error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detr_onnx.detector import Detector
from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.average_precision import Progress, detect_rows, evaluate
from detr_onnx.evaluation.bootstrap import average_precisions, match
from detr_onnx.evaluation.coco import Annotations, Row, read_annotations
from detr_onnx.paths import is_directory, is_file
from detr_onnx.verify.checks import OK, Check, judged

SECTION = "COCO"
ANNOTATIONS, IMAGES = "annotations/instances_val2017.json", "val2017"
WHOLE = 5000  # images of val2017
RESAMPLES, SEED = 200, 0
STANDARD_ERRORS = 3  # of a part of the images; the whole set is the published one, and has no such error
AT_MOST = 0.003  # of AP: rounding to a digit, another image decoder, a precision's own loss (docs/files.md)


def read_dataset(directory: Path) -> tuple[Annotations, Mapping[int, Path]]:
    """The annotations and images of COCO's val2017 as it is unpacked.

    Raises:
        DatasetError: a part is missing.
    """
    for path, there in ((directory / ANNOTATIONS, is_file), (directory / IMAGES, is_directory)):
        if not there(path):
            expected = f"{ANNOTATIONS} and {IMAGES}/ in the directory"
            raise DatasetError(f"{directory} is not COCO's val2017", found=f"no {path.name}", expected=expected)
    truth = read_annotations(directory / ANNOTATIONS)
    return truth, truth.images(directory / IMAGES)


def standard_error(truth: Annotations, rows: list[Row]) -> float | None:
    """Of AP, by a bootstrap over the images; None where it cannot be told."""
    count = len(truth.files)
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    values = average_precisions(match(truth, rows), drawn)[0]
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None


def check_coco(
    detector: Detector,
    truth: Annotations,
    images: Mapping[int, Path],
    published: Mapping[str, float],
    progress: Progress = iter,
) -> Iterator[Check]:
    """A check of AP, and the other figures beside theirs.

    Raises:
        DatasetError: objects have categories that the model does not know.
    """
    rows = detect_rows(detector, truth, images, progress=progress)
    figures, error = evaluate(truth, rows).figures, standard_error(truth, rows)
    for name, value in figures.items():
        yield _figure(name, value, published.get(name), error if name == "AP" else None, len(truth.files))


def _figure(name: str, value: float | None, published: float | None, error: float | None, images: int) -> Check:
    shown = "-" if value is None else f"{100 * value:.1f}"
    found = f"{shown} ± {100 * error:.1f} ({images} images)" if error is not None else shown
    expected = "" if published is None else f"published {100 * published:.1f}"
    numbers: dict[str, Any] = {"value": value, "published": published, "standard_error": error, "images": images}
    if name != "AP" or published is None or value is None:
        return Check(SECTION, name, OK, found, expected, numbers)
    allowed = AT_MOST + (0 if images >= WHOLE else STANDARD_ERRORS * (error or 0))
    return judged(SECTION, name, abs(value - published) <= allowed, found, f"{expected} ± {100 * allowed:.1f}", numbers)
