"""Whether a path leads to something, for every name that a caller may give.

`Path.exists` and the like raise OSError for names that are too long (Python 3.11). Here such a name leads to nothing.
"""

from __future__ import annotations

import os

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
