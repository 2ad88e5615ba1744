"""COCO's AP of both sides on the same images, and a bootstrap interval of the difference.

The hosted API returns only detections with a score above 0.1, in whole pixels. That costs it AP, so the local side is
measured twice: with every query and unrounded boxes, and limited to the same scores and whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.bench.hosted.responses import Items
from detr_onnx.detections import Detections
from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.bootstrap import average_precisions, match
from detr_onnx.evaluation.coco import Annotations, Row

SEED = 0
CONFIDENCE = 0.95
SIDES = ("local_all", "local", "hosted")
"""Local with every query, local with the hosted API's limits, hosted."""

Sample = NDArray[np.float64]


def annotated(images: Sequence[ComparedImage], truth: Annotations) -> dict[int, ComparedImage]:
    """The images that have annotations, by image id: by their path below the directory, else by the file's name.

    Raises:
        DatasetError: there are none, or an annotated name is that of several images.
    """
    by_path, by_last = _by_name(images, lambda name: name), _by_name(images, lambda name: name.rsplit("/")[-1])
    candidates = {number: by_path.get(name) or by_last.get(name, []) for number, name in truth.files.items()}
    for number, same_name in candidates.items():
        if len({image.sha256 for image in same_name}) > 1:
            raise DatasetError(
                f"{truth.source} has one image for several files",
                found=f"{truth.files[number]} for {same_name[0].path} and {same_name[-1].path}",
                remedy="compare the images of one directory at a time",
            )
    found = {number: same_name[0] for number, same_name in candidates.items() if same_name}
    if not found:
        names = [*truth.files.values()][:1]
        raise DatasetError(
            f"{truth.source} does not annotate any of the images",
            found=images[0].name,
            expected=f"file names such as {names[0]}" if names else None,
            remedy="give the directory that these annotations belong to",
        )
    return found


def _by_name(images: Sequence[ComparedImage], name_of: Callable[[str], str]) -> dict[str, list[ComparedImage]]:
    named: dict[str, list[ComparedImage]] = {}
    for image in images:
        named.setdefault(name_of(image.name), []).append(image)
    return named


def accuracy_of(truth: Annotations, sides: Mapping[str, Sequence[Row]], resamples: int) -> dict[str, Any]:
    """AP and AP50 of each side, and local minus hosted with a paired bootstrap interval.

    Args:
        truth: of the compared images only.
        sides: rows of a results file, for each of `SIDES`.
        resamples: how many times as many images are drawn with replacement, the same ones for all sides.
    """
    count = len(truth.files)
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = np.concatenate([np.ones((1, count), np.int64), drawn])  # the first row is the images themselves
    samples = {side: average_precisions(match(truth, sides[side]), weights) for side in SIDES}
    named = {side: dict(zip(("AP", "AP50"), sample, strict=True)) for side, sample in samples.items()}
    return {
        "images": count,
        "objects": sum(not row["iscrowd"] for row in truth.objects),
        **{side: {name: _rounded(sample[0]) for name, sample in named[side].items()} for side in SIDES},
        "difference": {n: _interval(named["local"][n] - named["hosted"][n]) for n in ("AP", "AP50")},
        "difference_all": {n: _interval(named["local_all"][n] - named["hosted"][n]) for n in ("AP", "AP50")},
        "resamples": resamples,
        "seed": SEED,
        "confidence": CONFIDENCE,
    }


def only(truth: Annotations, ids: Iterable[int]) -> Annotations:
    """The annotations of some images."""
    files = {number: truth.files[number] for number in sorted(ids)}
    return replace(truth, files=files, objects=[row for row in truth.objects if row["image_id"] in files])


def rows_of_items(image_id: int, items: Items, truth: Annotations) -> list[Row]:
    """Rows of a results file, from an answer in the API's form; labels that are not a category are left out."""
    categories = _categories(truth)
    return [
        _row(image_id, category, item["score"], [item["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")])
        for item in items
        if (category := categories.get(_folded(item["label"]))) is not None
    ]


def rows_of_detections(image_id: int, detections: Detections, truth: Annotations) -> list[Row]:
    """Rows of a results file, with unrounded boxes; labels that are not a category are left out."""
    categories = _categories(truth)
    return [
        _row(image_id, category, found.score, [found.box.xmin, found.box.ymin, found.box.xmax, found.box.ymax])
        for found in detections
        if (category := categories.get(_folded(found.label))) is not None
    ]


def _categories(truth: Annotations) -> dict[str, int]:
    return {_folded(name): number for number, name in truth.categories.items()}


def _folded(label: str) -> str:
    return label.strip().casefold()


def _row(image_id: int, category: int, score: float, xyxy: Sequence[float]) -> Row:
    xmin, ymin, xmax, ymax = xyxy
    bbox = [xmin, ymin, xmax - xmin, ymax - ymin]
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "score": score}


def _interval(differences: Sample) -> dict[str, float | None]:
    """The difference, whose sample is the first, and the interval of the others."""
    drawn = differences[1:][np.isfinite(differences[1:])]
    edges = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = np.quantile(drawn, edges) if len(drawn) else (np.nan, np.nan)
    return {"value": _rounded(differences[0]), "low": _rounded(low), "high": _rounded(high)}


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
