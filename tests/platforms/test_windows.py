"""What differs on Windows and macOS, imitated: modules, signals, sockets, names, paths and lists."""

from __future__ import annotations

import json
import ntpath
import os
import signal
import socket
import stat
import subprocess
import sys
import types
from pathlib import Path

import pytest

from detr_onnx import paths
from detr_onnx.bench import setting
from detr_onnx.bench.hosted import journal
from detr_onnx.errors import DatasetError, UsageError, VideoError
from detr_onnx.image import walk
from detr_onnx.jobs import file_formats, manifests
from detr_onnx.jobs.manifests import Manifest
from detr_onnx.video import open as video_open
from detr_onnx.video import sources

ROOT = Path(__file__).parents[2]


def test_every_module_can_be_imported_without_what_only_posix_has():
    command = [sys.executable, "-m", "tests.platforms.as_on_windows"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# Signals and sockets

SERVE_WITHOUT_HANDLERS = """
import asyncio, sys

def add_signal_handler(self, number, callback, *arguments):
    raise NotImplementedError

asyncio.SelectorEventLoop.add_signal_handler = add_signal_handler
from detr_onnx.cli.main import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there the other tests of the server show it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_well_where_asyncio_has_no_signal_handlers(number):
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-c", SERVE_WITHOUT_HANDLERS, "serve", "-m", "demo", "--engine", "numpy", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stderr.readline())["event"] == "listening"
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


def test_several_workers_on_windows_are_refused(monkeypatch, tmp_path):
    run = pytest.importorskip("detr_onnx.server.run")
    from detr_onnx.server.settings import Settings

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="--workers needs Linux or macOS: found 2 on Windows"):
        run.serve(Settings(open_detector=pytest.fail, model="demo", port=0, workers=2))


def test_a_port_belongs_to_one_server_on_windows_too(monkeypatch):
    listen = pytest.importorskip("detr_onnx.server.listen")
    options = []

    class Socket(socket.socket):
        def setsockopt(self, level, option, value):
            options.append(option)

    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(socket, "socket", Socket)
    listen._on_port("127.0.0.1", 0).close()
    assert options == [-5]


@pytest.mark.parametrize(("soft", "hard", "accepted", "expected"), [
    (256, 2**63 - 1, 10240, 10240),  # macOS: no limit is said, and none above OPEN_MAX taken
    (1024, 4096, 4096, 4096),
    (20000, 2**63 - 1, 10240, 20000),
])  # fmt: skip
def test_the_limit_of_open_files_is_raised_as_far_as_the_system_lets(soft, hard, accepted, expected, monkeypatch):
    run = pytest.importorskip("detr_onnx.server.run")
    limits = [soft, hard]

    def setrlimit(kind, pair):
        if pair[0] > max(accepted, soft):
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = pair

    imitation = types.SimpleNamespace(RLIMIT_NOFILE=0, getrlimit=lambda kind: tuple(limits), setrlimit=setrlimit)
    monkeypatch.setitem(sys.modules, "resource", imitation)
    run.raise_file_limit()
    assert limits == [expected, hard]


# The machine


def test_a_setting_is_known_without_sysconf_and_load(monkeypatch):
    for name in ("sysconf", "getloadavg"):
        monkeypatch.delattr(os, name, raising=False)
    head = setting.setting("detr-onnx", [])
    assert head["load_before"] is None
    assert head["machine"]["memory_gb"] is None


def test_a_device_is_not_a_camera_without_major(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "major", raising=False)
    monkeypatch.setattr(sources.os, "stat", lambda path: os.stat_result([stat.S_IFCHR, *range(9)]))
    assert not sources.is_camera("NUL")


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_cameras_are_refused_where_there_is_no_v4l2(system, monkeypatch):
    monkeypatch.setattr(video_open.sys, "platform", system)
    with pytest.raises(VideoError, match="cannot open the camera /dev/video7: found the system"):
        video_open.open_video(7)


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("street.jpg", "street.jpg"), ("12:30.jpg", "12_30.jpg"), ("a?b.mp4", "a_b.mp4"), ("aux.txt", "_aux.txt"),
        ("NUL", "_NUL"), ("com1 .png", "_com1 .png"), ("console.png", "console.png"), ("a. .", "a"), ("...", "_"),
        ("a\tb", "a_b"), ("café", "café"), (r"C:\x", "C__x"),
    ],
)  # fmt: skip
def test_names_made_from_outside_data_are_names_of_files_on_windows(name, expected, monkeypatch):
    monkeypatch.setattr(paths, "sys", types.SimpleNamespace(platform="win32"))
    assert paths.file_name(name) == expected
    monkeypatch.setattr(paths, "sys", types.SimpleNamespace(platform="linux"))
    assert paths.file_name(name) == name


def test_a_drive_is_neither_the_scheme_of_a_url_nor_the_column_of_a_list(tmp_path):
    assert sources.url_scheme(r"C:\clips\a.mp4") == ""
    assert not sources.is_live(r"C:\clips\a.mp4")
    with pytest.raises(DatasetError, match=r"the list C:\\lists\\a.txt cannot be read"):
        Manifest.parse(r"C:\lists\a.txt")


@pytest.fixture
def windows_paths(monkeypatch):
    """`os.path` and `os.sep` of Windows, where paths of rows are worked with."""
    imitation = types.SimpleNamespace(path=ntpath, sep="\\", pardir="..", fsdecode=os.fsdecode)
    monkeypatch.setattr(file_formats, "os", imitation)


def test_labels_have_slashes_on_windows(windows_paths):
    assert file_formats.ImageNames(r"C:\photos").name(r"c:\Photos\a b\1.jpg") == "a b/1.jpg"
    assert file_formats.ImageNames(None, "https://host/").name(r"photos\1.jpg") == "https://host/photos/1.jpg"
    assert file_formats.ImageNames().name(r"photos\1.jpg") == r"photos\1.jpg"


@pytest.mark.parametrize("path", [r"D:\photos\1.jpg", r"C:\other\1.jpg"])
def test_an_image_on_another_drive_is_not_in_the_directory(path, windows_paths):
    with pytest.raises(UsageError, match="is not in"):
        file_formats.ImageNames(r"C:\photos").name(path)


def test_files_of_the_system_are_left_out_with_backslashes(monkeypatch):
    monkeypatch.setattr(walk, "os", types.SimpleNamespace(sep="\\"))
    assert [*walk._visible([r"a\Thumbs.db", r"__MACOSX\1.jpg", r"a\1.jpg"], "*/*")] == [r"a\1.jpg"]


# Lists and journals


def test_a_list_from_powershell_is_refused_with_the_way_to_write_it(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\nb.jpg\n", encoding="utf-16")
    with pytest.raises(DatasetError, match="found UTF-16, expected UTF-8, which PowerShell writes with"):
        [*Manifest(str(path)).names()]


def test_lists_with_windows_line_ends_and_a_mark_are_read(tmp_path):
    path = tmp_path / "list with spaces.txt"
    path.write_bytes("\ufeffC:\\photos\\é 1.jpg\r\nb.jpg\r\n".encode())
    assert [*Manifest(str(path)).names()] == ["C:\\photos\\é 1.jpg", "b.jpg"]


@pytest.mark.parametrize("content", [b"caf\xe9.jpg\n", b"a\0caf\xe9.jpg\0"])
def test_a_list_that_is_not_utf_8_is_an_error_on_windows(content, tmp_path, monkeypatch):
    (tmp_path / "list.txt").write_bytes(content)
    imitation = types.SimpleNamespace(fsdecode=lambda name: name.decode("utf-8", "surrogatepass"))
    monkeypatch.setattr(manifests, "os", imitation)
    with pytest.raises(DatasetError, match=r"cannot be read: found b'caf\\xe9.jpg', expected UTF-8"):
        [*Manifest(str(tmp_path / "list.txt")).names()]


def test_journals_are_opened_without_the_translation_of_line_ends(tmp_path, monkeypatch):
    flags = []
    opened = os.open
    monkeypatch.setattr(journal.os, "open", lambda path, flag, mode: flags.append(flag) or opened(path, flag, mode))
    with journal.open_journal(tmp_path / "journal.ndjson"):
        pass
    assert flags == [os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)]
