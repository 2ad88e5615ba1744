"""Images in tar files, as WebDataset writes them: read once from start to end, compressed or not."""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath

from detr_onnx.errors import DetrError, ImageError
from detr_onnx.image.files import image_suffixes, suffix
from detr_onnx.image.streams import MAX_STREAM_BYTES
from detr_onnx.image.walk import is_hidden
from detr_onnx.text import reason_of

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TAR_ERRORS = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What tarfile and the decompressors raise for damaged data."""


def is_tar(name: str) -> bool:
    """Whether a file of this name holds images in a tar archive."""
    return name.lower().endswith(TARS)


def tar_images(path: Path, is_wanted: Callable[[str], bool]) -> Generator[tuple[str, bytes | DetrError], None, None]:
    """Names and bytes of the wanted images of a tar file, in its order.

    Other members, such as WebDataset's .json and .cls, are left out, and so are hidden ones.

    Raises:
        ImageError: the file cannot be opened, or is damaged or cut short; what came before has been yielded.
    """
    count = 0
    try:
        with tarfile.open(path, "r|*") as tar:
            while member := tar.next():
                tar.members = []  # type: ignore[attr-defined] # tarfile would keep each
                count += 1
                if member.isfile() and _is_image(member.name) and is_wanted(member.name):
                    yield member.name, _content(tar, member, path)
            if tar.fileobj is None or tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end of the archive")  # after the last member come two empty blocks
    except TAR_ERRORS as error:
        found = reason_of(error)
        if not count:
            raise ImageError(
                f"cannot read {path}", found=found, expected="a tar file", remedy="check the file"
            ) from error
        what = f"{path} is damaged or cut short after {count} members"
        raise ImageError(what, found=found, remedy="get the file again, and run the job again") from error


def _is_image(name: str) -> bool:
    parts = [part for part in PurePosixPath(name).parts if part != os.pardir]
    return suffix(name) in image_suffixes() and not any(map(is_hidden, parts))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes | DetrError:
    if member.size > MAX_STREAM_BYTES:
        found, expected = f"{member.size} bytes", f"at most {MAX_STREAM_BYTES >> 20} MB"
        return ImageError(f"{path}/{member.name} is too large", found=found, expected=expected)
    file = tar.extractfile(member)
    return file.read() if file is not None else b""
