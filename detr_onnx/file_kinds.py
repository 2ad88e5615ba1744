"""What a file is by its first bytes, for the error about a file of another kind than expected."""

from __future__ import annotations

START_BYTES = 262  # of a file, that are enough to tell its kind
SHOWN_BYTES = 12  # of a kind that is not known

GZIP, TAR, JSON = "a gzip archive", "a tar archive", "a JSON text"
KINDS = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x18ftypcrx ", "a Canon raw image"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", GZIP),
    (257, b"ustar", TAR),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"{", JSON),
    *((0, b"\x80" + bytes([protocol]), "a pickle") for protocol in range(2, 6)),
)
"""Position, the bytes there, and what such a file is; the first that fits counts."""


def known_kind(start: bytes) -> str | None:
    """What a file is that begins with these bytes, such as "a zip archive"; None if they tell nothing."""
    return next((kind for at, magic, kind in KINDS if start.startswith(magic, at)), None)


def kind_of(start: bytes) -> str:
    """As `known_kind`; otherwise the first of the bytes."""
    unknown = f"a file that begins with {start[:SHOWN_BYTES]!r}" if start else "an empty file"
    return known_kind(start) or unknown
