"""The inputs of a job, one after another: files, directories, patterns, lists of paths and tar shards.

    photos/  'photos/**/*.jpg'  a.jpg     as `detr-onnx detect` takes them
    @list.txt  @-  @list.parquet:column   lists of paths, see manifests.py
    shard-000.tar  'shards/*.tar.gz'      images in tar files, see tars.py

Names are read one at a time, so ten million take as much memory as ten.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath

from detr_onnx.errors import DatasetError, DetrError, ImageError, UsageError
from detr_onnx.image.files import STDIN, image_suffixes, suffix
from detr_onnx.image.walk import files_below, is_hidden, is_pattern, matches
from detr_onnx.jobs.manifests import Manifest
from detr_onnx.jobs.rows import row_path
from detr_onnx.jobs.shard import Shard
from detr_onnx.jobs.tars import is_tar, tar_images
from detr_onnx.paths import is_directory, is_file


@dataclass(frozen=True)
class Input:
    """An image of a job.

    Attributes:
        path: as it is in its row; of a member of a tar file, the tar's path and the member's name.
        source: the file, the bytes of a member, or why it cannot be read.
    """

    path: str
    source: str | bytes | DetrError


class Inputs:
    """The images that arguments name.

    Args:
        arguments: as on the command line.
        shard: the share of the images to take. The images of a tar file stay together.

    Raises:
        UsageError: an argument is `-`.
        DatasetError: a list of paths is missing or has no such column.

    Attributes:
        shard: as given; shard 0/1 if none was.
        problems: errors of the arguments that name no image; complete when `read` has ended.
    """

    def __init__(self, arguments: Sequence[str], shard: Shard | None = None) -> None:
        if STDIN in arguments:
            raise UsageError("a job does not read an image from stdin", remedy="use @- for a list of paths")
        self._arguments = [*dict.fromkeys(arguments)]
        self._manifests = {a: Manifest.parse(a[1:]) for a in self._arguments if is_manifest(a)}
        self.shard = shard or Shard()
        self.problems: list[DetrError] = []

    def read(self, is_wanted: Callable[[str], bool]) -> Generator[Input, None, None]:
        """The images of the shard, in turn.

        Args:
            is_wanted: whether an image of this path is to be read; it is called once for each name.
        """
        self.problems.clear()
        for argument in self._arguments:
            count = 0
            for name in self.names(argument):
                count += 1
                yield from self._inputs(name, is_wanted)
            if not count:
                self.problems.append(_no_images_error(argument))

    def count(self) -> int | None:
        """How many images of the shard there are, by a pass over all names; None if that costs too much or is unknown.

        Names that occur twice count twice.
        """
        if any(manifest.is_read_once for manifest in self._manifests.values()):
            return None
        total = 0
        for name in (name for argument in self._arguments for name in self.names(argument)):
            if is_tar(name):
                return None
            total += self.shard.holds(row_path(name))
        return total

    def names(self, argument: str) -> Iterable[str]:
        """The files that an argument names."""
        if argument in self._manifests:
            return self._manifests[argument].names()
        if is_directory(argument):
            return _images(argument)
        if is_pattern(argument):
            return (n for n in matches(argument) if _is_input(n) and is_file(n))
        return [argument]

    def _inputs(self, name: str, is_wanted: Callable[[str], bool]) -> Iterator[Input]:
        path = row_path(name)
        if not self.shard.holds(path):
            return
        if not is_tar(name):
            if is_wanted(path):
                yield Input(path, name)
            return
        try:
            with closing(tar_images(Path(name), lambda member: is_wanted(f"{path}/{row_path(member)}"))) as members:
                for member, content in members:
                    yield Input(f"{path}/{row_path(member)}", content)
        except ImageError as error:
            if is_wanted(path):
                yield Input(path, error)


def is_manifest(argument: str) -> bool:
    """Whether an argument is `@` and a list of paths; a file whose name begins with @ is given as ./@name."""
    return argument.startswith("@")


def _images(directory: str) -> Iterator[str]:
    """The images below a directory. A link to another image that is found below it is left out."""
    top = "" if Path(directory) == Path() else str(Path(directory))
    real_top = os.path.join(os.path.realpath(directory), "")  # noqa: PTH118 - of many names
    for name in files_below(top):
        if suffix(name) in image_suffixes() and _is_own_file(name, real_top):
            yield name


def _is_own_file(name: str, real_top: str) -> bool:
    """Whether an entry below `real_top` is a file, and not a link to an image that is found there itself.

    A link that leads nowhere, and a file that has just been removed, count as files: their rows say what is wrong.
    """
    try:
        mode = os.lstat(name).st_mode
    except OSError:
        return True
    if not stat.S_ISLNK(mode):
        return stat.S_ISREG(mode)
    return not is_directory(name) and not _is_found(os.path.realpath(name), real_top)


def _is_found(file: str, real_top: str) -> bool:
    """Whether a search of the directory `real_top`, which ends with a separator, gives this file; both are real paths.

    What a link leads to may be hidden, as in .git/annex, or have no suffix, as in the hub's cache; then only the link
    is found.
    """
    if not file.startswith(real_top) or suffix(file) not in image_suffixes() or not is_file(file):
        return False
    return not any(map(is_hidden, PurePath(file[len(real_top) :]).parts))


def _is_input(name: str) -> bool:
    return suffix(name) in image_suffixes() or is_tar(name)


def _no_images_error(argument: str) -> DetrError:
    """The error of an argument that names no image."""
    if is_manifest(argument):
        return DatasetError(f"no paths in {argument[1:]}", expected="one path per line", remedy="check the list")
    what = f"no images in {argument}" if is_directory(argument) else f"no image matches {argument}"
    expected = "files that end in .jpg, .png, .webp or the suffix of another image format"
    return ImageError(what, expected=expected, remedy="check the path")
