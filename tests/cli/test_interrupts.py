"""Ctrl-C at any moment: a quiet end with exit status 130, and no traceback.

A child process sends itself the signal as soon as a certain module is about to be imported, which is deterministic.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.cli import detect, interrupts
from tests.cli.command_line import ROOT, in_a_process
from tests.small_model import sample_image

pytest.importorskip("onnxruntime")
UMATH = f"numpy.{'_core' if np.__version__ >= '2' else 'core'}._multiarray_umath"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")

HOOK = """
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background of a script ignores it

class Interrupter:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter)
"""
MODULES = [
    "detr_onnx.cli", "detr_onnx.cli.interrupts", "detr_onnx.cli.main", "argparse", "detr_onnx.cli.agree",
    "detr_onnx.image.files", "detr_onnx.cli.formats", "numpy", "numpy.linalg", UMATH,
    "detr_onnx.detector", "PIL.Image", "PIL._imaging", "onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state",
    "PIL.ImageDraw",
]  # fmt: skip


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Environment variables of a process that interrupts itself at the import of `INTERRUPT_AT`."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])
    return os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("start", ["-m detr_onnx", "script"])
def test_an_interrupt_during_an_import_is_quiet(tmp_path, environment, graph, module, start):
    if start == "script":  # as the installer writes it
        (tmp_path / "script.py").write_text("import sys\nfrom detr_onnx.__main__ import main\nsys.exit(main())\n")
    first = ["-m", "detr_onnx"] if start == "-m detr_onnx" else [str(tmp_path / "script.py")]
    sample_image(40, 30).save(tmp_path / "a.png")
    command = [sys.executable, *first, "detect", tmp_path / "a.png", "-m", graph, "--engine", "onnxruntime"]
    ended = subprocess.run(
        [*map(str, command), "--save", str(tmp_path / "out.jpg")],
        env=environment | {"INTERRUPT_AT": module},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (130, "")
    assert not (tmp_path / "out.jpg").exists()


def test_an_interrupt_that_a_library_turns_into_another_error_is_quiet(monkeypatch, capsys):
    from detr_onnx.cli import main as cli

    def fails(arguments):
        raise ImportError("initialization failed")

    monkeypatch.setattr(interrupts, "_signals", [signal.SIGINT])
    monkeypatch.setattr(detect, "run", fails)
    assert cli.main(["detect", "a.png"]) == 130
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_that_an_engine_turns_into_another_error_ends_the_run(album, graph, monkeypatch, capsys):
    from detr_onnx.cli import main as cli

    calls = []

    def fails(self, image, threshold):
        calls.append(image)
        monkeypatch.setattr(interrupts, "_signals", [signal.SIGINT])
        raise RuntimeError("interrupted inside")

    monkeypatch.setattr(Detector, "__call__", fails)
    assert cli.main(["detect", "a.png", "b.jpg", "-m", str(graph), "--engine", "onnxruntime"]) == 130
    assert len(calls) == 1
    assert capsys.readouterr().err == ""


LOADED = """
import importlib.abc, importlib.machinery, os, signal, sys, time
from detr_onnx.cli import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.raise_on_interrupt()

class Loader(importlib.machinery.ExtensionFileLoader):
    def create_module(self, spec):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10):
            time.sleep(0.01)
        print("loaded", flush=True)

Loader("compiled", "compiled.so").create_module(None)
time.sleep(10)
"""


def test_a_compiled_module_is_loaded_before_an_interrupt_is_raised():
    """The package onnx crashes otherwise."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, env=environment, timeout=60)
    assert ended.stdout == b"loaded\n"
    assert ended.stderr.endswith(b"KeyboardInterrupt\n")


SWALLOWED = """
import os, signal, sys, time
from detr_onnx.cli import interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.raise_on_interrupt()

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

Destroyed()
time.sleep(10)
"""


def test_an_interrupt_in_a_destructor_ends_the_process_quietly():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, env=environment, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_an_ignored_interrupt_stays_ignored():
    code = "import signal; from detr_onnx.cli import interrupts as i; signal.signal(2, signal.SIG_IGN); "
    code += "i.raise_on_interrupt(); i.exit_on_interrupt(); assert signal.getsignal(2) == signal.SIG_IGN"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_an_interrupt_while_images_are_processed_is_quiet(album, graph):
    for number in range(200):
        sample_image(300, 300, number).save(f"{number}.png")
    script = "import signal; signal.signal(2, signal.default_int_handler); import runpy, sys; "
    script += "sys.argv[0] = 'detr-onnx'; runpy.run_module('detr_onnx', run_name='__main__')"
    command = [sys.executable, "-c", script, "detect", ".", "-m", str(graph), "--engine", "onnxruntime"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")


def test_help_and_version_still_end_with_their_own_status():
    for arguments, status in ([["--version"], 0], [["detect"], 2], [["nonsense"], 2]):
        with in_a_process(*arguments) as process:
            process.communicate(timeout=60)
        assert process.returncode == status


# Sources that do not end


def image_error(*arguments: object, seconds: float = 30) -> str:
    """The one line of a command that runs at most this long."""
    begun = time.monotonic()
    with in_a_process(*arguments) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
    assert (process.returncode, out) == (1, b""), err
    assert err.count(b"\n") == 1, err
    assert time.monotonic() - begun < seconds
    return err.decode()


def test_a_pipe_without_a_writer_is_an_error_within_seconds(album, graph):
    os.mkfifo("pipe.jpg")
    line = image_error("detect", "pipe.jpg", "-m", graph, "--engine", "onnxruntime")
    assert line == "detr-onnx: error: cannot read pipe.jpg: found no data for 10 s, expected an image file\n"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_an_endless_device_is_an_error(album, graph):
    line = image_error("detect", "/dev/zero", "-m", graph, "--engine", "onnxruntime")
    assert line == "detr-onnx: error: cannot read /dev/zero: found more than 256 MB, expected an image file\n"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_an_endless_stdin_is_an_error(album, graph):
    with Path("/dev/zero").open("rb") as zeros:
        process = in_a_process("detect", "-", "-m", graph, "--engine", "onnxruntime", stdin=zeros)
        with process:
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert err == b"detr-onnx: error: cannot read stdin: found more than 256 MB, expected an image file\n"
