"""Files are written completely or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx.atomic import atomic_file, write_atomically

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


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


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


@posix_only
def test_the_temporary_file_of_a_killed_process_is_removed_by_the_next_write(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"older")
    command = [sys.executable, "-c", WRITE_SLOWLY, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout.readline() == b"writing\n"
        write_atomically(tmp_path / "other", b"new")
        assert len(names(tmp_path)) == 3  # that of a running process is left alone
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"older"
    write_atomically(tmp_path / "other", b"newer")
    assert names(tmp_path) == {"file", "other"}
