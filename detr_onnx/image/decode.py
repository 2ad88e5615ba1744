"""From whatever holds an image to an upright RGB image, or one sentence that says what was there instead."""

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

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Larger images are refused from their header. It is where Pillow by itself refuses; decoded they would be 700 MB."""

OPENING_ERRORS: dict[type[Exception], tuple[str, str]] = {
    FileNotFoundError: ("no such file", "check the path"),
    IsADirectoryError: ("a directory", "name the images in it"),
    PermissionError: ("no permission", "allow this user to read it"),
}
"""What a path met -> what to say was found, what to do."""

DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, RuntimeError, LookupError),
    *(ArithmeticError, struct.error, zlib.error),
)
"""What Pillow's plug-ins raise for damaged bytes; each has its own habits."""

RUNS_PROGRAMS = frozenset({"EPS"})
"""Formats that Pillow decodes by running another program on the file, which nobody means by "a photograph"."""

ORIENTATION_TAG = 0x0112  # EXIF 2.32, section 4.6.4
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright; 1 needs nothing."""

SIGNATURES = {b"%PDF": "a PDF document", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file"}
BRANDS = {b"heic": "a HEIC image", b"heix": "a HEIC image", b"mif1": "a HEIF image", b"avif": "an AVIF image"}


def read_rgb(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in mode RGB, upright: turned as its EXIF orientation says, the first frame of an animation.

    Transparency is dropped and the colours beneath it stay, as with `Image.convert("RGB")` and in transformers'
    pipelines. Grey of 16 bits becomes 8 bits by its upper byte (Pillow would clip it); see `_eight_bit` for I and F.

    Args:
        source: a path ("~" is not expanded), an encoded image as bytes or as a binary file object (read from its
            start, left open), a Pillow image, or a uint8 array [height, width, 3] in the order red, green, blue; also
            [height, width] for grey and [height, width, 4] with an alpha.
        max_pixels: an encoded image with more is refused from its header, before anything is decoded.

    An upright RGB Pillow image comes back as the same object. ImageError says what is no image, UsageError what is
    no source at all.
    """
    if isinstance(source, Image.Image):
        return _upright_rgb(source, "the image")
    if isinstance(source, np.ndarray):
        return _of_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decoded(io.BytesIO(source), "the data", max_pixels)
    if isinstance(source, str | os.PathLike):
        return _of_path(os.fsdecode(source), max_pixels)
    if hasattr(source, "read"):
        return _of_file(source, max_pixels)
    raise UsageError(
        "no image can be read from this",
        found=type(source).__name__,
        expected="a path, bytes, a binary file object, a Pillow image or a uint8 array",
    )


def _of_path(path: str, max_pixels: int) -> Image.Image:
    name = path if len(path) <= 200 else f"{path[:100]}…"
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 (closed below; the decoder's errors are not the opener's)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        found, remedy = OPENING_ERRORS.get(type(error), (reason, "check the path"))
        raise ImageError(f"cannot read {name!r}", found=found, remedy=remedy) from error
    with stream:
        return _decoded(stream, name, max_pixels)


def _of_file(file: BinaryIO, max_pixels: int) -> Image.Image:
    try:
        gives_bytes = not getattr(file, "closed", False) and isinstance(file.read(0), bytes)
    except OSError:  # open for writing
        gives_bytes = False
    if not gives_bytes:
        raise UsageError(
            "the file object cannot be read as bytes", found=type(file).__name__, remedy='open it with mode "rb"'
        )
    return _decoded(file, "the file object", max_pixels)


def _rewound(file: BinaryIO) -> BinaryIO:
    """The file at its start; where that cannot be, as with a pipe, the rest of it."""
    try:
        file.seek(0)
    except (AttributeError, OSError):
        return io.BytesIO(file.read())
    return file


def _of_array(array: NDArray[Any]) -> Image.Image:
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in ((1,), (3,), (4,)) or not array.size:
        raise UsageError(
            "the array is not an image",
            found=f"{array.dtype} {list(array.shape)}",
            expected="uint8 [height, width, 3], [height, width] or [height, width, 4], none of them 0",
            remedy=_array_remedy(array),
        )
    if channels == (1,):
        array = array.reshape(array.shape[:2])
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _array_remedy(array: NDArray[Any]) -> str | None:
    if array.dtype != np.uint8:
        return "scale the values to 0..255 and use array.astype(numpy.uint8)"
    if array.ndim == 4:
        return "give the images one by one"
    return "put the channels last with array.transpose(1, 2, 0)" if array.shape[:1] in ((1,), (3,), (4,)) else None


def _decoded(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    try:
        stream = _rewound(file)
        image = _identified(stream)
    except Image.DecompressionBombError as error:  # some plug-ins look themselves
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
    return ImageError(f"{name} is damaged or cut short", found=str(error) or type(error).__name__, remedy="get it anew")


def _identified(stream: BinaryIO) -> Image.Image | None:
    """The image that the stream holds, its header read and nothing decoded; None if no plug-in knows it.

    What `Image.open` does but for its check of the size, which would warn through the filters of the whole process.
    Where a plug-in claims the first bytes and none can read the rest of the header, its complaint is raised.
    """
    head = stream.read(16)
    damage: Exception | None = None
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for name in [name for name in Image.ID if name not in RUNS_PROGRAMS]:
            factory, accepts = Image.OPEN[name]
            claimed: bool | str = False
            try:
                claimed = accepts(head) if accepts else False
                if (claimed or not accepts) and not isinstance(claimed, str):  # a text: the plug-in lacks a library
                    stream.seek(0)
                    return factory(stream, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                damage = damage or (error if claimed else None)
    if damage is not None:
        raise damage
    return None


def _looks_like(stream: BinaryIO) -> str:
    """What the stream holds in words, such as "12 bytes of text ('not an image')"."""
    count = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(64)
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video")
    for signature, words in SIGNATURES.items():
        if head.startswith(signature):
            return words
    text = " ".join(head.decode("utf-8", "replace").rstrip("\ufffd").split())
    if text.isprintable() and "\ufffd" not in text:
        return f"{count} bytes of text ({text[:30]!r})" if count else "0 bytes"
    return f"{count} bytes that begin with {head[:8].hex(' ')}"


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    if not image.width or not image.height:
        raise ImageError(f"{name} has no pixels", found=f"{image.width} x {image.height}")
    try:
        image.load()
        turn = TURNS.get(_orientation(image))
        rgb = _rgb(image)
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if turn is None:
        return rgb
    upright = rgb.transpose(turn)
    upright.info = {}  # the orientation is in there and would turn the image again
    return upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODER_ERRORS:  # an image is not worse for damaged notes about it
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bit(np.asarray(image)))
    elif image.mode == "La":  # grey times its alpha: no way to RGB but this
        image = image.convert("LA")
    elif image.mode == "P" and "transparency" in image.info:  # to RGB at once would warn
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bit(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """[h, w] uint8 of grey values of another type: white is the type's own if known, else the least that holds them.

    uint16 ends at 65535. int32 and float32 say nothing of their white: it is 1 (float32 only), 255, 65535 or else the
    largest value. Negative values and those that are no number become black.
    """
    if grey.dtype.kind == "u":
        return (grey >> 8).astype(np.uint8)
    values = np.nan_to_num(grey.astype(np.float64), posinf=0.0).clip(0)
    whites = (1.0, 255.0, 65535.0) if grey.dtype.kind == "f" else (255.0, 65535.0)
    white = next((w for w in whites if values.max() <= w), values.max())
    return np.rint(values * (255 / white)).astype(np.uint8)
