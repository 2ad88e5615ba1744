"""The command line as a whole: help, exit statuses, one line for every error, closed and full streams."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx import Detector, __version__
from detr_onnx.cli import console, detect
from detr_onnx.cli import main as cli
from detr_onnx.image import processor_config
from tests.cli.command_line import ROOT, in_a_process
from tests.small_model import sample_image

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "arguments",
    [[], ["detect"], ["nonsense"], ["detect", "a.png", "--threshold", "abc"], ["detect", "a.png", "--format", "xml"],
     ["export", "x"], ["detect", "a.png", "--threads", "many"], ["export", "x", "-o", "y.onnx", "--batch", "two"]],
)  # fmt: skip
def test_wrong_usage_shows_the_usage_and_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("usage: detr-onnx")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "a.png", "--treshold", "0.5"], "unrecognized arguments: --treshold 0.5; did you mean --threshold?"),
        (["detect", "a.png", "--labls=cat"], "unrecognized arguments: --labls=cat; did you mean --labels?"),
        (["demo", "--qqq"], "unrecognized arguments: --qqq"),
        (["info", "a.png"], "unrecognized arguments: a.png"),
    ],
)
def test_an_unknown_option_names_the_similar_one_of_its_command(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: detr-onnx {arguments[0]}")
    assert error == f"detr-onnx {arguments[0]}: error: {message}"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["detect", "--help"], ["demo", "-h"], ["export", "-h"], ["info", "-h"]]
)
def test_help_goes_to_stdout(run, arguments):
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert out.startswith("usage: detr-onnx")


def test_the_version_goes_to_stdout(run):
    assert run("--version") == (0, f"detr-onnx {__version__}\n", "")


# Log messages and progress


def test_info_shows_versions_and_engines(run):
    status, out, err = run("info")
    assert (status, err) == (0, "")
    assert f"detr-onnx: {__version__}" in out
    assert "engines: numpy, onnxruntime" in out


def test_verbose_shows_the_engine(run):
    assert run("detect", "a.png")[2] == ""
    assert run("detect", "a.png", "-v", "--engine", "onnxruntime")[2].startswith("detr-onnx: running on onnxruntime ")
    assert run("detect", "a.png")[2] == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_run_shows_progress_on_a_terminal(run, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    run("detect", ".")
    assert "1/3" not in screen.getvalue()
    monkeypatch.setattr(console, "PROGRESS_AFTER_S", -1)
    Path("b.jpg").write_bytes(b"")
    status, out, _ = run("detect", ".")
    assert (status, len(out.splitlines())) == (1, 2)
    shown = screen.getvalue()
    assert "1/3" in shown
    assert "3/3  " in shown
    assert f"{console.CLEAR_LINE}detr-onnx: error: b.jpg" in shown
    assert shown.endswith(console.CLEAR_LINE)


# Interrupts, bugs and streams


def test_ctrl_c_is_quiet(run, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "__call__", interrupted)
    assert run("detect", "a.png") == (130, "", "")


@pytest.mark.parametrize(
    ("function", "start"), [("detect_images", ""), ("detect_and_save", "a.png: ")], ids=["the command", "one image"]
)
def test_a_bug_is_one_line_and_shows_its_traceback_only_with_verbose(
    refused, monkeypatch, capsys, graph, function, start
):
    def fails(*arguments, **options):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(detect, function, fails)
    line = refused("detect", "a.png")
    found = "found ZeroDivisionError: by nought"
    assert line == f"{start}this is a bug in detr-onnx: {found}; report it with the output of --verbose"
    assert cli.main(["detect", "a.png", "-v", "-m", str(graph)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_running_out_of_memory_is_one_line(refused, monkeypatch):
    def fails(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(processor_config.Preprocessing, "from_json", fails)
    assert refused("detect", "a.png").startswith("there is not enough memory; try a smaller --size")


def test_stdout_on_a_full_disk_is_one_line(album, graph):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full, in_a_process("detect", "a.png", "-m", graph, stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        b"detr-onnx: error: the results cannot be written: found No space left on device; send stdout elsewhere\n"
    )


def test_a_reader_that_closes_the_pipe_ends_the_run_quietly(album, graph):
    with in_a_process("detect", ".", "-m", graph, "--format", "table") as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of Unix")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("info >&-", "found a closed stdout"),
        ("detect gone.png 2>&-", ""),
        ("detect - -m '{}' <&-", "there is no stdin"),
    ],
)
def test_closed_standard_streams_are_handled(album, graph, command, says):
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m detr_onnx {command.format(graph)}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says)


def test_characters_outside_the_encoding_are_escaped(album, graph):
    sample_image(40, 30).save("straße.png")
    arguments = ["detect", "straße.png", "a.png", "-m", graph, "--format", "table", "--threshold", "1"]
    with in_a_process(*arguments, env={"PYTHONIOENCODING": "ascii"}) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out == b"stra\\xdfe.png: 0 found\na.png: 0 found\n"
