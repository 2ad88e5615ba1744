"""Where the annotated images of `--save PATH` go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detr_onnx.cli.console import STDOUT
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.image.files import ImageFile
from detr_onnx.image.walk import file_ids
from detr_onnx.jobs.directory import make_directory
from detr_onnx.paths import is_directory, unique_name

KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # annotated images keep these; others are saved as .png


def save_paths(images: Sequence[ImageFile], save: str, single: bool, option: str = "--save") -> list[Path]:
    """A path for each annotated image: `save` itself for a single image, else a unique name in the directory `save`.

    `option` is the name of the option in error messages.

    Raises:
        UsageError: several images for one file, a suffix that no image format has, or "-".
        OutputError: the directory is missing and cannot be made, or an input image would be overwritten.
    """
    if save in ("", STDOUT):
        raise UsageError(f"{option} needs a file or a directory", found=repr(save), remedy="name one, such as ./boxes/")
    target = Path(save)
    if is_directory(save) or save.endswith(("/", os.sep)) or not target.suffix:
        make_directory(target)
        taken: set[str] = set()
        paths = [target / _name_of(image, taken) for image in images]
    else:
        _check_file(target, single)
        paths = [target]
    inputs = {file_id for image in images for file_id in file_ids(image.path)}
    for path in paths:
        if file_ids(path) & inputs:
            raise OutputError(f"{option} {save} would overwrite the image {path}", remedy="choose another path")
    return paths


def _check_file(target: Path, single: bool) -> None:
    """Raises what can be known of the file before there is an image to save."""
    from PIL import Image

    image_format = Image.registered_extensions().get(target.suffix.lower())
    if image_format not in Image.SAVE:
        raise UsageError(
            f"cannot save an image as {target}",
            found=f"the suffix {target.suffix!r}",
            expected=f"{', '.join(KEPT_SUFFIXES)} or the suffix of another image format",
            remedy="append a / if it is meant to be a directory",
        )
    if not single:
        raise UsageError(f"several images cannot be saved in the one file {target}", remedy="name a directory")
    if not is_directory(target.parent):
        raise OutputError(f"cannot write {target}", found=f"no directory {target.parent}", remedy="create it first")


def _name_of(image: ImageFile, taken: set[str]) -> str:
    """A name for the annotated image."""
    path = image.path or Path("stdin")
    return unique_name(path.stem, path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png", taken)
