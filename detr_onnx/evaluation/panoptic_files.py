"""COCO's panoptic format: a JSON with the segments of each image, and beside it a directory with a PNG of their ids.

    panoptic.json    annotations: [{"image_id", "file_name", "segments_info": [{"id", "category_id", …}]}]
    panoptic/*.png   the id of each pixel's segment is R + 256 G + 65536 B; 0 is none

Source: https://cocodataset.org/#format-data, and `rgb2id` of cocodataset/panopticapi.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.atomic import draft_directory, place_directory, write_atomically, writing
from detr_onnx.errors import DatasetError, OutputError
from detr_onnx.image.decode import read_rgb
from detr_onnx.panoptic import PanopticSegmentation
from detr_onnx.paths import exists, is_directory, is_file, unique_name
from detr_onnx.text import array_pieces

Ids = NDArray[np.int32]

UNPLACED = ".detr-onnx-json.part"  # the JSON in the directory of its PNGs; a process killed before moving it leaves it


def ids_to_rgb(ids: Ids) -> NDArray[np.uint8]:
    """[H,W] -> [H,W,3]: ids of at most 24 bits as colours."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)


def rgb_to_ids(rgb: NDArray[np.uint8]) -> Ids:
    """[H,W,3] -> [H,W]: colours as ids."""
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    ids: Ids = red | green << 8 | blue << 16
    return ids


def read_ids(path: Path) -> Ids:
    """The ids [H,W] in a PNG.

    Raises:
        ImageError: it cannot be read.
    """
    return rgb_to_ids(np.asarray(read_rgb(path)))


def png_directory(file: Path) -> Path:
    """Where the PNGs of a JSON file are, unless something else is said: the same name without .json."""
    return file.with_suffix("") if file.name else file  # "/" and "." have no name


def check_results_file(file: Path) -> None:
    """Raises what can be known of a file for results before there are any.

    Raises:
        OutputError: it cannot be written, or the directory of its PNGs is there and not empty.
    """
    directory = png_directory(file)
    if is_directory(file) or directory == file or not is_directory(file.parent):
        found = "a directory" if is_directory(file) else None
        found = found or (f"no directory {file.parent}" if directory != file else "a name without a suffix")
        raise OutputError(f"cannot write {file}", found=found, expected="a file such as panoptic.json")
    if _is_left_by_a_kill(directory):
        return
    if exists(directory) and (not is_directory(directory) or any(directory.iterdir())):
        found = "a directory that is not empty" if is_directory(directory) else "a file"
        remedy = "choose another file, or remove what is there"
        raise OutputError(f"cannot write the PNGs of {file} into {directory}", found=found, remedy=remedy)


class PanopticResults:
    """Writes the PNGs of images, and keeps the rows of their JSON.

    Args:
        directory: of the PNGs.
        category_of: the category id of each class; classes without one are left out.
    """

    def __init__(self, directory: Path, category_of: Sequence[int | None]) -> None:
        self._directory, self._category_of = directory, category_of
        self._images: list[str] = []  # as JSON, which takes less memory than what it says
        self._annotations: list[str] = []
        self._names: set[str] = set()

    def add(self, image_id: int, name: str, found: PanopticSegmentation) -> None:
        """Writes the segments of an image; `name` is its file's.

        Raises:
            OutputError: the PNG cannot be written.
        """
        ids, segments = kept_segments(found, self._category_of)
        png = unique_name(Path(name).stem if name != "-" else "stdin", ".png", self._names)
        stream = io.BytesIO()
        Image.fromarray(ids_to_rgb(ids)).save(stream, "PNG")
        with writing(self._directory / png):
            (self._directory / png).write_bytes(stream.getvalue())
        height, width = ids.shape
        self._images.append(json.dumps({"id": image_id, "file_name": name, "width": width, "height": height}))
        row = {"image_id": image_id, "file_name": png, "segments_info": segments}
        self._annotations.append(json.dumps(row))

    def json(self, categories: Mapping[int, str]) -> str:
        """The content of the JSON file, with names of categories by id."""
        rows = [json.dumps({"id": k, "name": name}) for k, name in categories.items()]
        lists = {"images": self._images, "annotations": self._annotations, "categories": rows}
        return "{" + ",\n".join(f'"{name}": {"".join(array_pieces(texts))}' for name, texts in lists.items()) + "}\n"


@contextlib.contextmanager
def panoptic_results(
    file: Path, category_of: Sequence[int | None], categories: Mapping[int, str]
) -> Iterator[PanopticResults]:
    """Results that are in place, JSON and PNGs, when the block ends without an error; otherwise nothing is.

    Args:
        file: the JSON, whose directory of PNGs must not be there or be empty.
        category_of: the category id of each class of the model; None for classes that are left out.
        categories: names by category id.

    Raises:
        OutputError: see `check_results_file`; or they cannot be written.
    """
    check_results_file(file)
    with contextlib.ExitStack() as stack:
        with writing(file):
            fresh = stack.enter_context(draft_directory(file.absolute().parent)) / "fresh"  # which others may read
            fresh.mkdir()
        results = PanopticResults(fresh, category_of)
        yield results
        with writing(file):
            write_atomically(fresh / UNPLACED, results.json(categories).encode())
            _place(fresh, file)


def _place(fresh: Path, file: Path) -> None:
    """Moves the PNGs, and the JSON among them, to where they belong."""
    directory = png_directory(file)
    file.unlink(missing_ok=True)  # so that it is never beside the PNGs of others
    if _is_left_by_a_kill(directory):
        directory.replace(fresh.with_name("left"))  # beside the draft, with which it is removed
    place_directory(fresh, directory)
    (directory / UNPLACED).replace(file)


def _is_left_by_a_kill(directory: Path) -> bool:
    """Whether the PNGs are those of a process that was killed before it moved their JSON."""
    return is_directory(directory) and is_file(directory / UNPLACED)


def kept_segments(found: PanopticSegmentation, category_of: Sequence[int | None]) -> tuple[Ids, list[dict[str, Any]]]:
    """The ids [H,W] of the segments that have a category, 0 elsewhere; and the segments as COCO describes them.

    A segment has `id`, `category_id`, `area` in pixels, `bbox` as left, top, width, height, `iscrowd` 0, and `score`.
    """
    ids = found.segmentation.clip(min=0)
    areas = np.bincount(ids.reshape(-1), minlength=len(found.segments_info) + 1)
    segments: list[dict[str, Any]] = []
    for info in found.segments_info:
        category = category_of[info["label_id"]]
        mask = ids == info["id"]
        if category is None:
            ids[mask] = 0
        elif mask.any():
            row = {"id": info["id"], "category_id": category, "area": int(areas[info["id"]]), "bbox": _box(mask)}
            segments.append(row | {"iscrowd": 0, "score": info["score"]})
    return ids, segments


def _box(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height of the pixels of a mask that has some."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    (top, bottom), (left, right) = ((int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    return [left, top, right - left, bottom - top]


def check_sizes(source: str, name: str, found_hw: tuple[int, ...], expected_hw: tuple[int, ...]) -> None:
    """Raises DatasetError unless a PNG has the size of its image."""
    if found_hw != expected_hw:
        (height, width), (rows, columns) = expected_hw, found_hw
        raise DatasetError(
            f"{source} has a PNG of another size than its image: {name}",
            found=f"{columns}x{rows} pixels",
            expected=f"{width}x{height}",
            remedy="use the PNGs of these images, at their full size",
        )
