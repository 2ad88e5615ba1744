"""The row of an image: what was detected in it and by what, or why nothing could be.

Its fields are path, width, height, detections, error, model_sha256, engine, precision and version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_onnx import __version__
from detr_onnx.detections import Box, Detections
from detr_onnx.errors import DetrError, MissingPackageError, OutputError
from detr_onnx.json_input import parse_json
from detr_onnx.text import is_text

if TYPE_CHECKING:
    import pyarrow

    from detr_onnx.detector import Detector

Row = dict[str, Any]
"""One image: see `row_of` and `error_row`."""

FIELDS = ("path", "width", "height", "detections", "error", "model_sha256", "engine", "precision", "version")
MAX_LINE_BYTES = 64 << 20  # of NDJSON; a hundred masks of a very large image take 10 MB
LARGEST_INT = 2**31 - 1  # of int32, which sizes and class ids are in Parquet
LARGEST_FLOAT = float(np.finfo(np.float32).max)
LARGEST_EXACT = 2**24  # whole numbers up to this are exact in float32; pyarrow refuses larger ones


@dataclass(frozen=True)
class Origin:
    """What made a row: the last four of its fields.

    Attributes:
        model_sha256: of the model's file, see `Detector.sha256`.
        engine: "numpy", "onnxruntime" or "openvino".
        precision: what it computed in, such as "fp32".
        version: of detr-onnx.
    """

    model_sha256: str
    engine: str
    precision: str
    version: str = __version__

    @classmethod
    def of(cls, detector: Detector) -> Origin:
        """The origin of a detector's rows."""
        return cls(detector.sha256, detector.engine, detector.precision)

    def fields(self) -> Row:
        """The fields of a row."""
        names = ("model_sha256", "engine", "precision", "version")
        return {name: getattr(self, name) for name in names}


def row_path(name: str) -> str:
    """A file's name as it is in rows: bytes that are not UTF-8 are escaped, as in `caf\\xe9.jpg`."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate, which a list in JSON may contain and no file system can
        return name.encode("utf-8", "backslashreplace").decode()


def row_of(path: str, size_wh: Sequence[int], detections: Detections, origin: Origin) -> Row:
    """The row of an image; `detections` are best first, with boxes in pixels that are not rounded.

    Those of a panoptic model have a `mask`: compressed run lengths as COCO's.
    """
    detections = detections.by_score()
    found: list[Row] = [
        {
            "score": d.score,
            "label": d.label,
            "class_id": d.class_id,
            "box": {side: getattr(d.box, side) for side in Box.__slots__},
        }
        for d in detections
    ]
    if detections.mask_logits is not None:
        for item, mask in zip(found, detections.mask_logits.rles(), strict=True):
            item["mask"] = mask
    width, height = map(int, size_wh)
    return {"path": path, "width": width, "height": height, "detections": found, "error": None, **origin.fields()}


def error_row(path: str, error: DetrError, origin: Origin, size_wh: Sequence[int] | None = None) -> Row:
    """The row of an image that failed: no detections, and the error's sentence; the size if it is known."""
    width, height = map(int, size_wh) if size_wh is not None else (None, None)
    sentence = row_path(" ".join(str(error).split()))
    return {"path": path, "width": width, "height": height, "detections": [], "error": sentence, **origin.fields()}


def origin_of(row: Row) -> Origin:
    """What made a row."""
    return Origin(row["model_sha256"], row["engine"], row["precision"], row["version"])


def to_line(row: Row) -> bytes:
    """A line of NDJSON."""
    return json.dumps(row).encode() + b"\n"


def from_line(line: bytes, source: str) -> Row:
    """The row in a line of NDJSON.

    Raises:
        OutputError: it is cut off, or is not a row.
    """
    if not line.endswith(b"\n"):
        raise OutputError(f"{source} is damaged", found="a line that is cut off, or too long for a row")
    row = parse_json(line, source, error=OutputError, max_bytes=MAX_LINE_BYTES)
    if not isinstance(row, dict):
        raise OutputError(
            f"{source} is damaged", found=f"a JSON {type(row).__name__}", expected="an object in each line"
        )
    return checked(row, source)


def checked(row: Row, source: str) -> Row:
    """The row, if it has the fields of a row, with values of their types. Masks are checked where they are read.

    Raises:
        OutputError: it has other fields, or values of other types.
    """
    if set(row) != set(FIELDS):
        raise OutputError(f"{source} has rows of another form", found=", ".join(row)[:200], expected=", ".join(FIELDS))
    wrong = [name for name in FIELDS if not _is_valid(name, row[name])]
    if not wrong and row["error"] is None:
        wrong = [name for name in ("width", "height") if row[name] is None]
    if wrong:
        found = f"{wrong[0]} {json.dumps(row[wrong[0]], default=str)[:200]} in the row of {row['path']}"
        raise OutputError(f"{source} has a row with a wrong value", found=found)
    return row


def _is_valid(name: str, value: object) -> bool:
    """Whether a field of a row may have this value."""
    if name in ("width", "height"):
        return value is None or (type(value) is int and 0 < value <= LARGEST_INT)
    if name == "detections":
        return isinstance(value, list) and all(map(_is_detection, value))
    return is_text(value) or (name == "error" and value is None)


def _is_detection(value: object) -> bool:
    """Whether a value is a detection of a row, apart from its mask."""
    if not isinstance(value, dict) or not isinstance(value.get("box"), dict):
        return False
    numbers = [value.get("score"), *(value["box"].get(side) for side in Box.__slots__)]
    class_id = value.get("class_id")
    named = is_text(value.get("label")) and type(class_id) is int and 0 <= class_id <= LARGEST_INT
    return named and all(map(_is_float32, numbers))


def _is_float32(value: object) -> bool:
    """Whether a value is a number that float32 has, as scores and boxes are in Parquet."""
    if type(value) is int:
        return abs(value) <= LARGEST_EXACT
    return isinstance(value, float) and abs(value) <= LARGEST_FLOAT  # nor NaN


def arrow_schema(metadata: dict[str, str] | None = None, *, masks: bool = False) -> pyarrow.Schema:
    """The rows' schema in Arrow: detections are a list of structs.

    Args:
        metadata: of the schema, which Parquet files keep.
        masks: whether detections have masks.

    Raises:
        MissingPackageError: the package pyarrow is not installed.
    """
    pa = import_pyarrow()
    box = pa.struct([pa.field(side, pa.float32(), nullable=False) for side in Box.__slots__])
    columns = [
        pa.field("score", pa.float32(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("box", box, nullable=False),
    ]
    if masks:
        size = pa.field("size", pa.list_(pa.int32()), nullable=False)
        mask = pa.struct([size, pa.field("counts", pa.string(), nullable=False)])
        columns.append(pa.field("mask", mask, nullable=False))
    detection = pa.struct(columns)
    fields = [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("detections", pa.list_(pa.field("element", detection, nullable=False)), nullable=False),
        pa.field("error", pa.string()),
    ]
    fields += [pa.field(name, pa.string(), nullable=False) for name in FIELDS[5:]]
    return pa.schema(fields, metadata=metadata)


def import_pyarrow() -> Any:
    """The package pyarrow, with its module parquet; MissingPackageError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        remedy = "run pip install 'detr-onnx[parquet]'"
        raise MissingPackageError("Parquet needs the package pyarrow", remedy=remedy) from error
    return pyarrow
