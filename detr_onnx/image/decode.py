"""Decodes files, bytes and arrays to upright RGB images."""

from __future__ import annotations

import io
import logging
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.errors import ImageError, ImageTooLargeError, UsageError
from detr_onnx.file_kinds import JSON, START_BYTES, known_kind
from detr_onnx.image.heif import heif_kind, open_heif, why_not_readable
from detr_onnx.image.limits import DECODER_ERRORS, MAX_PIXELS, check_contained_images, check_image, check_pixels
from detr_onnx.image.modes import depth_note, frames_note, is_16_bit, to_rgb
from detr_onnx.image.streams import open_image_file, short_name, unreadable
from detr_onnx.text import one_line, printable, reason_of

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]

OPENING_ERRORS: dict[type[Exception], tuple[str, str]] = {
    FileNotFoundError: ("no such file", "check the path"),
    IsADirectoryError: ("a directory", "name the images in it"),
    PermissionError: ("no permission", "allow this user to read it"),
}
"""Error of opening a file -> what was found, and the remedy."""

NOT_READ = frozenset({"EPS", "IPTC", "FPX", "MIC"})
"""EPS is decoded by another program. The others hold whole files of other formats, whose size no header tells."""

ORIENTATION_TAG = 0x0112  # EXIF 2.32, section 4.6.4
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transpose that makes the image upright. 1 needs none."""

TEXT_BYTES = 64  # of a file that is not an image; enough to tell whether it is text
INSTALL = {
    "HEIC": "run pip install 'detr-onnx[heif]', or save it as JPEG",
    "HEIF": "run pip install 'detr-onnx[heif]', or save it as JPEG",
    "AVIF": "run pip install 'pillow>=11.3', or save it as JPEG",
}
"""Format that needs a package -> the remedy where it is missing."""

logger = logging.getLogger(__name__)


def read_rgb(source: ImageSource, max_pixels: int = MAX_PIXELS, *, name: str | None = None) -> Image.Image:
    """Reads an image as RGB, rotated as its EXIF orientation says.

    The alpha channel is dropped and the colours stay, as with `Image.convert("RGB")` and in the pipelines of
    transformers. Of several pages or frames the first is read, and values of more than 8 bits are scaled (see
    `modes.eight_bit`; Pillow would clip them); a logged warning says so.

    Args:
        source: a path ("~" is not expanded), an encoded image as bytes or as a binary file object (read from its
            start and left open), a Pillow image, or a uint8 array: [height, width, 3] in the order red, green, blue,
            [height, width] for grey, or [height, width, 4] with alpha.
        max_pixels: an encoded image with more pixels is refused before it is decoded.
        name: what to call the image in errors; of a path, the path itself unless given.

    Returns:
        The image in mode RGB. An upright RGB Pillow image is returned as the same object.

    Raises:
        ImageError: the source is not an image, is damaged or cannot be opened.
        ImageTooLargeError: it has more than `max_pixels`, or so many JPEG scans that decoding would take minutes.
        UsageError: the source has a type, dtype or shape that cannot be an image.
    """
    if isinstance(source, Image.Image):
        upright, note = _upright_rgb(source, "the image", is_16_bit(source))
        _log("the image", note)
        return upright
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(bytes(source)), name or "the data", max_pixels)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fsdecode(source), max_pixels, name)
    if hasattr(source, "read"):
        return _from_file(source, max_pixels, name)
    raise UsageError(
        "the image has a wrong type",
        found=type(source).__name__,
        expected="a path, bytes, a binary file object, a Pillow image or a uint8 array",
        remedy="of a tensor, pass tensor.permute(1, 2, 0).numpy()" if hasattr(source, "permute") else None,
    )


def _from_path(path: str, max_pixels: int, name: str | None) -> Image.Image:
    name = short_name(name or path)
    try:
        stream = open_image_file(Path(path))  # closed below; errors of the decoder must not be caught here
    except (OSError, ValueError) as error:
        found, remedy = OPENING_ERRORS.get(type(error), (reason_of(error), "check the path"))
        raise unreadable(name, path, found, remedy) from error
    with stream:
        return _decode(stream, name, max_pixels)


def _from_file(file: BinaryIO, max_pixels: int, name: str | None) -> Image.Image:
    try:
        is_binary = not getattr(file, "closed", False) and isinstance(file.read(0), bytes)
    except (OSError, ValueError):  # open for writing; detached
        is_binary = False
    if not is_binary:
        raise UsageError(
            "the file object cannot be read as bytes", found=type(file).__name__, remedy='open it with mode "rb"'
        )
    return _decode(file, name or "the file object", max_pixels)


def _rewind(file: BinaryIO) -> BinaryIO:
    """The file at its start. A pipe cannot be rewound; the rest of it is read into memory."""
    try:
        file.seek(0)
    except (AttributeError, OSError):
        return io.BytesIO(file.read())
    return file


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in ((1,), (3,), (4,)) or not array.size:
        raise UsageError(
            "the array is not an image",
            found=f"{array.dtype} {list(array.shape)}",
            expected="uint8 [height, width, 3], [height, width] or [height, width, 4], not empty",
            remedy=_array_remedy(array),
        )
    if channels == (1,):
        array = array.reshape(array.shape[:2])
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _array_remedy(array: NDArray[Any]) -> str | None:
    if array.dtype != np.uint8:
        return "scale the values to 0..255 and use array.astype(numpy.uint8)"
    if array.ndim == 4:
        return "pass the images one by one"
    return "put the channels last with array.transpose(1, 2, 0)" if array.shape[:1] in ((1,), (3,), (4,)) else None


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    try:
        stream = _rewind(file)
        check_contained_images(stream, name, max_pixels)
        image = _identify(stream)
        if image is not None:
            check_image(image, stream, name, max_pixels)
    except Image.DecompressionBombError as error:  # some plug-ins have limits of their own
        raise ImageTooLargeError(f"{name} is too large", found=str(error), remedy="scale it down first") from error
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if image is None:
        raise _not_an_image(stream, name)
    depth = depth_note(image)
    upright, scale = _upright_rgb(image, name, is_16_bit(image))
    check_pixels(upright.width, upright.height, name, max_pixels)
    _log(name, depth, scale, _frames_note(image))
    return upright


def _log(name: str, *notes: str) -> None:
    """One warning of what was assumed about an image, if anything."""
    if any(notes):
        logger.warning("%s: %s", printable(name), "; ".join(note for note in notes if note))


def _damaged(name: str, error: Exception) -> ImageError:
    if "closed image" in str(error) or "closed file" in str(error):
        return ImageError(f"{name} cannot be read", found=one_line(error), remedy="pass it before it is closed")
    if found := why_not_readable(error):
        return ImageError(f"{name} cannot be read here", found=found, remedy="save it as JPEG")
    found = one_line(error)[:200]
    return ImageError(f"{name} is damaged or cut short", found=found, remedy="get the file again")


def _not_an_image(stream: BinaryIO, name: str) -> ImageError:
    kind = heif_kind(stream)
    if kind is not None:
        article = "an" if kind == "AVIF" else "a"
        return ImageError(f"{name} is {article} {kind} image, which Pillow cannot read here", remedy=INSTALL[kind])
    return ImageError(f"{name} is not an image", found=_looks_like(stream), expected="JPEG, PNG, WebP or the like")


def _identify(stream: BinaryIO) -> Image.Image | None:
    """Reads the header of the image and decodes nothing. None if no plug-in knows the format.

    This is `Image.open` without its check of the size, which issues warnings. If a plug-in accepts the first bytes and
    no plug-in can read the rest of the header, its error is raised.
    """
    if heif_kind(stream) in ("HEIC", "HEIF"):
        return open_heif(stream)
    stream.seek(0)
    head = stream.read(16)
    damage: Exception | None = None
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in [name for name in Image.ID if name not in NOT_READ]:
            factory, accepts = Image.OPEN[name]
            accepted: bool | str = False
            try:
                accepted = accepts(head) if accepts else False
                if (accepted or not accepts) and not isinstance(accepted, str):  # a str: a library is missing
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                damage = damage or (error if accepted else None)
    if damage is not None:
        raise damage
    return None


def _looks_like(stream: BinaryIO) -> str:
    """A description of the stream's content, such as "12 bytes of text ('not an image')"."""
    count = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(START_BYTES)
    kind = known_kind(head)
    if kind and kind != JSON:  # the text itself, such as a server's error, tells more
        return kind
    text = " ".join(head[:TEXT_BYTES].decode("utf-8", "replace").rstrip("\ufffd").split())
    if text.isprintable() and "\ufffd" not in text:
        return f"{count} bytes of text ({text[:30]!r})" if count else "0 bytes"
    return f"{count} bytes that begin with {head[:8].hex(' ')}"


def _upright_rgb(image: Image.Image, name: str, has_16_bits: bool = False) -> tuple[Image.Image, str]:
    """The image decoded, in RGB and rotated, and a note of the scale that was assumed."""
    if not image.width or not image.height:
        raise ImageError(f"{name} has no pixels", found=f"{image.width} x {image.height}")
    try:
        image.load()
        transpose = TRANSPOSES.get(_orientation(image))
        rgb, note = to_rgb(image, has_16_bits)
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if transpose is None:
        return rgb, note
    upright = rgb.transpose(transpose)
    upright.info = {}  # it holds the orientation, which must not be applied again
    return upright, note


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODER_ERRORS:  # damaged metadata does not make the image unreadable
        return 1


def _frames_note(image: Image.Image) -> str:
    try:
        return frames_note(image)
    except DECODER_ERRORS:  # damage behind the first frame does not matter
        return ""
