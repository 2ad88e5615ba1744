"""Files that are written completely or not at all, and temporary directories that killed processes do not leave.

The content goes to a draft in the same directory, which is flushed to the disk and then renamed. A full disk or a
killed process therefore never leaves a truncated file behind.

A draft is locked while its process lives. The drafts of killed processes are those that can be locked; the next draft
in the directory removes them. Without locks (Windows, some network file systems) they are removed when a day old.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from detr_onnx import locks
from detr_onnx.errors import OutputError
from detr_onnx.text import reason_of

DRAFT_PREFIX, DRAFT_SUFFIX = ".detr-onnx-", ".part"
ABANDONED_AFTER_S = 24 * 3600  # where there are no locks; nothing takes a day to write
STREAM_DIRECTORIES = {Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")}  # /dev/stdout may stand for a regular file
OPEN_ANY = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe of that name would block


@dataclass(frozen=True)
class Draft:
    """A file open for writing, its temporary path and its final one; `path` is None for a device, written directly."""

    file: BinaryIO
    path: Path | None
    target: Path

    def sync(self) -> None:
        """Writes the content to the disk, or flushes it to the device."""
        self.file.flush()
        if self.path:
            os.fsync(self.file.fileno())

    def place(self) -> None:
        """Moves the file to its final path. It stays locked until then, but on Windows, which moves no open file."""
        if sys.platform == "win32":
            self.file.close()
        if self.path:
            self.path.replace(self.target)


def is_written_directly(path: Path) -> bool:
    """Whether the path is a device or a pipe, which no draft can replace."""
    return (path.exists() and not path.is_file()) or path.absolute().parent in STREAM_DIRECTORIES


@contextlib.contextmanager
def writing(path: Path, remedy: str = "choose another file") -> Iterator[None]:
    """Turns an OSError inside the block into an OutputError, but a closed pipe, whose reader wants no more."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}", found=reason_of(error), remedy=remedy) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file, or raises OSError and leaves what was there."""
    with atomic_file(path) as file:
        file.write(content)


def create_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is not there. If another process has been faster, its file stays.

    Raises:
        OSError: the content cannot be written.
    """
    with _draft(path) as draft:
        draft.file.write(content)
        draft.sync()
        if draft.path is None:  # a device
            return
        try:
            os.link(draft.path, draft.target)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links, where the last process wins
            draft.place()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends without an error.

    Symbolic links are followed. A device or a pipe cannot be replaced, so it is written directly.

    Raises:
        OSError: the content cannot be written; `path` is as it was.
    """
    with atomic_files(path) as (file,):
        yield file


@contextlib.contextmanager
def atomic_files(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Binary files that replace `paths` when the block ends without an error; see `atomic_file`.

    The first file needs the others, as a graph needs its weights, and is never beside others than its own: it is
    removed first and moved into place last, so a process killed in between leaves no file of that name.

    Raises:
        OSError: the content cannot be written; `paths` are as they were.
    """
    with contextlib.ExitStack() as stack:
        drafts = [stack.enter_context(_draft(path)) for path in paths]
        yield [draft.file for draft in drafts]
        for draft in drafts:
            draft.sync()
        place_together([draft.place for draft in drafts], drafts[0].target)


def move_together(sources: Sequence[Path], directory: Path) -> None:
    """Moves finished files into a directory on the same disk; the first one needs the others (see `atomic_files`).

    Raises:
        OSError: one cannot be moved. A directory of such a name is noticed before anything is moved.
    """
    for source in sources:
        if (directory / source.name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(directory / source.name))
    moves = [(lambda source=source: source.replace(directory / source.name)) for source in sources]
    place_together(moves, directory / sources[0].name)


def place_together(moves: Sequence[Callable[[], object]], first: Path) -> None:
    """Makes the moves, last one first. If there are several, `first` is removed before them."""
    if len(moves) > 1 and first.is_file():
        first.unlink()
    for move in reversed(moves):
        move()


def place_directory(fresh: Path, target: Path) -> None:
    """Moves a finished directory into place, where nothing or an empty directory is.

    Raises:
        OSError: there is something else.
    """
    with contextlib.suppress(FileNotFoundError):
        target.rmdir()  # Windows replaces no directory, not even an empty one
    fresh.replace(target)


@contextlib.contextmanager
def draft_directory(parent: Path) -> Iterator[Path]:
    """An empty directory that only this user can read; it is removed when the block ends.

    That of a killed process is removed by the next draft in `parent`.

    Raises:
        OSError: it cannot be created.
    """
    remove_abandoned_drafts(parent)
    path, descriptor = _locked_directory(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def remove_abandoned_drafts(directory: Path) -> None:
    """Removes the drafts of processes that no longer run."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(DRAFT_PREFIX)]
        for name in names:
            if name.endswith(DRAFT_SUFFIX):
                with contextlib.suppress(OSError):  # another process may be removing it too
                    _remove_if_abandoned(directory / name)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Draft]:
    """A draft of `path`, which is removed when the block ends before it is placed."""
    if is_written_directly(path):
        with path.open("wb") as file:
            yield Draft(file, None, path)
        return
    target = Path(os.path.realpath(path))
    remove_abandoned_drafts(target.parent)
    while True:
        draft = _new_path(target.parent)
        try:
            with draft.open("xb") as file:
                locks.acquire(file.fileno())
                if not _is_at(file.fileno(), draft):
                    continue  # another process took it for abandoned, and removed it, before it was locked
                _copy_permissions(target, draft)
                yield Draft(file, draft, target)
                return
        finally:
            draft.unlink(missing_ok=True)


def _copy_permissions(older: Path, draft: Path) -> None:
    """Gives a draft the permissions of the file that it replaces, if there is one: a private file stays private."""
    if sys.platform != "win32":  # which replaces no read-only file
        with contextlib.suppress(OSError):
            draft.chmod(stat.S_IMODE(older.stat().st_mode))


def _locked_directory(parent: Path) -> tuple[Path, int | None]:
    """A new directory and the descriptor that locks it; None where directories cannot be locked."""
    while True:
        path = _new_path(parent)
        path.mkdir(mode=0o700)
        if locks.fcntl is None:
            return path, None
        with contextlib.suppress(FileNotFoundError):  # taken for abandoned, as above
            descriptor = os.open(path, OPEN_ANY)
            locks.acquire(descriptor)
            if _is_at(descriptor, path):
                return path, descriptor
            os.close(descriptor)


def _new_path(directory: Path) -> Path:
    return directory / f"{DRAFT_PREFIX}{os.urandom(8).hex()}{DRAFT_SUFFIX}"


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _remove_if_abandoned(path: Path) -> None:
    """Removes a draft that no process has locked, holding the lock."""
    if locks.fcntl is None:
        _remove_if_old(path)
        return
    descriptor = os.open(path, OPEN_ANY)
    try:
        is_free = locks.acquire(descriptor, wait=False)
        if is_free is None:
            _remove_if_old(path)
        elif is_free:
            _remove(path)
    finally:
        os.close(descriptor)


def _remove_if_old(path: Path) -> None:
    if time.time() - path.lstat().st_mtime > ABANDONED_AFTER_S:
        _remove(path)


def _remove(path: Path) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
