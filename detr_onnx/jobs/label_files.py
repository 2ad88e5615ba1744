"""The rows of a job as a directory with a file for each image: labels of YOLO, annotations of Pascal VOC.

The path of each file in its folder is that of its image below the directory that all images share. Scores are left out,
as neither format has them. The new directory is moved into place when it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from xml.etree import ElementTree

from detr_onnx.atomic import draft_directory, place_directory, writing
from detr_onnx.errors import OutputError
from detr_onnx.jobs.directory import make_directory
from detr_onnx.jobs.file_formats import ImageNames, Rows, classified, clipped, without_errors
from detr_onnx.jobs.rows import Row
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.labels import NO_CLASS
from detr_onnx.paths import exists, file_name, is_directory


@dataclass(frozen=True)
class DirectoryFormat:
    """A format with a file for each image.

    Attributes:
        folder: where the files are in the directory.
        suffix: of the files.
        text: makes the content of a file from the row, the class names and the image's name.
        extra: makes the name and the content of one more file from the class names; None if there is none.
    """

    folder: str
    suffix: str
    text: Callable[[Row, list[str], str], str]
    extra: Callable[[list[str]], tuple[str, str]] | None = None


def write_directory(output: Path, rows: Rows, settings: JobSettings, names: ImageNames, form: DirectoryFormat) -> None:
    """Writes a file for each image without an error; all of them, or nothing.

    Raises:
        OutputError: the directory exists and is not empty, two images have one name, or nothing can be written.
    """
    parent = output.absolute().parent
    with writing(output, "choose another directory"):
        if exists(output) and (not is_directory(output) or any(output.iterdir())):
            found = "a directory that is not empty" if is_directory(output) else "a file"
            raise OutputError(f"cannot write {output}", found=found, remedy="choose another directory")
        make_directory(parent)
        with draft_directory(parent) as draft:
            fresh = draft / "fresh"  # not `draft` itself, which only this user may read
            _fill(fresh, rows, settings, names, form)
            place_directory(fresh, output)


def _fill(directory: Path, rows: Rows, settings: JobSettings, names: ImageNames, form: DirectoryFormat) -> None:
    folder = directory / form.folder
    folder.mkdir(parents=True)
    if form.extra is not None:
        name, content = form.extra(settings.class_names)
        (directory / name).write_text(content, encoding="utf-8", newline="\n")
    common = _common_directory(rows) if names.relative_to is None else ""
    for row in without_errors(rows()):
        path = folder / _inside(os.path.relpath(row["path"], common) if common else names.relative(row["path"]))
        path = path.with_name(f"{path.stem}{form.suffix}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(form.text(row, settings.class_names, names.name(row["path"])))
        except (FileExistsError, NotADirectoryError) as error:
            what = f"the labels of two images would have the same path, {path.relative_to(folder)}"
            remedy = "rename one of the two images"
            raise OutputError(what, found=f"the image {row['path']}", remedy=remedy) from error


def _common_directory(rows: Rows) -> str:
    """The longest directory that all images are in, or nothing if they have none in common."""
    common: str | None = None
    for row in without_errors(rows()):
        parent = os.path.dirname(row["path"])  # noqa: PTH120 - of many names
        try:
            common = parent if common is None else os.path.commonpath([common, parent])
        except ValueError:  # relative and absolute paths
            return ""
    return common or ""


def _inside(path: str) -> Path:
    """The path without a root and without `..`, so that it stays inside a directory: a tar file may have any names."""
    plain = PurePath(path)
    parts = [part for part in plain.relative_to(plain.anchor).parts if part != os.pardir]
    return Path(*map(file_name, parts))


def yolo_text(row: Row, class_names: list[str], name: str) -> str:
    """Lines of class, centre x, centre y, width and height, in 0..1 of the image."""
    classes, lines = used_classes(class_names), []
    for d in classified(row):
        xmin, ymin, xmax, ymax = clipped(d["box"], row)
        centre_size = [
            (xmin + xmax) / 2 / row["width"], (ymin + ymax) / 2 / row["height"],
            (xmax - xmin) / row["width"], (ymax - ymin) / row["height"],
        ]  # fmt: skip
        if d["label"] not in classes:
            what, found = f"the row of {row['path']} is damaged", f"the label {d['label']!r}"
            raise OutputError(what, found=found, expected="a class of the job's model")
        lines.append(" ".join([str(classes.index(d["label"])), *(f"{value:.6f}" for value in centre_size)]) + "\n")
    return "".join(lines)


def yolo_classes(class_names: list[str]) -> tuple[str, str]:
    """data.yaml, with the names of the classes by their number in the labels."""
    names = used_classes(class_names)
    return "data.yaml", f"nc: {len(names)}\nnames: {json.dumps(names)}\n"  # a JSON list is YAML


def used_classes(class_names: list[str]) -> list[str]:
    """The class names without the gaps of COCO's ids, each once."""
    return [name for name in dict.fromkeys(class_names) if name != NO_CLASS]


def voc_text(row: Row, class_names: list[str], name: str) -> str:
    """Pascal VOC's XML. Its pixels count from 1, and both corners belong to the box."""
    root = ElementTree.Element("annotation")
    _add(root, "folder", os.path.dirname(name))  # noqa: PTH120
    _add(root, "filename", os.path.basename(name))  # noqa: PTH119
    _add(root, "path", name)
    size = ElementTree.SubElement(root, "size")
    for field, value in (("width", row["width"]), ("height", row["height"]), ("depth", 3)):
        _add(size, field, str(value))
    _add(root, "segmented", "0")
    for d in classified(row):
        item = ElementTree.SubElement(root, "object")
        for field, value in (("name", d["label"]), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(item, field, value)
        box = ElementTree.SubElement(item, "bndbox")
        xmin, ymin, xmax, ymax = clipped(d["box"], row)
        left, right = _whole_pixels(xmin, xmax, row["width"])
        top, bottom = _whole_pixels(ymin, ymax, row["height"])
        for field, pixel in (("xmin", left), ("ymin", top), ("xmax", right), ("ymax", bottom)):
            _add(box, field, str(pixel))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _whole_pixels(start: float, end: float, size: int) -> tuple[int, int]:
    """The first and the last pixel of a side of a box, counted from 1; at least one pixel of the image."""
    first = min(int(start) + 1, size)
    return first, min(max(round(end), first), size)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    """Adds an element; characters that XML cannot have are replaced."""
    ElementTree.SubElement(parent, name).text = "".join(c if c >= " " or c in "\t\n" else "\ufffd" for c in text)


DIRECTORY_FORMATS = {
    "yolo": DirectoryFormat("labels", ".txt", yolo_text, yolo_classes),
    "voc": DirectoryFormat("Annotations", ".xml", voc_text),
}
