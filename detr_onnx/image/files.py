"""Which images a command line means, and what to call what is made of them."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError, OutputError, UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # annotated images keep these; others become .png
STDIN = "-"
COCO_NAME = re.compile(r"(?:COCO_\w+_)?([0-9]{1,18})")  # 000000000139, COCO_val2014_000000000139


@dataclass(frozen=True)
class ImageFile:
    """One image to look at.

    Attributes:
        name: what it goes by in the answer.
        path: where it lies; None for stdin.
        image_id: its number in COCO's format.
    """

    name: str
    path: Path | None
    image_id: int = 1

    def source(self) -> Path | bytes:
        """What `Detector` reads it from.

        Raises:
            ImageError: stdin is closed.
        """
        if self.path is not None:
            return self.path
        if sys.stdin is None:
            raise ImageError("there is no stdin to read an image from", remedy="pipe one in, or name a file")
        return sys.stdin.buffer.read()


def find_images(arguments: Sequence[str]) -> tuple[list[ImageFile], list[ImageError]]:
    """The images that files, directories (searched to the bottom), patterns such as `*.jpg` and `-` (stdin) name.

    In the order of the arguments, sorted within a directory or pattern, each once. The errors are of arguments that
    name nothing: missing files, directories without images, patterns that nothing matches.
    """
    found: dict[str, Path | None] = {}
    errors = []
    for argument in dict.fromkeys(arguments):
        try:
            found.update(_expand(argument))
        except ImageError as error:
            errors.append(error)
    names = list(found)
    return [ImageFile(n, found[n], i) for n, i in zip(names, image_ids(names), strict=True)], errors


def image_ids(names: Sequence[str]) -> list[int]:
    """139 for `000000000139.jpg`, as COCO names its own; 1, 2, 3, … unless every name has a number of its own."""
    numbers = [int(found[1]) for name in names if (found := COCO_NAME.fullmatch(Path(name).stem))]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def is_single_image(arguments: Sequence[str]) -> bool:
    """Whether the arguments name one image, not a directory or pattern that happens to hold one."""
    return len(arguments) == 1 and not _is_directory(arguments[0]) and not _is_pattern(arguments[0])


def _is_directory(argument: str) -> bool:
    return os.path.isdir(argument)  # noqa: PTH112 - Path.is_dir raises for names that are too long


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _expand(argument: str) -> Iterator[tuple[str, Path | None]]:
    """Name and path of each image that one argument names."""
    if argument == STDIN:
        yield STDIN, None
    elif _is_directory(argument):
        yield from _images_among(Path(argument).rglob("*"), f"no images in {argument}")
    elif _is_pattern(argument):
        matches = glob.iglob(argument, recursive=True)  # noqa: PTH207 - a pattern may be absolute
        yield from _images_among(map(Path, matches), f"no image matches {argument}")
    elif os.path.lexists(argument):
        yield argument, Path(argument)
    else:
        name = argument if len(argument) <= 200 else f"{argument[:100]}…"
        raise ImageError(f"cannot read {name!r}", found="no such file", remedy="check the path")


def _images_among(paths: Iterator[Path], else_trouble: str) -> list[tuple[str, Path]]:
    images = sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())
    if not images:
        raise ImageError(else_trouble, expected=f"files that end in {', '.join(SUFFIXES)}", remedy="check the path")
    return [(str(path), path) for path in images]


# Where annotated images go


def save_paths(images: Sequence[ImageFile], save: str, one: bool) -> list[Path]:
    """Where each annotated image goes: `save` itself for one image, else a name of its own in that directory.

    Raises:
        UsageError: several images for one file, or a suffix that is no image's.
        OutputError: the directory is not there or cannot be made, or an image would be written over itself.
    """
    target = Path(save)
    is_directory = _is_directory(save) or save.endswith(("/", os.sep)) or not target.suffix
    if not is_directory:
        _check_file(target, one)
        places = [target]
    else:
        _make(target)
        taken: set[str] = set()
        places = [target / _untaken(image, taken) for image in images]
    originals = {_identity(image.path) for image in images if image.path is not None} - {None}
    for place in places:
        if _identity(place) in originals:
            raise OutputError(f"--save {save} would write over the image {place}", remedy="choose another place")
    return places


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever it is called; None for one that is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _check_file(target: Path, one: bool) -> None:
    """One image may go there, as far as can be told before there is one."""
    from PIL import Image

    form = Image.registered_extensions().get(target.suffix.lower())
    if form not in Image.SAVE:
        raise UsageError(
            f"no image can be saved as {target}",
            found=f"the suffix {target.suffix!r}",
            expected=f"{', '.join(KEPT_SUFFIXES)} or another format of images",
            remedy="put a / behind it if it is meant to be a directory",
        )
    if not one:
        raise UsageError(f"several images do not fit into {target}", remedy="name a directory")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}", found=f"no directory {target.parent}", remedy="create it first")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "a file of that name" if directory.exists() else error.strerror
        raise OutputError(f"cannot make the directory {directory}", found=found, remedy="choose another") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write into {directory}", found="no permission", remedy="choose a directory that can be written"
        )


def _untaken(image: ImageFile, taken: set[str]) -> str:
    """`street.jpg`, then `street-2.jpg`, … for images of the same name; case makes no difference on some disks."""
    path = image.path or Path("stdin")
    suffix = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png"
    name, number = f"{path.stem}{suffix}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{path.stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name
