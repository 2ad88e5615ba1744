"""An entry is built once, found again, and rebuilt when its files are damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx import cache
from detr_onnx.cache import cache_directory, cached, list_entries, lock, sha256_of
from detr_onnx.errors import OutputError, UsageError

LARGE = bytes(range(256)) * 8192  # 2 MiB: too large to be sampled whole
BUILDER = """
import sys, time
from pathlib import Path
from detr_onnx.cache import cached
def build(directory):
    with Path(sys.argv[2]).open("a") as tally:
        tally.write("built ")
    (directory / "model.onnx").write_bytes(b"graph")
    time.sleep(0.3)
    (directory / "model.onnx.data").write_bytes(bytes(2_000_000))
print(cached("model", build, cache_dir=sys.argv[1]))
"""


class Builder:
    """Builds a graph and its data, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, directory: Path) -> None:
        self.times += 1
        (directory / "model.onnx").write_bytes(b"graph")
        (directory / "model.onnx.data").write_bytes(LARGE)


@pytest.fixture
def build() -> Builder:
    return Builder()


def make_read_only(directory: Path) -> None:
    directory.chmod(0o555)
    if os.access(directory, os.W_OK):
        directory.chmod(0o755)
        pytest.skip("permissions do not bind here: an administrator, or Windows")


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_listing_an_empty_cache_does_not_create_it(tmp_path):
    assert list_entries(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_the_directory_is_the_argument_then_the_variable_then_the_platforms(tmp_path, monkeypatch):
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "variable"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory(tmp_path / "argument") == tmp_path / "argument"
    assert cache_directory() == tmp_path / "variable"
    monkeypatch.delenv("DETR_ONNX_CACHE")
    for platform, place in {"linux": "xdg", "darwin": "home/Library/Caches", "win32": "local"}.items():
        monkeypatch.setattr(cache.sys, "platform", platform)
        assert cache_directory() == tmp_path / place / "detr-onnx"


def test_without_the_platforms_variable_it_lies_below_home(tmp_path, monkeypatch):
    monkeypatch.delenv("DETR_ONNX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_directory() == tmp_path / ".cache" / "detr-onnx"


def test_without_a_home_the_error_names_the_variable(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DETR_ONNX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OutputError, match="set DETR_ONNX_CACHE"):
        cache_directory()


def test_a_tilde_means_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache_directory("~/models") == tmp_path / "models"


def test_the_sha256_of_an_empty_file_is_the_known_one(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_entry_is_built_once_and_found_again(tmp_path, build):
    first = cached("model-fp32", build, cache_dir=tmp_path)
    assert cached("model-fp32", build, cache_dir=tmp_path) == first
    assert build.times == 1
    assert names_in(first) == {"model.onnx", "model.onnx.data", "manifest.json"}
    assert [(entry.name, entry.path) for entry in list_entries(tmp_path)] == [("model-fp32", first)]
    assert list_entries(tmp_path)[0].bytes > len(LARGE)


def test_entries_are_kept_apart_by_name(tmp_path, build):
    assert cached("a", build, cache_dir=tmp_path) != cached("a-b", build, cache_dir=tmp_path)
    assert build.times == 2


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", ".hidden"])
def test_a_name_that_is_a_path_is_refused(tmp_path, build, name):
    with pytest.raises(UsageError, match="plain file name"):
        cached(name, build, cache_dir=tmp_path)


def shorten(entry: Path) -> None:
    os.truncate(entry / "model.onnx.data", len(LARGE) - 1)


def alter(entry: Path) -> None:
    (entry / "model.onnx.data").write_bytes(LARGE[:5000] + b"!" + LARGE[5001:])


def alter_small(entry: Path) -> None:
    (entry / "model.onnx").write_bytes(b"grapH")


def lose(entry: Path) -> None:
    (entry / "model.onnx.data").unlink()


def zero_but_keep_the_time(entry: Path) -> None:
    state = (entry / "model.onnx.data").stat()
    (entry / "model.onnx.data").write_bytes(bytes(len(LARGE)))
    os.utime(entry / "model.onnx.data", ns=(state.st_atime_ns, state.st_mtime_ns))


def alter_the_last_byte_but_keep_the_time(entry: Path) -> None:
    state = (entry / "model.onnx.data").stat()
    (entry / "model.onnx.data").write_bytes(LARGE[:-1] + b"!")
    os.utime(entry / "model.onnx.data", ns=(state.st_atime_ns, state.st_mtime_ns))


def lose_a_file_and_damage_its_record(entry: Path) -> None:
    lose(entry)
    records = json.loads((entry / "manifest.json").read_text())
    records["model.onnx.data"]["bytes"] = "many"
    (entry / "manifest.json").write_text(json.dumps(records))


def halve_the_manifest(entry: Path) -> None:
    text = (entry / "manifest.json").read_text()
    (entry / "manifest.json").write_text(text[: len(text) // 2])


def empty_the_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text("{}")


def replace_by_a_list(entry: Path) -> None:
    (entry / "manifest.json").write_text("[1]")


def make_a_file_a_directory(entry: Path) -> None:
    (entry / "model.onnx").unlink()
    (entry / "model.onnx").mkdir()


def become_a_link_to_nowhere(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to("nowhere")


def become_a_link_to_itself(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry)


def become_a_file(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()
    entry.rmdir()
    entry.touch()


@pytest.mark.parametrize(
    "damage",
    [
        shorten,
        alter,
        alter_small,
        lose,
        zero_but_keep_the_time,
        alter_the_last_byte_but_keep_the_time,
        lose_a_file_and_damage_its_record,
        halve_the_manifest,
        empty_the_manifest,
        replace_by_a_list,
        make_a_file_a_directory,
        become_a_link_to_nowhere,
        become_a_link_to_itself,
        become_a_file,
    ],
)
def test_a_damaged_entry_is_rebuilt(tmp_path, build, damage):
    entry = cached("model", build, cache_dir=tmp_path)
    damage(entry)
    assert cached("model", build, cache_dir=tmp_path) == entry
    assert build.times == 2
    assert (entry / "model.onnx.data").read_bytes() == LARGE
    assert names_in(entry.parent) == {"model", ".model.lock"}


def test_a_copied_cache_with_other_times_is_sound_and_cheap_the_next_time(tmp_path, build, monkeypatch):
    entry = cached("model", build, cache_dir=tmp_path)
    os.utime(entry / "model.onnx.data", (1e9, 1e9))
    cached("model", build, cache_dir=tmp_path)
    monkeypatch.setattr(cache, "CHUNK_BYTES", None)  # a full check would now fail
    os.utime(entry / "model.onnx", ns=(0, cache.read_records(entry / "manifest.json")["model.onnx"].modified_ns))
    assert cache.is_intact(entry / "model.onnx.data", cache.read_records(entry / "manifest.json")["model.onnx.data"])
    assert build.times == 1


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, build):
    def fail(directory: Path) -> None:
        (directory / "model.onnx").write_bytes(b"half")
        raise UsageError("no such precision")

    with pytest.raises(UsageError, match="no such precision"):
        cached("model", fail, cache_dir=tmp_path)
    assert list_entries(tmp_path) == []
    assert names_in(tmp_path / "built") == {".model.lock"}
    cached("model", build, cache_dir=tmp_path)
    assert build.times == 1


KILLED = """
import os, signal, sys
from detr_onnx.cache import cached

def build(directory):
    (directory / "model.onnx").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

cached("model", build, cache_dir=sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no locks on directories there")
@pytest.mark.parametrize("is_cached", [False, True])
def test_what_a_killed_build_left_is_removed_by_the_next_run(tmp_path, build, is_cached):
    if is_cached:
        cached("another", build, cache_dir=tmp_path)
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=Path(__file__).parents[1])
    assert [path.name for path in (tmp_path / "built").glob(".detr-onnx-*/fresh/*")] == ["model.onnx"]
    cached("another" if is_cached else "model", build, cache_dir=tmp_path)
    assert list((tmp_path / "built").glob(".detr-onnx-*")) == []
    assert build.times == 1


def test_a_disk_that_fills_up_is_one_sentence_that_names_the_directory(tmp_path):
    def fill(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot be written: found .*No space left.*; .*DETR_ONNX_CACHE") as error:
        cached("model", fill, cache_dir=tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cache_that_is_a_file_is_one_sentence(tmp_path, build):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="DETR_ONNX_CACHE"):
        cached("model", build, cache_dir=tmp_path / "file")


def test_a_read_only_cache_is_read_and_writing_to_it_is_one_error(tmp_path, build):
    entry = cached("model", build, cache_dir=tmp_path)
    make_read_only(tmp_path / "built")
    try:
        assert cached("model", build, cache_dir=tmp_path) == entry
        with pytest.raises(OutputError, match="Permission denied"):
            cached("other", build, cache_dir=tmp_path)
    finally:
        (tmp_path / "built").chmod(0o755)


def test_a_file_system_without_locks_still_builds(tmp_path, build, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    cached("model", build, cache_dir=tmp_path)
    assert build.times == 1


def test_two_processes_that_build_at_once_build_once(tmp_path):
    command = [sys.executable, "-c", BUILDER, str(tmp_path), str(tmp_path / "tally")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=30)[0].strip() for process in both]
    assert answers == [str(tmp_path / "built" / "model")] * 2
    assert (tmp_path / "tally").read_text() == "built "


def test_a_killed_process_leaves_no_lock_hanging(tmp_path):
    holder = "import sys, time; from pathlib import Path; from detr_onnx.cache import lock\n"
    holder += "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()
        process.wait()
    with lock(path):
        pass


def test_verifying_an_intact_entry_reads_only_samples(tmp_path, monkeypatch):
    def build_large(directory: Path) -> None:
        with (directory / "model.onnx.data").open("wb") as file:
            file.truncate(166_587_896)

    entry = cached("model", build_large, cache_dir=tmp_path)
    monkeypatch.setattr(cache, "CHUNK_BYTES", None)  # reading the whole file would now fail
    assert cache.is_sound(entry, entry / cache.MANIFEST)
