"""COCO's twelve figures of a model beside the published ones, with a standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detr_onnx.detector import Detector
from detr_onnx.errors import DatasetError, DetrError
from detr_onnx.evaluation.average_precision import Progress, detect_rows, evaluate
from detr_onnx.evaluation.bootstrap import average_precisions, match
from detr_onnx.evaluation.coco import Annotations, Row, read_annotations
from detr_onnx.paths import is_directory, is_file
from detr_onnx.verify.checks import FAILED, SHOWN, Check, judged

SECTION = "COCO"
ANNOTATIONS, IMAGES = "annotations/instances_val2017.json", "val2017"
WHOLE = 5000  # images of val2017
RESAMPLES, SEED = 200, 0
FEWEST_IMAGES = 500  # with fewer, the standard error is too small: AP differs from that of all images by more
STANDARD_ERRORS = 3  # that AP of some of the images may be off by; the published AP is of all of them
AT_MOST = 0.003  # that AP may be off by: its rounding, another image decoder, the loss of a precision (docs/files.md)


def read_dataset(directory: Path) -> tuple[Annotations, Mapping[int, Path]]:
    """The annotations and images in a directory where the archives of COCO's val2017 were unpacked.

    Raises:
        DatasetError: the annotations or the images are missing.
    """
    for path, is_there in ((directory / ANNOTATIONS, is_file), (directory / IMAGES, is_directory)):
        if not is_there(path):
            expected = f"{ANNOTATIONS} and {IMAGES}/ in the directory"
            raise DatasetError(f"{directory} is not COCO's val2017", found=f"no {path.name}", expected=expected)
    truth = read_annotations(directory / ANNOTATIONS)
    return truth, truth.images(directory / IMAGES)


def standard_error(truth: Annotations, rows: list[Row]) -> float | None:
    """The standard error of AP, by a bootstrap over the images; None if it cannot be computed."""
    count = len(truth.files)
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    values = average_precisions(match(truth, rows), drawn)[0]
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else None


def check_coco(
    open_detector: Callable[[], Detector],
    truth: Annotations,
    images: Mapping[int, Path],
    published: Mapping[str, float],
    progress: Progress = iter,
) -> Iterator[Check]:
    """A check of AP, then the other figures beside the published ones; one failed check if they cannot be computed."""
    try:
        detector = open_detector()
        rows = detect_rows(detector, truth, images, progress=progress)
    except DetrError as problem:
        yield Check(SECTION, "figures", FAILED, str(problem), "a model that detects in every image")
        return
    figures, error = evaluate(truth, rows).figures, standard_error(truth, rows)
    measured = {
        "standard_error": error,
        "images": len(truth.files),
        "engine": f"{detector.engine} {detector.precision}",
    }
    yield _average_precision(figures.pop("AP"), published.get("AP"), measured)
    for name, value in figures.items():
        yield Check(SECTION, name, SHOWN, _percent(value), *_beside(value, published.get(name)))


def _average_precision(value: float | None, published: float | None, measured: Mapping[str, Any]) -> Check:
    """The check of AP; with too few images, or no published AP, its value is only shown."""
    error, images = measured["standard_error"], measured["images"]
    found = _percent(value) + (f" ± {100 * error:.1f}" if error is not None else "")
    found += f" ({images} images, {measured['engine']})"
    expected, figures = _beside(value, published)
    figures.update(measured)
    if published is None or value is None or error is None or images < FEWEST_IMAGES:
        return Check(SECTION, "AP", SHOWN, found, expected, figures)
    allowed = AT_MOST + (0 if images >= WHOLE else STANDARD_ERRORS * error)
    good = abs(value - published) <= allowed
    return judged(SECTION, "AP", good, found, f"{expected} ± {100 * allowed:.1f}", figures)


def _beside(value: float | None, published: float | None) -> tuple[str, dict[str, Any]]:
    """The published figure in words, and both figures as numbers."""
    words = "" if published is None else f"published {_percent(published)}"
    return words, {"value": value, "published": published}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
