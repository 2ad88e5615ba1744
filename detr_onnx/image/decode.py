"""Decodes files, bytes and arrays to upright RGB images."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.errors import ImageError, ImageTooLargeError, UsageError
from detr_onnx.image.streams import open_image_file

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded. Pillow refuses at the same size; decoded they would be 700 MB."""

OPENING_ERRORS: dict[type[Exception], tuple[str, str]] = {
    FileNotFoundError: ("no such file", "check the path"),
    IsADirectoryError: ("a directory", "name the images in it"),
    PermissionError: ("no permission", "allow this user to read it"),
}
"""Error of opening a file -> what was found, and the remedy."""

DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, RuntimeError, LookupError),
    *(ArithmeticError, struct.error, zlib.error),
)
"""What Pillow's plug-ins raise for damaged data."""

RUNS_PROGRAMS = frozenset({"EPS"})
"""Formats that Pillow decodes by running another program on the file."""

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

SIGNATURES = {b"%PDF": "a PDF document", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file"}
BRANDS = {b"heic": "a HEIC image", b"heix": "a HEIC image", b"mif1": "a HEIF image", b"avif": "an AVIF image"}


def read_rgb(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads an image as RGB, rotated as its EXIF orientation says.

    Of an animation the first frame is read. The alpha channel is dropped and the colours stay, as with
    `Image.convert("RGB")` and in the pipelines of transformers. 16-bit grey is scaled to 8 bits by its upper byte
    (Pillow would clip it); see `_eight_bit` for 32-bit integers and floats.

    Args:
        source: a path ("~" is not expanded), an encoded image as bytes or as a binary file object (read from its
            start and left open), a Pillow image, or a uint8 array: [height, width, 3] in the order red, green, blue,
            [height, width] for grey, or [height, width, 4] with alpha.
        max_pixels: an encoded image with more pixels is refused before it is decoded.

    Returns:
        The image in mode RGB. An upright RGB Pillow image is returned as the same object.

    Raises:
        ImageError: the source is not an image, is damaged or cannot be opened.
        ImageTooLargeError: it has more than `max_pixels`.
        UsageError: the source has a type, dtype or shape that cannot be an image.
    """
    if isinstance(source, Image.Image):
        return _upright_rgb(source, "the image")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "the data", max_pixels)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fsdecode(source), max_pixels)
    if hasattr(source, "read"):
        return _from_file(source, max_pixels)
    raise UsageError(
        "no image can be read from this",
        found=type(source).__name__,
        expected="a path, bytes, a binary file object, a Pillow image or a uint8 array",
    )


def _from_path(path: str, max_pixels: int) -> Image.Image:
    name = path if len(path) <= 200 else f"{path[:100]}…"
    try:
        stream = open_image_file(Path(path))  # closed below; errors of the decoder must not be caught here
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found, remedy = OPENING_ERRORS.get(type(error), (reason, "check the path"))
        raise ImageError(f"cannot read {name!r}", found=found, remedy=remedy) from error
    with stream:
        return _decode(stream, name, max_pixels)


def _from_file(file: BinaryIO, max_pixels: int) -> Image.Image:
    try:
        is_binary = not getattr(file, "closed", False) and isinstance(file.read(0), bytes)
    except OSError:  # open for writing
        is_binary = False
    if not is_binary:
        raise UsageError(
            "the file object cannot be read as bytes", found=type(file).__name__, remedy='open it with mode "rb"'
        )
    return _decode(file, "the file object", max_pixels)


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
        image = _identify(stream)
    except Image.DecompressionBombError as error:  # some plug-ins have limits of their own
        raise ImageTooLargeError(f"{name} is too large", found=str(error), remedy="scale it down first") from error
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if image is None:
        raise ImageError(f"{name} is not an image", found=_looks_like(stream), expected="JPEG, PNG, WebP or the like")
    if image.width * image.height > max_pixels:
        raise ImageTooLargeError(
            f"{name} is too large",
            found=f"{image.width} x {image.height} pixels",
            expected=f"at most {max_pixels / 1e6:.0f} million",
            remedy="scale it down first",
        )
    return _upright_rgb(image, name)


def _damaged(name: str, error: Exception) -> ImageError:
    found = str(error) or type(error).__name__
    return ImageError(f"{name} is damaged or cut short", found=found, remedy="get the file again")


def _identify(stream: BinaryIO) -> Image.Image | None:
    """Reads the header of the image and decodes nothing. None if no plug-in knows the format.

    This is `Image.open` without its check of the size, which issues warnings. If a plug-in accepts the first bytes and
    no plug-in can read the rest of the header, its error is raised.
    """
    head = stream.read(16)
    damage: Exception | None = None
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in [name for name in Image.ID if name not in RUNS_PROGRAMS]:
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
    head = stream.read(64)
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video")
    for signature, description in SIGNATURES.items():
        if head.startswith(signature):
            return description
    text = " ".join(head.decode("utf-8", "replace").rstrip("\ufffd").split())
    if text.isprintable() and "\ufffd" not in text:
        return f"{count} bytes of text ({text[:30]!r})" if count else "0 bytes"
    return f"{count} bytes that begin with {head[:8].hex(' ')}"


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    if not image.width or not image.height:
        raise ImageError(f"{name} has no pixels", found=f"{image.width} x {image.height}")
    try:
        image.load()
        transpose = TRANSPOSES.get(_orientation(image))
        rgb = _rgb(image)
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if transpose is None:
        return rgb
    upright = rgb.transpose(transpose)
    upright.info = {}  # it holds the orientation, which must not be applied again
    return upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODER_ERRORS:  # damaged metadata does not make the image unreadable
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image)))
    elif image.mode == "La":  # premultiplied grey converts only to LA
        image = image.convert("LA")
    elif image.mode == "P" and "transparency" in image.info:  # converting to RGB directly issues a warning
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bit(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Scales grey values of another type to [h, w] uint8.

    White is 65535 for uint16. int32 and float32 do not define white: it is the smallest of 1 (float32 only), 255,
    65535 and the maximum that no value exceeds. Negative values, NaN and infinity become black.
    """
    if grey.dtype.kind == "u":
        return (grey >> 8).astype(np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), posinf=0.0).clip(0)
    whites = (1.0, 255.0, 65535.0) if grey.dtype.kind == "f" else (255.0, 65535.0)
    white = next((w for w in whites if values.max() <= w), values.max())
    return np.rint(values * (255 / white)).astype(np.uint8)
