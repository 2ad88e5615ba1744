"""The command lines of benchmarks, exporters and training scripts start, and share their options."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command import OPTIONS, benchmark_parser, write_results

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
