"""Whether a path leads to something, for every name that a caller may give, and what of a path may be told to others.

`Path.exists` and the like raise OSError for names that are too long (Python 3.11). Here such a name leads to nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

RESERVED_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
RESERVED_NAME = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
"""Of Windows. Source: "Naming Files, Paths, and Namespaces" in Microsoft's documentation of file systems."""

FOLDERS = r"(?:[^\s\\/:;,'\"()]+[\\/])"
ABSOLUTE = re.compile(rf"(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/]{FOLDERS}+")
"""The directories of an absolute path, with a drive letter or without."""

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
    device, and the dot at the end of `a.` would be lost. Elsewhere only a null character is replaced.
    """
    if sys.platform != "win32":
        return name.replace("\0", "_")
    plain = RESERVED_CHARACTERS.sub("_", name).rstrip(". ") or "_"
    return f"_{plain}" if RESERVED_NAME.match(plain) else plain


def unique_name(stem: str, suffix: str, taken: set[str]) -> str:
    """`street.jpg`, then `street-2.jpg`, …: the first that is not in `taken`, to which it is added.

    `taken` has the names case-folded: some file systems ignore case.
    """
    name, number = f"{stem}{suffix}", 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name


def without_directories(text: str, paths: Sequence[str] = ()) -> str:
    """The text with the directories of these paths and of absolute ones left out: it tells nothing about its user."""
    for parent in sorted({parent for path in paths for parent in _parents(path)}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(parent)}[\\/]", "", text)
    own = {str(Path.cwd()), os.path.expanduser("~")} - {Path.cwd().anchor, "~", ""}  # noqa: PTH111 - raises without a home
    for known in sorted(own, key=len, reverse=True):  # one may be in the other; their names may contain spaces
        text = re.sub(rf"{re.escape(known)}[\\/]{FOLDERS}*", "", text).replace(known, "…")
    return ABSOLUTE.sub("", text)


def _parents(path: str) -> set[str]:
    """The directory of a path, as the user named it and as an absolute path."""
    directories = {str(Path(path).parent), str(Path(path).absolute().parent)}
    return {directory for directory in directories if directory not in (".", Path(directory).anchor)}
