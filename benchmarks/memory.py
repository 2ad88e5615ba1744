"""Peak memory and wall time of a whole process that finds things in one photograph: ours beside the peers'.

    python -m benchmarks.memory [--optimum DIR] [--python-peers .venv-peers/bin/python] [--int8 FILE] [--runs 5]

As `detr_onnx.bench.processes` measures them, one at a time, in turns. This program imports nothing heavy before: a
child begins with the peak of whoever started it, and that floor is noted. Ours finds its graph in the cache, where the
first `detect` put it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.setting import environment, show
from detr_onnx.bench.interleave import baseline_command
from detr_onnx.bench.processes import Program, floor_mb, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures
from detr_onnx.engines.cpu import cpu_features

RESULTS = Path(__file__).parent / "results" / "memory.json"
RUNS = 5

RATIOS: tuple[tuple[str, str], ...] = (
    ("ours-onnxruntime", "optimum"),
    ("ours-onnxruntime", "transformers"),
    ("ours-numpy", "transformers"),
)
BF16 = {"avx512_bf16", "amx_bf16"}  # with these OpenVINO computes in bf16 unless told otherwise
BARS_MB = {"ours-onnxruntime": 380, "ours-openvino-bf16": 450, "ours-numpy": 380}


def programs(arguments: argparse.Namespace, place: dict[str, str]) -> list[Program]:
    """What is measured, in the order of the turns; `place` says where the subject lies."""
    threads = arguments.threads
    has_bf16 = bool(BF16 & set(cpu_features()))
    in_bf16 = ", backbone in bf16" if has_bf16 else ""
    detect = (sys.executable, "-m", "detr_onnx", "detect", place["photograph"], "-m", place["model"])
    with_threads = ("--threads", str(threads))
    all_bf16 = (*detect, "--engine", "openvino", "--precision", "bf16", *with_threads)
    wanted = [
        Program("ours-onnxruntime", "ours, onnxruntime", (*detect, "--engine", "onnxruntime", *with_threads)),
        Program("ours-openvino", f"ours, OpenVINO{in_bf16}", (*detect, "--engine", "openvino", *with_threads)),
        *([Program("ours-openvino-bf16", "ours, OpenVINO, all in bf16", all_bf16)] if has_bf16 else []),
        Program("ours-numpy", "ours, numpy", (*detect, "--engine", "numpy")),
        Program("demo", "`detr-onnx demo`: the small shipped model", (sys.executable, "-m", "detr_onnx", "demo")),
    ]
    if arguments.int8:
        title = f"ours, onnxruntime, an int8 file of {arguments.int8.stat().st_size / 1e6:.0f} MB"
        detect = (*detect[:-1], str(arguments.int8), "--engine", "onnxruntime", *with_threads)
        wanted.insert(1, Program("ours-int8", title, detect))
    given = {"image": place["photograph"], "threads": threads}
    if arguments.optimum:
        graph = arguments.optimum / "dynamic" / "model.onnx" if arguments.optimum.is_dir() else arguments.optimum
        by_hand = baseline_command(sys.executable, "onnxruntime-detect", given | {"graph": str(graph)})
        title = "optimum's export in onnxruntime, numpy and Pillow, by hand"
        wanted.append(Program("optimum", title, (*by_hand, "once")))
    if arguments.python_peers:
        pipeline = baseline_command(arguments.python_peers, "pipeline", given | {"model": place["model"]})
        wanted.append(Program("transformers", "transformers, PyTorch eager, pipeline", (*pipeline, "once")))
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
    parser.add_argument("--int8", type=Path, metavar="FILE", help="the same model as an int8 file, see precisions.py")
    parser.add_argument("--threads", type=int, default=2, help="of every program (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each that count (default: {RUNS})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Measures and writes the results."""
    arguments = arguments_parser().parse_args()
    head = setting("python -m benchmarks.memory", sys.argv[1:])
    place = subject_place(arguments.work, arguments.model)
    surroundings = environment(arguments.work, arguments.threads)
    floor = floor_mb()
    ran, left_out = run_in_turns(programs(arguments, place), arguments.runs, surroundings, show)
    for title, why in left_out.items():
        print(f"left out: {title}: {why}", file=sys.stderr)
    results = {
        **head,
        "model": place["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "floor_mb": round(floor, 1),
        "rows": [row(program) for program in ran],
        "ratios": ratios(ran),
        "left_out": [{"title": title, "why": why} for title, why in left_out.items()],
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
