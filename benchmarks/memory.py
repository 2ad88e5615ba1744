"""Peak memory and wall time of a whole process that finds things in one photograph: ours beside the peers'.

    python -m benchmarks.memory [--optimum DIR] [--python-peers .venv-peers/bin/python] [--runs 5]

Each process is started, timed from outside until it has ended, and asked for its peak resident set (`ru_maxrss`), one
at a time, in turns. This program imports nothing heavy before: a child begins with the peak of whoever started it,
and that floor is noted. Files are in the page cache (a first turn that does not count has read them); ours finds its
graph in the cache, where the first `detect` put it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.setting import environment, setting
from benchmarks.timings import figures

RESULTS = Path(__file__).parent / "results" / "memory.json"
RUNS, WARM_UP = 5, 1
KIB_PER_MB = 1e6 / 1024

RATIOS: tuple[tuple[str, str], ...] = (
    ("ours-onnxruntime", "optimum"),
    ("ours-onnxruntime", "transformers"),
    ("ours-numpy", "transformers"),
)
BARS_MB = {"ours-onnxruntime": 380, "ours-openvino": 450, "ours-numpy": 380}


@dataclass
class Program:
    """A command, and what its runs have shown: a value a run that counts."""

    key: str
    title: str
    command: list[str]
    peak_mb: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def run(program: Program, surroundings: Mapping[str, str]) -> None:
    """Runs it once and notes what it took.

    Raises:
        RuntimeError: when it fails, with the last line it said.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(program.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=surroundings)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said.decode(errors="replace").strip().rpartition("\n")[2][:200] or "failed")
    program.peak_mb.append(used.ru_maxrss / KIB_PER_MB)
    program.wall_s.append(wall_s)
    program.processor_s.append(used.ru_utime + used.ru_stime)


def programs(arguments: argparse.Namespace, place: dict[str, str]) -> list[Program]:
    """What is measured, in the order of the turns; `place` says where the subject lies."""
    threads = str(arguments.threads)
    detect = [sys.executable, "-m", "detr_onnx", "detect", place["photograph"], "-m", place["model"]]
    wanted = [
        Program("ours-onnxruntime", "ours, onnxruntime", [*detect, "--engine", "onnxruntime", "--threads", threads]),
        Program("ours-openvino", "ours, OpenVINO", [*detect, "--engine", "openvino", "--threads", threads]),
        Program("ours-numpy", "ours, numpy", [*detect, "--engine", "numpy"]),
        Program("demo", "`detr-onnx demo`: the small shipped model", [sys.executable, "-m", "detr_onnx", "demo"]),
    ]
    if arguments.optimum:
        graph = arguments.optimum / "dynamic" / "model.onnx" if arguments.optimum.is_dir() else arguments.optimum
        by_hand = [sys.executable, "-m", "benchmarks.one_shot", "onnxruntime", str(graph), place["photograph"], threads]
        wanted.append(Program("optimum", "optimum's export in onnxruntime, numpy and Pillow, by hand", by_hand))
    if arguments.python_peers:
        pipeline = [arguments.python_peers, "-m", "benchmarks.one_shot", "transformers", place["model"]]
        title = "transformers, PyTorch eager, pipeline"
        wanted.append(Program("transformers", title, [*pipeline, place["photograph"], threads]))
    return wanted


def subject_place(work: Path, model: Path | None) -> dict[str, str]:
    """Where the subject lies and what it is called, made by a child: this process has to stay small."""
    code = (
        "import json, sys; from pathlib import Path; from benchmarks.subject import subject;"
        "s = subject(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None);"
        "print(json.dumps({'model': str(s.model), 'photograph': str(s.photograph), 'title': s.title}))"
    )
    command = [sys.executable, "-c", code, str(work), str(model or "")]
    place: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return place


def in_turns(
    wanted: Sequence[Program], runs: int, surroundings: Mapping[str, str]
) -> tuple[list[Program], list[dict[str, str]]]:
    """Those that ran, with `runs` values each, and who was left out and why."""
    able, left_out = [], []
    for program in wanted:
        try:
            run(program, surroundings)  # warms the page cache and ours' graph cache
        except (OSError, RuntimeError) as error:
            left_out.append({"title": program.title, "why": str(error)})
            print(f"left out: {program.title}: {error}", file=sys.stderr)
        else:
            able.append(Program(program.key, program.title, program.command))
    for number in range(runs):
        for program in able:
            run(program, surroundings)
        print(f"round {number + 1} of {runs}", file=sys.stderr)
    return able, left_out


def row(program: Program) -> dict[str, Any]:
    """A program's part of the results."""
    return {
        "key": program.key,
        "title": program.title,
        "peak_mb": figures(program.peak_mb, digits=1),
        "wall_s": figures(program.wall_s),
        "processor_s": figures(program.processor_s),
        "at_most_mb": BARS_MB.get(program.key),
    }


def ratios(ran: Sequence[Program]) -> list[dict[str, Any]]:
    """Median peaks of ours over theirs, and wall times."""
    rows = {program.key: row(program) for program in ran}
    return [
        {
            "ours": ours,
            "theirs": theirs,
            "peak": round(rows[ours]["peak_mb"]["median"] / rows[theirs]["peak_mb"]["median"], 3),
            "wall": round(rows[ours]["wall_s"]["median"] / rows[theirs]["wall_s"]["median"], 3),
        }
        for ours, theirs in RATIOS
        if ours in rows and theirs in rows
    ]


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="Peak memory and cold start.")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where what is measured is kept")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint; without it, the seeded one")
    parser.add_argument("--optimum", type=Path, metavar="PATH", help="a file or directory of export.optimum_export")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--threads", type=int, default=2, help="of every program (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each that count (default: {RUNS})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Measures and writes the results."""
    arguments = arguments_parser().parse_args()
    head = setting("benchmarks.memory", sys.argv[1:])
    place = subject_place(arguments.work, arguments.model)
    surroundings = environment(arguments.work, arguments.threads)
    floor_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MB
    ran, left_out = in_turns(programs(arguments, place), arguments.runs, surroundings)
    results = {
        **head,
        "model": place["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "floor_mb": round(floor_mb, 1),
        "rows": [row(program) for program in ran],
        "ratios": ratios(ran),
        "left_out": left_out,
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
