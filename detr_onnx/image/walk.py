"""What is below a directory and what a pattern matches, lazily: hidden entries left out, each directory once.

Memory grows with the number of directories, not of files: the entries of a directory are read and sorted in blocks.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import logging
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path

from detr_onnx.paths import is_directory
from detr_onnx.text import printable, reason_of

SYSTEM_NAMES = {"__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini"}
"""Names, in lower case, that operating systems leave among images, beside names that begin with a dot."""
RECURSIVE = re.compile(r"(?:^|(?<=/))\*\*(?:/+|$)")
"""`**` as a whole component of a pattern."""
BLOCK = 10_000  # entries of a directory that are sorted at a time

FileId = tuple[int, int]
"""Device and inode: the same for all names of a file."""

logger = logging.getLogger(__name__)


def is_pattern(argument: str) -> bool:
    """Whether the argument is a pattern such as `*.jpg`, and not the name of a file."""
    return glob.has_magic(argument) and not os.path.lexists(argument)


def is_hidden(name: str) -> bool:
    """Whether a name begins with a dot or is one that operating systems leave behind."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def file_ids(path: Path | None) -> set[FileId]:
    """The id of a file; none for stdin and for a file that does not exist."""
    try:
        state = path.stat() if path is not None else None
    except (OSError, ValueError):
        return set()
    return {(state.st_dev, state.st_ino)} if state is not None else set()


def walk(top: str) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """A directory and all below it but for hidden ones, each once, with a block of their visible entries at a time.

    Links to directories are followed after all real ones, so that files keep their real names. Loops end.
    """
    seen: set[FileId] = set()
    folders: deque[str] = deque([top])
    links: deque[str] = deque()
    while folders or links:
        folder = (folders or links).popleft()
        ids = file_ids(Path(folder))
        if not ids or ids & seen:
            continue
        seen |= ids
        for entries in _blocks(folder):
            visible = [entry for entry in entries if not is_hidden(entry.name)]
            yield folder, visible
            for entry in visible:
                path = os.path.join(folder, entry.name)  # noqa: PTH118 - of many names
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_symlink() and is_directory(path):
                    links.append(path)


def files_below(directory: str) -> Iterator[str]:
    """All files of a directory and of those below it, but for hidden ones."""
    for folder, entries in walk(directory):
        yield from (os.path.join(folder, entry.name) for entry in entries)  # noqa: PTH118 - of many names


def matches(pattern: str) -> Iterator[str]:
    """The names that a pattern matches; `**` goes through all directories, each once, which `glob` does not ensure."""
    pattern = pattern.replace(os.sep, "/")
    star = RECURSIVE.search(pattern)
    if star is None:
        yield from _visible(_matches_in_folders(pattern), pattern)
        return
    before, after = pattern[: star.start()], pattern[star.end() :] or "*"
    tops = _visible(glob.iglob(before), before) if before else [""]  # noqa: PTH207 - a pattern may be absolute
    for top in tops:
        for folder, _ in itertools.groupby(walk(top), key=itemgetter(0)):
            yield from matches(os.path.join(glob.escape(folder), after))  # noqa: PTH118


def _matches_in_folders(pattern: str) -> Iterator[str]:
    """As `glob.iglob`, which would list a whole directory at once."""
    head, tail = os.path.split(pattern)
    if not glob.has_magic(tail):
        yield from glob.iglob(pattern)  # noqa: PTH207
        return
    is_match = re.compile(fnmatch.translate(os.path.normcase(tail))).match
    for folder in glob.iglob(head) if head else [""]:  # noqa: PTH207
        for entries in _blocks(folder) if is_directory(folder or os.curdir) else ():
            for name in (entry.name for entry in entries):
                if is_match(os.path.normcase(name)) and (tail.startswith(".") or not name.startswith(".")):
                    yield os.path.join(folder, name)  # noqa: PTH118


def _blocks(folder: str) -> Iterator[list[os.DirEntry[str]]]:
    """The entries of a directory, sorted by name within each block; a warning is logged if it cannot be read."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            while block := sorted(itertools.islice(entries, BLOCK), key=lambda entry: entry.name):
                yield block
                if len(block) < BLOCK:
                    return
    except OSError as error:
        logger.warning("cannot read the directory %s: %s", printable(folder), reason_of(error))


def _visible(names: Iterable[str], pattern: str) -> Iterator[str]:
    """The names without those of operating systems, unless the pattern has them itself."""
    hidden = {name for name in SYSTEM_NAMES if name not in pattern.casefold()}
    return (name for name in names if hidden.isdisjoint(name.casefold().replace(os.sep, "/").split("/")))
