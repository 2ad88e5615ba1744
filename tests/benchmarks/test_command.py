"""The command lines of benchmarks, exporters and training scripts start, and share their options."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command import (
    OPTIONS,
    benchmark_parser,
    child_json,
    listed,
    only_some,
    parse_arguments,
    run_main,
    write_results,
)
from detr_onnx.bench.interleave import Entry
from detr_onnx.errors import EngineError, UsageError

ROOT = Path(__file__).parents[2]
NEEDED = {"benchmarks.serving": "starlette", "benchmarks.siege": "starlette", "benchmarks.accuracy": "pycocotools"}
MODULES = [
    *sorted(
        f"benchmarks.{file.stem}"
        for file in (ROOT / "benchmarks").glob("*.py")
        if "__main__" in file.read_text(encoding="utf-8") and file.stem != "hosted_api"  # which is a command of ours
    ),
    "export.compare",
    "export.detr_resnet_50",
    "export.optimum_export",
    "export.torch_export",
]


@pytest.mark.parametrize("module", MODULES)
def test_every_command_has_help(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if module in NEEDED:
        pytest.importorskip(NEEDED[module])
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize("script", ["agree", "example", "scenes"])
def test_training_scripts_run_from_anywhere(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "weights" / "training" / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith(f"usage: {script}.py")


def test_a_shared_option_has_the_same_default_everywhere() -> None:
    first = benchmark_parser("a", "A.", *OPTIONS, results="a", runs=3).parse_args([])
    second = benchmark_parser("b", "B.", *OPTIONS, results="b", runs=5).parse_args([])
    assert (first.runs, second.runs) == (3, 5)
    assert (first.json.name, second.json.name) == ("a.json", "b.json")
    del first.runs, second.runs, first.json, second.json
    assert first == second


def test_results_are_written_as_json_with_their_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "a.json", {"time": "0.5×"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "time": "0.5×"\n}\n'
    assert capsys.readouterr().err == "wrote a.json\n"


def test_results_that_cannot_be_written_are_printed_and_what_was_there_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmarks.command.write_atomically", full)
    with pytest.raises(SystemExit, match=r"cannot write .*: found No space left on device; the results are on stdout"):
        write_results(tmp_path / "a.json", {"ms": [1.5]})
    assert json.loads(capsys.readouterr().out) == {"ms": [1.5]}


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    write_results(tmp_path / "a.json", {"rows": [{"ms": float("nan")}, {"ms": (float("inf"), 2)}], "name": "\udcff"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"rows": [{"ms": None}, {"ms": [None, 2]}], "name": "\udcff"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runs", "0"], "argument --runs: found '0', expected a whole number from 1 up"),
        (["--runs", "many"], "argument --runs: found 'many', expected a whole number from 1 up"),
        (["--threads", "0"], "argument --threads: found '0', expected a whole number from 1 up"),
        (["--warm-up", "-1"], "argument --warm-up: found '-1', expected a whole number from 0 up"),
        (["--pause", "-1"], "argument --pause: found '-1', expected seconds from 0 up"),
        (["--pause", "nan"], "argument --pause: found 'nan', expected seconds from 0 up"),
        (["--pause", "inf"], "argument --pause: found 'inf', expected seconds from 0 up"),
        (["--json", "no/where.json"], "argument --json: cannot write no/where.json: found no directory no"),
        (["--json", "."], "argument --json: cannot write .: found a directory"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = benchmark_parser("a", "A.", "--threads", "--warm-up", "--pause", results="a", runs=3)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    assert capsys.readouterr().err.splitlines()[-1].endswith(says)


def test_names_that_nothing_has_are_refused_and_not_measured_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    parser = benchmark_parser("a", "A.", "--only", results="a")
    parser.add_argument("--engines", type=listed("numpy", "openvino"), default="numpy")
    assert parser.parse_args([]).engines == ["numpy"]
    entries = [Entry("torch", "t", ()), Entry("torch-bf16", "b", ()), Entry("numpy", "n", ())]
    assert only_some(parser, None, entries) == entries
    assert [entry.key for entry in only_some(parser, "torch,x", entries)] == ["torch", "torch-bf16"]
    for refused in (lambda: parser.parse_args(["--engines", "numpy,cuda"]), lambda: only_some(parser, "x", entries)):
        with pytest.raises(SystemExit, match="2"):
            refused()
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].endswith("argument --only: found 'x', expected the beginnings of some of torch,torch-bf16,numpy")
    assert any(line.endswith("--engines: found 'cuda', expected some of numpy,openvino") for line in lines)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("latency", "--only=torch"),
        ("shapes", "--only=numpy"),
        ("accuracy", "--limit=1"),
        ("panoptic", "--engines=numpy"),
        ("sizes", "--engines=openvino"),
        ("video", "--engines=numpy"),
        ("gpu", "--batches=1"),
        ("gpu", "--providers=CUDA"),
    ],
)
def test_some_rows_do_not_replace_the_results_of_all(
    module: str, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = f"benchmarks.{module}"
    if module in NEEDED:
        pytest.importorskip(NEEDED[module])
    monkeypatch.setattr(sys, "argv", [module, part])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(module).main()
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{part.split('=')[0]} leaves out rows of benchmarks/results/" in line
    assert line.endswith(".json; name another file with --json")


def test_some_rows_go_to_a_file_that_json_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parser = benchmark_parser("a", "A.", "--only", results="a")
    for words in ([], ["--only", "torch", "--json", str(tmp_path / "a.json")]):
        monkeypatch.setattr(sys, "argv", ["benchmark", *words])
        assert parse_arguments(parser, "only").only == (words[1] if words else None)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (KeyboardInterrupt(), 130, ""),
        (EngineError("no engine", found="none"), 1, "no engine: found none\n"),
        (UsageError("wrong"), 2, "wrong\n"),
        (FileNotFoundError(2, "No such file or directory", "x/y"), 1, "x/y: found No such file or directory; check"),
        (subprocess.CalledProcessError(-9, ["a", Path("b")]), 1, "has failed: a b: killed by SIGKILL"),
        (subprocess.CalledProcessError(3, ["a"], stderr="one\ntwo\n"), 1, "has failed: a: exit status 3: two"),
    ],
)
def test_what_a_user_can_meet_is_one_sentence(
    error: BaseException, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    words = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
    assert status == (1 if isinstance(ended.value.code, str) else ended.value.code)
    assert says in words


def test_the_status_of_a_program_is_that_of_its_main() -> None:
    with pytest.raises(SystemExit, match="1"):
        run_main(lambda: 1)
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: None)
    assert not ended.value.code


def test_a_peer_that_is_not_there_is_one_sentence() -> None:
    code = "import benchmarks.install as i; i.fresh = lambda requirement: {}; i.run_main(i.main)"
    command = [sys.executable, "-c", code, "--json", "/dev/null", "--python-peers", "/no/such/python"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "/no/such/python: found No such file or directory; check the path"


def test_a_child_prints_json_and_its_errors_are_seen(capfd: pytest.CaptureFixture[str]) -> None:
    assert child_json([sys.executable, "-c", "print('[1]')"]) == [1]
    with pytest.raises(subprocess.CalledProcessError):
        child_json([sys.executable, "-c", "raise SystemExit('no weights')"])
    assert "no weights" in capfd.readouterr().err
