"""Locks between processes, with flock, with Windows's locked bytes (imitated), and with neither."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from detr_onnx import locks

ROOT = Path(__file__).parents[1]


class Msvcrt:
    """A stand-in for `msvcrt` with the one function that is used: a byte of a file is locked by one descriptor."""

    LK_UNLCK, LK_LOCK, LK_NBLCK = 0, 1, 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert count == 1
        byte = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if mode == self.LK_UNLCK:
            del self.held[byte]
        elif self.held.setdefault(byte, descriptor) != descriptor:
            raise PermissionError(13, "Permission denied")


@pytest.fixture(params=["flock", "msvcrt"])
def system(request, monkeypatch) -> str:
    """The system whose locks are tested."""
    if request.param == "flock":
        pytest.importorskip("fcntl")
    else:
        monkeypatch.setattr(locks, "fcntl", None)
        monkeypatch.setattr(locks, "msvcrt", Msvcrt())
    return request.param


@pytest.fixture
def descriptors(tmp_path) -> Iterator[list[int]]:
    """Two of one file."""
    opened = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND) for _ in range(2)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_one_holds_a_lock_until_it_is_released(system, descriptors):
    first, second = descriptors
    assert locks.acquire(first) is True
    assert locks.acquire(second, wait=False) is False
    locks.release(first)
    assert locks.acquire(second, wait=False) is True


def test_waiting_ends_when_the_lock_is_released(system, descriptors):
    first, second = descriptors
    locks.acquire(first)
    timer = Timer(0.2, locks.release, [first])
    started = time.monotonic()
    timer.start()
    assert locks.acquire(second) is True
    assert time.monotonic() - started >= 0.1
    timer.join()


def test_a_locked_file_is_read_and_written_as_before(system, descriptors, tmp_path):
    os.write(descriptors[0], b"one")
    locks.acquire(descriptors[0])
    os.write(descriptors[0], b", two")
    assert (tmp_path / "file").read_bytes() == b"one, two"


def test_where_there_are_no_locks_nothing_waits(monkeypatch, descriptors):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    assert [locks.acquire(descriptor) for descriptor in descriptors] == [None, None]
    locks.release(descriptors[0])


def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(monkeypatch, descriptors):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert locks.acquire(descriptors[0]) is None


def test_everything_is_imported_where_there_is_no_fcntl():
    """As on Windows: what any command imports, and the journal, which needs locks."""
    code = "import sys; sys.modules['fcntl'] = None\n"
    code += "import detr_onnx.bench.hosted.journal, detr_onnx.cache, detr_onnx.cli.main, detr_onnx.hub\n"
    code += "from detr_onnx.cli import main; print(main.argument_parser().prog)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "detr-onnx\n"), done.stderr


def test_a_journal_works_without_fcntl(tmp_path, monkeypatch):
    from detr_onnx.bench.hosted.journal import open_journal
    from detr_onnx.errors import OutputError

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", Msvcrt())
    path = tmp_path / "journal"
    with open_journal(path), pytest.raises(OutputError, match="another run"), open_journal(path):
        pass
