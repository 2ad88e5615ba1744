"""The rows of a job as one file: NDJSON, Parquet, CSV, a COCO dataset, or tasks of Label Studio.

Rows are written as they are read. They come from a function, because a COCO dataset needs two passes over them. Rows
with an error are only in the first three formats.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from detr_onnx.detections import Box
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.jobs.rows import Row, arrow_schema, import_pyarrow, to_line
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.labels import NO_CLASS
from detr_onnx.rle import Rle, area
from detr_onnx.text import array_pieces

Rows = Callable[[], Iterator[Row]]
BATCH_ROWS = 1000
CSV_FIELDS = ("path", "width", "height", "score", "label", "class_id", *Box.__slots__, "error")


@dataclass(frozen=True)
class ImageNames:
    """How labels name their images.

    Attributes:
        relative_to: a directory; paths become relative to it. None leaves them as they are.
        prefix: text before each path, such as a URL.
    """

    relative_to: str | None = None
    prefix: str = ""

    def name(self, path: str) -> str:
        """The name of an image.

        Raises:
            UsageError: it is not in the directory.
        """
        return self.prefix + self.relative(path)

    def relative(self, path: str) -> str:
        """The path relative to the directory; with / also on Windows, as in URLs and in the labels of other tools."""
        if self.relative_to is None or not path:
            return path.replace(os.sep, "/") if self.prefix else path
        try:
            relative = os.path.relpath(path, self.relative_to)
        except ValueError:  # another drive of Windows
            relative = os.pardir
        if relative.split(os.sep, 1)[0] == os.pardir:
            raise UsageError(f"{path} is not in {self.relative_to}", remedy="give --relative-to another directory")
        return relative.replace(os.sep, "/")


def ndjson(file: BinaryIO, rows: Rows, settings: JobSettings, names: ImageNames) -> None:
    """The rows, one JSON object per line; `names` applies to labels only."""
    file.writelines(map(to_line, rows()))


def parquet(file: BinaryIO, rows: Rows, settings: JobSettings, names: ImageNames) -> None:
    """The rows, with the job's settings in the schema's metadata."""
    pa = import_pyarrow()
    schema = arrow_schema(settings.metadata(), masks=settings.masks)
    with pa.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        source = rows()
        while some := [*itertools.islice(source, BATCH_ROWS)]:
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def comma_separated(file: BinaryIO, rows: Rows, settings: JobSettings, names: ImageNames) -> None:
    """A line for each detection, and one for each image without any."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows():
        image = {name: row[name] for name in ("width", "height", "error")} | {"path": names.name(row["path"])}
        found: list[Row] = row["detections"] or [{}]
        for d in found:
            writer.writerow(image | {name: d.get(name) for name in ("score", "label", "class_id")} | d.get("box", {}))
    text.flush()
    text.detach()


def coco(file: BinaryIO, rows: Rows, settings: JobSettings, names: ImageNames) -> None:
    """A COCO dataset with `score` in its annotations, and the masks of a panoptic model as `segmentation`.

    FiftyOne, CVAT, supervision and others import it. Image ids count from 1, in the order of the rows.
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(settings.class_names) if name != NO_CLASS]
    info = {"description": f"{settings.model}, detr-onnx {settings.version}, threshold {settings.threshold}"}
    file.write(f'{{"info": {json.dumps(info)},\n"categories": {json.dumps(categories)},\n"images": '.encode())
    images = (
        {"id": number, "file_name": names.name(row["path"]), "width": row["width"], "height": row["height"]}
        for number, row in enumerate(without_errors(rows()), start=1)
    )
    _write_array(file, images)
    file.write(b',\n"annotations": ')
    _write_array(file, _annotations(rows))
    file.write(b"}\n")


def _annotations(rows: Rows) -> Iterator[dict[str, Any]]:
    number = itertools.count(1)
    for image_id, row in enumerate(without_errors(rows()), start=1):
        for d in classified(row):
            xmin, ymin, xmax, ymax = (d["box"][side] for side in Box.__slots__)
            width, height = xmax - xmin, ymax - ymin
            ids = {"id": next(number), "image_id": image_id, "category_id": d["class_id"]}
            box = {"bbox": [xmin, ymin, width, height], "area": width * height, "iscrowd": 0, "score": d["score"]}
            yield ids | box | (_segmentation(d["mask"], row["path"]) if "mask" in d else {})


def _segmentation(mask: Rle, path: str) -> dict[str, Any]:
    """A mask and its area in pixels."""
    try:
        return {"segmentation": mask, "area": area(mask)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"the row of {path} is damaged", found=f"a mask that cannot be decoded: {error}") from error


def label_studio(file: BinaryIO, rows: Rows, settings: JobSettings, names: ImageNames) -> None:
    """Tasks with predictions, for `<Image name="image" value="$image">` and `<RectangleLabels name="label">`."""
    version = f"{settings.model} {settings.model_sha256[:12]}"
    _write_array(file, (_task(row, version, names) for row in without_errors(rows())))
    file.write(b"\n")


def _task(row: Row, version: str, names: ImageNames) -> dict[str, Any]:
    url = f"{names.prefix}{quote(names.relative(row['path']))}" if names.prefix else names.relative(row["path"])
    size = {"original_width": row["width"], "original_height": row["height"], "image_rotation": 0}
    result = [
        {
            "id": f"d{number}", "type": "rectanglelabels", "from_name": "label", "to_name": "image", **size,
            "value": _percent(d["box"], row) | {"rotation": 0, "rectanglelabels": [d["label"]]}, "score": d["score"],
        }
        for number, d in enumerate(classified(row))
    ]  # fmt: skip
    prediction: dict[str, Any] = {"model_version": version, "result": result}
    if result:
        prediction["score"] = sum(item["score"] for item in result) / len(result)
    return {"data": {"image": url}, "predictions": [prediction]}


def _percent(box: dict[str, float], row: Row) -> dict[str, float]:
    """A box within its image, in percent of it."""
    xmin, ymin, xmax, ymax = clipped(box, row)
    x, y, width, height = xmin / row["width"], ymin / row["height"], xmax - xmin, ymax - ymin
    return {"x": 100 * x, "y": 100 * y, "width": 100 * width / row["width"], "height": 100 * height / row["height"]}


def clipped(box: dict[str, float], row: Row) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels, within the image: a detection may reach a little beyond it."""
    width, height = row["width"], row["height"]
    xs = [min(max(box[side], 0.0), float(width)) for side in ("xmin", "xmax")]
    ys = [min(max(box[side], 0.0), float(height)) for side in ("ymin", "ymax")]
    return xs[0], ys[0], xs[1], ys[1]


def without_errors(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows without an error."""
    return (row for row in rows if row["error"] is None)


def classified(row: Row) -> list[dict[str, Any]]:
    """The detections whose class has a name."""
    return [d for d in row["detections"] if d["label"] != NO_CLASS]


def _write_array(file: BinaryIO, items: Iterable[dict[str, Any]]) -> None:
    """A JSON array, one item per line."""
    file.writelines(piece.encode() for piece in array_pieces(map(json.dumps, items)))


FILE_FORMATS: dict[str, Callable[[BinaryIO, Rows, JobSettings, ImageNames], None]] = {
    "ndjson": ndjson,
    "parquet": parquet,
    "csv": comma_separated,
    "coco": coco,
    "label-studio": label_studio,
}
