"""Whether a path leads to something, for every name that a caller may give.

`Path.exists` and the like raise OSError for names that are too long (Python 3.11). Here such a name leads to nothing.
"""

from __future__ import annotations

import os
import re
import sys

RESERVED_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
RESERVED_NAME = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
"""Of Windows. Source: "Naming Files, Paths, and Namespaces" in Microsoft's documentation of file systems."""

AnyPath = str | os.PathLike[str]


def exists(path: AnyPath) -> bool:
    """Whether there is something at the path."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def is_file(path: AnyPath) -> bool:
    """Whether the path leads to a regular file."""
    return os.path.isfile(path)  # noqa: PTH113 - see above


def is_directory(path: AnyPath) -> bool:
    """Whether the path leads to a directory."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def file_name(name: str) -> str:
    """A name for a file that is made from outside data, such as a URL or a member of an archive.

    On Windows what no file can be called is replaced: `12:30.jpg` would be a hidden stream of the file 12, `aux.txt` a
    device, and the dot at the end of `a.` would be lost. Elsewhere it is the name itself.
    """
    if sys.platform != "win32":
        return name
    plain = RESERVED_CHARACTERS.sub("_", name).rstrip(". ") or "_"
    return f"_{plain}" if RESERVED_NAME.match(plain) else plain
