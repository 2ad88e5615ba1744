"""Detections as text: the API's JSON, one JSON object a line, COCO results, or a table for people.

Each function gives the pieces to print, in turn, so that a long run shows its results as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from detr_onnx.detections import Detection, Detections
from detr_onnx.image.files import ImageFile
from detr_onnx.text import printable

Found = Iterable[tuple[ImageFile, Detections]]
"""Each image and what is in it."""


def array(found: Found) -> Iterator[str]:
    """One image: exactly what the hosted API answers, `[{"score", "label", "box"}, …]`."""
    for _, detections in found:
        yield json.dumps(detections.to_api()) + "\n"


def arrays(found: Found) -> Iterator[str]:
    """Several images: one JSON array of `{"file", "detections"}`."""
    yield from _json_array(_line(image, detections) for image, detections in found)


def lines(found: Found) -> Iterator[str]:
    """`{"file", "detections"}`, one JSON object a line."""
    for image, detections in found:
        yield _line(image, detections) + "\n"


def coco(found: Found) -> Iterator[str]:
    """Rows of a COCO results file, as one JSON array."""
    yield from _json_array(json.dumps(row) for image, detections in found for row in detections.to_coco(image.image_id))


def table(found: Found) -> Iterator[str]:
    """For people: a heading with the image's name, then a line a detection, best first, boxes in whole pixels."""
    for image, detections in found:
        rows = [(f"{d.score:.3f}", printable(d.label), _box(d)) for d in detections.by_score()]
        width = max((len(label) for _, label, _ in rows), default=0)
        yield f"{printable(image.name)}: {len(rows)} found\n"
        for score, label, box in rows:
            yield f"  {score}  {label:<{width}}  {box}\n"


FORMATS: dict[str, Callable[[Found], Iterator[str]]] = {"json": arrays, "ndjson": lines, "coco": coco, "table": table}


def writer(form: str | None, one: bool) -> Callable[[Found], Iterator[str]]:
    """The function for a `--format`; without one, or for "json", one image is answered as the API does."""
    return array if one and form in (None, "json") else FORMATS[form or "ndjson"]


def _box(d: Detection) -> str:
    return " ".join(f"{round(side):>5}" for side in (d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax))


def _line(image: ImageFile, detections: Detections) -> str:
    return json.dumps({"file": image.name, "detections": detections.to_api()})


def _json_array(items: Iterable[str]) -> Iterator[str]:
    """`[a, b, …]`, an item a line, from JSON texts."""
    separator = "["
    for item in items:
        yield separator + item
        separator = ",\n "
    yield "[]\n" if separator == "[" else "]\n"
