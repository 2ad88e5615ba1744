"""Detections as HTML, for notebooks."""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

from detr_onnx.errors import DetrError

if TYPE_CHECKING:
    from detr_onnx.detections import Detection, Detections

PREVIEW_PX = 800  # longest side of the image that is shown
HEAD = ("score", "label", "xmin", "ymin", "xmax", "ymax")


def html_of(detections: Detections) -> str:
    """A table with a row for each detection, below the annotated image if its path can still be read."""
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    rows = "".join(_row(detection) for detection in detections)
    return f"{_preview(detections)}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(detection: Detection) -> str:
    box = detection.box
    sides = (f"{side:.1f}" for side in (box.xmin, box.ymin, box.xmax, box.ymax))
    cells = (f"{detection.score:.3f}", html.escape(detection.label), *sides)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _preview(detections: Detections) -> str:
    """The annotated image as an HTML element; empty if there is none to read."""
    if detections.path is None:
        return ""
    try:
        image = detections.draw()
    except DetrError:
        return ""
    image.thumbnail((PREVIEW_PX, PREVIEW_PX))
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="annotated image" src="data:image/jpeg;base64,{data}">'
