"""Work that does not end is given up, also by Ctrl-C, and the process ends without waiting for it."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from threading import Event

import pytest

from detr_onnx.engines import deadline, onnxruntime, openvino
from detr_onnx.engines.deadline import is_any_stuck, limit_first_run, run_within
from detr_onnx.errors import EngineError, ModelFileError
from tests.cli.command_line import ROOT
from tests.engines import slow_graphs
from tests.small_model import sample_image

MODEL = Path("a.onnx")
AT_ONCE_S = 30  # far less than the graph takes
MEANWHILE_S = 3.0  # until the graph is being loaded


def test_work_that_ends_returns_its_result_or_raises_its_error():
    assert run_within(60, MODEL, "load", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        run_within(60, MODEL, "load", lambda: 1 / 0)


def test_work_that_exceeds_the_limit_is_an_error_and_counts_as_stuck():
    done, other = Event(), Event()
    for event in (done, other):
        with pytest.raises(ModelFileError, match=r"a\.onnx does not load within 0\.1 s; check where it comes from"):
            run_within(0.1, MODEL, "load", event.wait)
        assert is_any_stuck()
    done.set()
    assert deadline._unfinished[-2].wait(10)
    assert is_any_stuck()  # the other one
    other.set()
    assert all(ended.wait(10) for ended in deadline._unfinished)
    assert not is_any_stuck()


def test_a_thread_that_was_given_up_does_not_keep_the_interpreter():
    code = (
        "import time\nfrom pathlib import Path\nfrom detr_onnx.engines.deadline import run_within\n"
        "run_within(0.1, Path('a.onnx'), 'load', lambda: time.sleep(600))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=AT_ONCE_S, cwd=ROOT)
    assert ended.returncode == 1
    assert "a.onnx does not load within 0.1 s" in ended.stderr


def test_only_the_first_run_has_a_deadline():
    done = Event()
    run = limit_first_run(0.1, MODEL, lambda wait: done.wait() if wait else "ran")
    assert (run(False), run(False)) == ("ran", "ran")
    timer = deadline.threading.Timer(0.3, done.set)
    timer.start()
    assert run(True) is True
    timer.join()


def test_while_a_first_run_that_was_given_up_goes_on_others_are_refused_at_once():
    done, runs = Event(), []
    run = limit_first_run(0.1, MODEL, lambda wait: runs.append(wait) or (done.wait() if wait else "ran"))
    with pytest.raises(ModelFileError, match=r"does not run within 0\.1 s"):
        run(True)
    threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(ModelFileError, match=r"a\.onnx does not run: found its first run, .*; check where"):
            run(False)
    assert (runs, threading.active_count()) == ([True], threads)
    done.set()
    assert all(ended.wait(10) for ended in deadline._unfinished)
    assert run(False) == "ran"


def test_the_limit_of_the_first_run_grows_with_the_batch():
    assert limit_first_run(0.2, MODEL, lambda _: Event().wait(0.5) or "ran", len)("abcdefgh") == "ran"
    with pytest.raises(ModelFileError, match=r"does not run within 0\.1 s"):
        limit_first_run(0.1, MODEL, lambda _: Event().wait(0.5), len)("a")


def test_other_threads_wait_for_the_first_run():
    calls = list[int]()
    run = limit_first_run(60, MODEL, lambda number: (calls.append(number), Event().wait(0.2 if number == 0 else 0)))
    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
        Event().wait(0.05)
    for thread in threads:
        thread.join()
    assert calls[0] == 0
    assert len(calls) == 3


def test_a_thread_that_cannot_start_is_an_engine_error(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    before = [*deadline._unfinished]
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(EngineError, match=r"cannot load a\.onnx: found can't start new thread; end other programs"):
        run_within(60, MODEL, "load", lambda: 7)
    assert deadline._unfinished == before


INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path
from detr_onnx.engines.deadline import is_any_stuck, run_within

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    run_within(60, Path("a.onnx"), "load", lambda: time.sleep(3))
except KeyboardInterrupt:
    print(is_any_stuck())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")
def test_work_interrupted_by_ctrl_c_counts_as_stuck():
    """Python 3.11 takes a thread for ended when waiting for it is interrupted; the exit would then crash."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def skip_where_loading_cannot_be_interrupted(engine: str) -> None:
    """ONNX Runtime 1.23, the last for Python 3.10, keeps the interpreter's lock while it loads a graph."""
    version = importlib.metadata.version("onnxruntime").split(".") if engine == "onnxruntime" else ()
    if version and [*map(int, version[:2])] <= [1, 23]:
        pytest.skip("this ONNX Runtime lets no other thread run while it loads")


@pytest.mark.parametrize("engine", [onnxruntime, openvino])
def test_a_graph_that_is_not_loaded_in_time_is_an_error(tmp_path, monkeypatch, engine):
    """Products of constants, which end after minutes; in a process of its own, which ends at once."""
    name = engine.__name__.rpartition(".")[2]
    pytest.importorskip(name)
    skip_where_loading_cannot_be_interrupted(name)
    path = slow_graphs.write(tmp_path / "a.onnx", slow_graphs.constant_products())
    sample_image(40, 30).save(tmp_path / "a.png")
    code = "import sys; from detr_onnx.engines import deadline; deadline.LOAD_S = 1.0; import runpy; "
    code += "sys.argv[0] = 'detr-onnx'; runpy.run_module('detr_onnx', run_name='__main__')"
    command = [sys.executable, "-c", code, "detect", str(tmp_path / "a.png"), "-m", str(path), "--engine", name]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=AT_ONCE_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "a.onnx does not load within 1 s" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals there are others")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_ctrl_c_is_heard_while_a_graph_is_loaded(tmp_path, engine):
    pytest.importorskip(engine)
    skip_where_loading_cannot_be_interrupted(engine)
    path = slow_graphs.write(tmp_path / "a.onnx", slow_graphs.constant_products())
    sample_image(40, 30).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "detr_onnx", "detect", str(tmp_path / "a.png"), "-m", str(path)]
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # ignored in a script's background
    with subprocess.Popen(
        [*command, "--engine", engine], cwd=ROOT, env=os.environ, stdout=-1, stderr=-1, **hears
    ) as process:
        time.sleep(MEANWHILE_S)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=AT_ONCE_S)
    assert (process.returncode, out, err) == (130, b"", b"")
