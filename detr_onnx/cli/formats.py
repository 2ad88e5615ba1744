"""Detections as text: the hosted API's JSON, one JSON object a line, COCO results, or a table for people.

Each function yields the pieces of text in turn, so that a long run prints its results as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

from detr_onnx.detections import Detection, Detections
from detr_onnx.image.files import ImageFile
from detr_onnx.text import array_pieces, printable

Results = Iterable[tuple[ImageFile, Detections]]
"""Each image and its detections."""


def api_array(results: Results) -> Iterator[str]:
    """For one image: exactly the hosted API's answer, `[{"score", "label", "box"}, …]`."""
    for _, detections in results:
        yield json.dumps(detections.to_api()) + "\n"


def json_array(results: Results) -> Iterator[str]:
    """For several images: one JSON array of `{"file", "detections"}`."""
    yield from array_pieces(_file_object(image, detections) for image, detections in results)
    yield "\n"


def ndjson(results: Results) -> Iterator[str]:
    """`{"file", "detections"}`, one JSON object a line."""
    for image, detections in results:
        yield _file_object(image, detections) + "\n"


def coco(results: Results) -> Iterator[str]:
    """The rows of a COCO results file, as one JSON array."""
    rows = (row for image, detections in results for row in detections.to_coco(image.image_id))
    yield from array_pieces(map(json.dumps, rows))
    yield "\n"


def table(results: Results) -> Iterator[str]:
    """For people: a heading with the image's name, then a line for each detection, best first."""
    for image, detections in results:
        rows = [(f"{d.score:.3f}", printable(d.label), _whole_pixels(d)) for d in detections.by_score()]
        width = max((len(label) for _, label, _ in rows), default=0)
        yield f"{printable(image.name)}: {len(rows)} found\n"
        for score, label, box in rows:
            yield f"  {score}  {label:<{width}}  {box}\n"


FORMATS: dict[str, Callable[[Results], Iterator[str]]] = {
    "json": json_array,
    "ndjson": ndjson,
    "coco": coco,
    "table": table,
}


def formatter(name: str | None, single: bool) -> Callable[[Results], Iterator[str]]:
    """The function for a `--format`; for a single image, "json" and the default are the hosted API's answer."""
    return api_array if single and name in (None, "json") else FORMATS[name or "ndjson"]


def _whole_pixels(d: Detection) -> str:
    return " ".join(f"{round(side):>5}" for side in (d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax))


def _file_object(image: ImageFile, detections: Detections) -> str:
    return json.dumps({"file": image.name, "detections": detections.to_api()})
