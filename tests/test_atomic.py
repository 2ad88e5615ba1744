"""Files are written completely or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detr_onnx import atomic, locks
from detr_onnx.atomic import (
    atomic_file,
    atomic_files,
    create_atomically,
    draft_directory,
    move_together,
    write_atomically,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from detr_onnx.atomic import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("content", [b"", b"new"])
def test_a_file_is_created_or_replaced(tmp_path, content):
    path = tmp_path / "file"
    for _ in range(2):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == {"file"}
        path.write_bytes(b"older")


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_created_where_there_is_none(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(atomic.os, "link", lambda *_: os.open(tmp_path / "no" / "links", os.O_RDONLY))
    create_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == {"file"}


def test_the_file_of_a_faster_process_stays(tmp_path):
    write_atomically(tmp_path / "file", b"first")
    create_atomically(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == {"file"}


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


@posix_only
def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


def test_an_error_leaves_the_older_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"older")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == {"file"}


@posix_only
def test_a_size_limit_of_the_system_leaves_the_older_file_and_no_other(tmp_path):
    import resource

    path = tmp_path / "file"
    path.write_bytes(b"older")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == {"file"}


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@posix_only
def test_a_symbolic_link_stays_a_link(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory/file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "directory" / "file").read_bytes() == b"new"


@posix_only
def test_a_device_is_written_and_not_replaced():
    write_atomically(Path("/dev/null"), b"new")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_an_error():
    with pytest.raises(OSError, match="No space left"):
        write_atomically(Path("/dev/full"), b"new")


@posix_only
def test_stdout_that_is_a_file_is_appended_to_and_not_replaced(tmp_path):
    code = (
        "from pathlib import Path; from detr_onnx.atomic import write_atomically as w; w(Path('/dev/stdout'), b'new')"
    )
    with (tmp_path / "out").open("wb") as out:
        inode = os.fstat(out.fileno()).st_ino
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, cwd=Path(__file__).parents[1])
    assert (tmp_path / "out").read_bytes() == b"new"
    assert (tmp_path / "out").stat().st_ino == inode


# What killed processes leave


MAKE_SLOWLY = """
import sys, time
from pathlib import Path
from detr_onnx.atomic import draft_directory
with draft_directory(Path(sys.argv[1]).parent) as directory:
    (directory / "half").touch()
    print("writing", flush=True)
    time.sleep(60)
"""


@posix_only
@pytest.mark.parametrize("script", [WRITE_SLOWLY, MAKE_SLOWLY])
def test_only_drafts_of_killed_processes_are_removed(tmp_path, script):
    path = tmp_path / "file"
    path.write_bytes(b"older")
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout.readline() == b"writing\n"
        write_atomically(tmp_path / "other", b"new")
        assert len(names(tmp_path)) == 3
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"older"
    write_atomically(tmp_path / "other", b"newer")
    assert names(tmp_path) == {"file", "other"}


@posix_only
def test_a_draft_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    acquire, calls = locks.acquire, []

    def remove_first(descriptor: int, *, wait: bool = True) -> bool | None:
        calls.append(descriptor)
        if len(calls) == 1:
            next(tmp_path.glob(".detr-onnx-*")).unlink()
        return acquire(descriptor, wait=wait)

    monkeypatch.setattr(locks, "acquire", remove_first)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_without_locks_drafts_are_removed_when_they_are_a_day_old_and_not_before(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", None)
    for age_s, name in ((0, ".detr-onnx-now.part"), (2 * atomic.ABANDONED_AFTER_S, ".detr-onnx-old.part")):
        (tmp_path / name).mkdir() if kind == "directory" else (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    with draft_directory(tmp_path) as directory:
        write_atomically(tmp_path / "file", b"new")
        assert names(tmp_path) == {"file", ".detr-onnx-now.part", directory.name}
    assert names(tmp_path) == {"file", ".detr-onnx-now.part"}


@posix_only
def test_pipes_and_links_named_like_a_draft_neither_block_nor_lead_elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".detr-onnx-link.part").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "a" / ".detr-onnx-pipe.part")
    write_atomically(tmp_path / "a" / "file", b"new")
    assert names(tmp_path / "elsewhere") == {"kept"}


def test_a_temporary_directory_is_private_and_removed(tmp_path):
    with draft_directory(tmp_path) as directory:
        (directory / "file").touch()
        assert sys.platform == "win32" or directory.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == set()


# Files that belong together


def test_files_that_belong_together_are_replaced_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "graph", tmp_path / "weights"

    def write(content: bytes, fail: bool) -> None:
        with atomic_files(first, second) as files:
            for file in files:
                file.write(content)
            if fail:
                raise OSError("disk full")

    write(b"1", fail=False)
    with pytest.raises(OSError, match="disk full"):
        write(b"2", fail=True)
    assert (first.read_bytes(), second.read_bytes(), names(tmp_path)) == (b"1", b"1", {"graph", "weights"})
    write(b"3", fail=False)
    assert (first.read_bytes(), second.read_bytes(), names(tmp_path)) == (b"3", b"3", {"graph", "weights"})


def test_files_that_belong_together_are_never_mixed(tmp_path, monkeypatch):
    """After every change of the directory."""
    contents, replace = [], Path.replace

    def watched(source: Path, target: Path) -> Path:
        result = replace(source, target)
        contents.append({path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".part"})
        return result

    def write(content: bytes) -> None:
        with atomic_files(tmp_path / "graph", tmp_path / "weights") as files:
            for file in files:
                file.write(content)

    write(b"1")
    monkeypatch.setattr(Path, "replace", watched)
    write(b"2")
    assert contents == [{"weights": b"2"}, {"graph": b"2", "weights": b"2"}]


def test_files_that_are_moved_together_stay_where_a_directory_is_in_the_way(tmp_path: Path):
    fresh, directory = tmp_path / "fresh", tmp_path / "model"
    fresh.mkdir()
    (directory / "config.json").mkdir(parents=True)
    for place, text in ((fresh, "new"), (directory, "old")):
        (place / "model.safetensors").write_text(text)
    (fresh / "config.json").write_text("new")
    with pytest.raises(IsADirectoryError, match=r"config\.json"):
        move_together([fresh / "model.safetensors", fresh / "config.json"], directory)
    assert (directory / "model.safetensors").read_text() == "old"
