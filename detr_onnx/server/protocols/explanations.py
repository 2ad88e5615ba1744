"""The wire format of our own `/explain`: each detection with a small image of where its query looks; no sockets."""

from __future__ import annotations

import base64
import io
from typing import Any

from detr_onnx.attention import AttentionMaps
from detr_onnx.image.heatmap import colours, shares_of_peak


def write_explanations(maps: AttentionMaps) -> dict[str, Any]:
    """The response: rows and columns of cells, and the objects, best first.

    An object has score, label and box as in the hosted API; `peak`, the largest share of its attention in a cell; and
    `heat`, a PNG of one pixel a cell as a data URL, to be laid over the image. Its colours are those of the figures.
    """
    rows, columns = maps.decoder.shape[-2:]
    found = maps.detections.to_api()
    objects = [each | _heat(maps, number) for each, number in zip(found, maps.best_first(), strict=True)]
    return {"rows": rows, "columns": columns, "objects": objects}


def _heat(maps: AttentionMaps, number: int) -> dict[str, Any]:
    shares, peak = shares_of_peak(maps.object_map(number))
    file = io.BytesIO()
    colours(shares).save(file, "PNG")
    return {"peak": peak, "heat": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"}
