"""Locks on open files, so that only one process at a time does something. The system releases those of a dead process.

`flock` where there is one, a locked byte on Windows. Some network file systems, and Python in a browser, have neither.
"""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

FAR_BYTE = 2**31 - 2  # of a file, where nobody reads: on Windows a locked byte cannot be read by others
POLL_S = 0.1


def _module(name: str) -> Any:
    """A module that not every platform has, or None."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


fcntl, msvcrt = _module("fcntl"), _module("msvcrt")


def acquire(descriptor: int, *, wait: bool = True) -> bool | None:
    """Locks an open file, on POSIX also a directory, until it is closed or `release`d.

    Args:
        descriptor: of the file.
        wait: until the process that holds the lock releases it.

    Returns:
        True if it is locked now, False if another holds the lock, None if there are no locks here.
    """
    if fcntl is not None:
        return _flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    if msvcrt is None:
        return None
    while not _lock_byte(descriptor, msvcrt.LK_NBLCK):  # LK_LOCK would give up after ten seconds
        if not wait:
            return False
        time.sleep(POLL_S)
    return True


def release(descriptor: int) -> None:
    """Releases the lock, also while a forked child still has the file open."""
    if fcntl is not None:
        _flock(descriptor, fcntl.LOCK_UN)
    elif msvcrt is not None:
        _lock_byte(descriptor, msvcrt.LK_UNLCK)


def _flock(descriptor: int, operation: int) -> bool | None:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError:  # such as ENOLCK, of a file system without locks
        return None
    return True


def _lock_byte(descriptor: int, mode: int) -> bool:
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, FAR_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, mode, 1)
    except OSError:  # EACCES: held by another
        return False
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
    return True
