"""Detections as text: the API's JSON, one JSON object a line, COCO results, or a table for people.

Each function gives the pieces to print, in turn, so that a long run shows its results as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from detr_onnx.detections import Detection, Detections

Found = Iterable[tuple[str, Detections]]
"""The name of each picture and what is in it."""


def array(found: Found) -> Iterator[str]:
    """One picture: exactly what the hosted API answers, `[{"score", "label", "box"}, …]`."""
    for _, detections in found:
        yield json.dumps(detections.to_api()) + "\n"


def arrays(found: Found) -> Iterator[str]:
    """Several pictures: one JSON array of `{"file", "detections"}`."""
    yield from _json_array(_line(name, detections) for name, detections in found)


def lines(found: Found) -> Iterator[str]:
    """`{"file", "detections"}`, one JSON object a line."""
    for name, detections in found:
        yield _line(name, detections) + "\n"


def coco(found: Found) -> Iterator[str]:
    """Rows of a COCO results file; `image_id` is the number a file is named by, as COCO's are, else its place."""
    rows = (
        json.dumps(row)
        for place, (name, detections) in enumerate(found, start=1)
        for row in detections.to_coco(image_id(name, place))
    )
    yield from _json_array(rows)


def table(found: Found) -> Iterator[str]:
    """For people: a heading with the picture's name, then a line a detection, best first, boxes in whole pixels."""
    for name, detections in found:
        rows = [(f"{d.score:.3f}", d.label, *(f"{side:.0f}" for side in _sides(d))) for d in detections.by_score()]
        width = max((len(label) for _, label, *_ in rows), default=0)
        yield f"{name}: {len(rows)} found\n"
        for score, label, *sides in rows:
            yield f"  {score}  {label:<{width}}  " + " ".join(f"{side:>5}" for side in sides) + "\n"


FORMATS: dict[str, Callable[[Found], Iterator[str]]] = {"json": arrays, "ndjson": lines, "coco": coco, "table": table}


def image_id(name: str, place: int) -> int:
    """139 for `images/000000000139.jpg`, the place for a name without a number."""
    stem = Path(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else place


def _sides(d: Detection) -> tuple[float, float, float, float]:
    return d.box.xmin, d.box.ymin, d.box.xmax, d.box.ymax


def _line(name: str, detections: Detections) -> str:
    return json.dumps({"file": name, "detections": detections.to_api()})


def _json_array(items: Iterable[str]) -> Iterator[str]:
    """`[a, b, …]`, an item a line, from JSON texts."""
    separator = "["
    for item in items:
        yield separator + item
        separator = ",\n "
    yield "[]\n" if separator == "[" else "]\n"
