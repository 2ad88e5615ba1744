"""Contenders in interleaved rounds, and whole processes: what they report, and what is left of those that fail."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from detr_onnx.bench import interleave
from detr_onnx.bench.interleave import (
    Contender,
    Entry,
    baseline_command,
    run_contenders,
    run_interleaved,
    start,
    start_all,
)
from detr_onnx.bench.processes import Program, run, run_in_turns
from detr_onnx.bench.setting import environment
from tests.bench.stub_contenders import ROOT, STUB, program, silent, stub

READY = 'print(\'{"runs_on": "x", "versions": {}}\', flush=True)'

posix_only = pytest.mark.skipif(os.name != "posix", reason="bench runs on Linux and macOS")


@pytest.fixture
def impatient(monkeypatch):
    """A contender that does not end is killed at once."""
    monkeypatch.setattr(interleave, "STOP_S", 0.2)


# Turns


def test_contenders_run_in_interleaved_rounds_and_warm_up_is_not_recorded():
    shown: list[str] = []
    with start_all([stub("steady", seconds=1), stub("steady", seconds=2)], environment(1)) as (started, left_out):
        show = lambda number, title: shown.append(f"{number} {title}")  # noqa: E731
        contenders, failed = run_interleaved(started, 2, 1, show, pause_s=0)
    assert [contender.seconds for contender in contenders] == [{"part": [1, 1]}, {"part": [2, 2]}]
    assert {contender.runs_on for contender in contenders} == {"a stub"}
    assert (left_out, failed) == ({}, {})
    assert shown == ["1 a steady one"] * 2 + ["2 a steady one"] * 2 + ["3 a steady one"] * 2
    assert [contender.process.returncode for contender in contenders] == [0, 0]


def test_what_a_library_prints_does_not_mix_with_the_answers():
    noisy = STUB.replace("def steady(given):", "def steady(given):\n    print('a banner')")
    command = (sys.executable, "-c", noisy, str(ROOT), "steady", '{"seconds": 1, "part": "part"}')
    contender = start(Entry("noisy", "a noisy one", command), environment(1))
    assert isinstance(contender, Contender)
    assert contender.turn() == {"part": 1}
    contender.stop()


def test_a_baseline_starts_where_nothing_is_installed():
    command = (sys.executable, "-S", "-E", *baseline_command("", "nothing", {})[1:])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, '{"error": "KeyError: \'nothing\'"}\n')
    assert done.stderr == "KeyError: 'nothing'\n"


# Contenders that fail


def test_a_contender_that_cannot_start_is_left_out_with_the_reason():
    entries = [stub("absent"), stub("steady"), Entry("none", "no program", ("/no/such/program",))]
    with start_all(entries, environment(1)) as (contenders, left_out):
        assert [contender.entry.key for contender in contenders] == ["steady 1"]
    assert left_out["a absent one"] == "ImportError: No module named 'peer'"
    assert "No such file" in left_out["no program"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", "it ended without an answer (exit status 3)"),
        ("raise SystemExit('no torch')", "it ended without an answer (exit status 1): no torch"),
        ("import sys; sys.stderr.buffer.write(b'\\xff\\n\\n')", "it ended without an answer (exit status 0): \ufffd"),
    ],
)
def test_a_contender_that_exits_before_it_is_ready_says_how_and_why(code, reason):
    assert start(program(code), environment(1)) == reason


@posix_only
@pytest.mark.parametrize(
    ("signal", "words"), [("SIGKILL", "killed by SIGKILL, perhaps for lack of memory"), ("SIGILL", "killed by SIGILL")]
)
def test_a_contender_that_is_killed_names_the_signal(signal, words):
    code = f"import os, signal; os.kill(os.getpid(), signal.{signal})"
    assert start(program(code), environment(1)) == f"it ended without an answer ({words})"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("print('hello')", "'hello'"),
        ("print(3)", "'3'"),
        ("print('[1]')", "'[1]'"),
        ("print()", "''"),
        ("print('{}')", "'{}'"),
        ("print('{\"runs_on\": 1}')", "'{\"runs_on\": 1}'"),
        ('print(\'{"runs_on": "x", "versions": [1]}\')', '\'{"runs_on": "x", "versions": [1]}\''),
        ("print('[' * 5000)", f"'{'[' * 60}'"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\n')", "'\ufffd\ufffd'"),
        ("import time; print('x' * 100_000, end='', flush=True); time.sleep(60)", f"'{'x' * 60}'"),
    ],
)
def test_output_that_is_not_json_is_shown_and_nothing_hangs(impatient, code, shown):
    expected = f"it printed {shown} instead of an answer in JSON; check that {sys.executable} is a Python interpreter"
    assert start(program(code), environment(1)) == expected


@pytest.mark.parametrize("parts", ["{}", '{"part": "fast"}', '{"part": NaN}', '{"part": 0}', '{"part": -1}'])
def test_an_answer_without_durations_leaves_the_contender_out(parts):
    code = f"{READY}\nfor _ in open(0): print({parts!r}, flush=True)"
    contenders, left_out = run_contenders([program(code)], environment(1), 1, 0, silent, 0)
    assert contenders == []
    assert left_out == {"a program": f"it answered {parts} instead of the seconds of each part"}


def test_a_turn_that_fails_leaves_the_contender_out_with_the_reason():
    contenders, left_out = run_contenders([stub("failing"), stub("steady")], environment(1), 1, 0, silent, 0)
    assert [contender.entry.key for contender in contenders] == ["steady 1"]
    assert left_out == {"a failing one": "KeyError: 'no such key'"}


@posix_only
def test_the_others_go_on_when_a_contender_is_killed_in_a_later_round():
    entries = [stub("steady", seconds=1), stub("tiring", turns=2), stub("steady", seconds=2)]
    contenders, left_out = run_contenders(entries, environment(1), 3, 1, silent, 0)
    assert [contender.seconds for contender in contenders] == [{"part": [1, 1, 1]}, {"part": [2, 2, 2]}]
    (reason,) = left_out.values()
    assert reason.startswith("it ended without an answer (killed by SIGKILL")
    assert reason.endswith(": out of breath")


def test_a_contender_that_does_not_end_by_itself_is_killed(impatient):
    contender = start(program(f"{READY}\nimport time; time.sleep(60)"), environment(1))
    assert isinstance(contender, Contender)
    contender.stop()
    assert contender.process.returncode not in (None, 0)


@pytest.mark.parametrize("moment", ["loading", "a turn"])
def test_ctrl_c_kills_the_contenders_and_does_not_wait_for_them(monkeypatch, moment):
    processes = []

    def interrupt(contender: Contender) -> None:
        processes.append(contender.process)
        raise KeyboardInterrupt

    if moment == "loading":
        monkeypatch.setattr(Contender, "load", interrupt)
    else:
        monkeypatch.setattr(Contender, "turn", interrupt)
    busy = program(f"{READY}\nimport signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        run_contenders([busy], environment(1), 1, 0, silent, 0)
    (process,) = processes
    assert process.returncode not in (None, 0)


# Whole processes


@posix_only
def test_whole_processes_report_peak_memory_and_wall_time_and_failures_are_left_out():
    fine = Program("fine", "a fine one", (sys.executable, "-c", "b = bytes(50_000_000)"))
    bad = Program("bad", "a bad one", (sys.executable, "-c", "raise SystemExit('no luck')"))
    (ran,), left_out = run_in_turns([fine, bad], 2, environment(1), silent)
    assert (len(ran.wall_s), len(ran.peak_mb)) == (2, 2)
    assert min(ran.peak_mb) > 50
    assert left_out == {"a bad one": "no luck"}


@posix_only
@pytest.mark.parametrize("fault", ["raise SystemExit('a bad day')", "import os; os.kill(os.getpid(), 9)"])
def test_a_process_that_fails_in_a_later_round_is_left_out_and_the_others_go_on(tmp_path, fault):
    runs = tmp_path / "runs"
    code = f"""
from pathlib import Path
runs = Path({str(runs)!r})
count = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (count + 1))
if count == 2:
    {fault}
"""
    entries = [Program("a", "steady", ("true",)), Program("b", "moody", (sys.executable, "-c", code))]
    (ran,), left_out = run_in_turns(entries, 3, environment(1), silent)
    assert (ran.title, len(ran.wall_s)) == ("steady", 3)
    assert left_out["moody"] in ("a bad day", "killed by SIGKILL, perhaps for lack of memory")
    assert len(runs.read_text()) == 3


@posix_only
def test_a_baseline_that_fails_as_a_whole_process_says_why():
    command = (*baseline_command(sys.executable, "nothing", {}), "once")
    _, left_out = run_in_turns([Program("x", "a baseline", command)], 1, environment(1), silent)
    assert left_out == {"a baseline": "KeyError: 'nothing'"}


@posix_only
def test_ctrl_c_ends_the_process_that_is_measured(monkeypatch, tmp_path):
    def interrupted(process_id: int, options: int) -> None:
        (tmp_path / "pid").write_text(str(process_id))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "wait4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Program("x", "x", ("sh", "-c", "exec 2>&-; exec sleep 60")), environment(1))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
