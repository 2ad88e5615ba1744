"""Peak memory and wall time of a whole process that detects objects in one image: ours and peers.

    python -m benchmarks.memory [--optimum DIR] [--python-peers .venv-peers/bin/python] [--int8 FILE] [--runs 5]

Processes run one at a time, in turns (`detr_onnx.bench.processes`). This program must not import anything heavy: a
child process starts with the peak memory of its parent, and this floor is part of the results. Our programs find their
graph in the cache, where the first `detect` wrote it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, child_json, run_main, write_results
from benchmarks.setting import environment, show
from detr_onnx.bench.interleave import baseline_command
from detr_onnx.bench.processes import Program, floor_mb, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures
from detr_onnx.engines.cpu import cpu_features

RUNS = 5

RATIOS: tuple[tuple[str, str], ...] = (
    ("ours-onnxruntime", "optimum"),
    ("ours-onnxruntime", "transformers"),
    ("ours-numpy", "transformers"),
)
BF16 = {"avx512_bf16", "amx_bf16"}  # OpenVINO computes in bf16 by default on processors with one of these
BARS_MB = {"ours-onnxruntime": 380, "ours-openvino-bf16": 450, "ours-numpy": 380}


def programs(arguments: argparse.Namespace, subject: dict[str, str]) -> list[Program]:
    """The programs in the order of their turns; `subject` has the paths of the model and the image."""
    threads = arguments.threads
    has_bf16 = bool(BF16 & set(cpu_features()))
    in_bf16 = ", bf16-mixed" if has_bf16 else ""
    detect = (sys.executable, "-m", "detr_onnx", "detect", subject["photograph"], "-m", subject["model"])
    with_threads = ("--threads", str(threads))
    all_bf16 = (*detect, "--engine", "openvino", "--precision", "bf16", *with_threads)
    measured = [
        Program("ours-onnxruntime", "ours, onnxruntime", (*detect, "--engine", "onnxruntime", *with_threads)),
        Program("ours-openvino", f"ours, OpenVINO{in_bf16}", (*detect, "--engine", "openvino", *with_threads)),
        *([Program("ours-openvino-bf16", "ours, OpenVINO, all in bf16", all_bf16)] if has_bf16 else []),
        Program("ours-numpy", "ours, numpy", (*detect, "--engine", "numpy")),
        Program("demo", "`detr-onnx demo`: the small shipped model", (sys.executable, "-m", "detr_onnx", "demo")),
    ]
    if arguments.int8:
        title = f"ours, onnxruntime, an int8 file of {arguments.int8.stat().st_size / 1e6:.0f} MB"
        detect = (*detect[:-1], str(arguments.int8), "--engine", "onnxruntime", *with_threads)
        measured.insert(1, Program("ours-int8", title, detect))
    options = {"image": subject["photograph"], "threads": threads}
    if arguments.optimum:
        graph = arguments.optimum / "dynamic" / "model.onnx" if arguments.optimum.is_dir() else arguments.optimum
        by_hand = baseline_command(sys.executable, "onnxruntime-detect", options | {"graph": str(graph)})
        title = "optimum's export in onnxruntime, numpy and Pillow, by hand"
        measured.append(Program("optimum", title, (*by_hand, "once")))
    if arguments.python_peers:
        pipeline = baseline_command(arguments.python_peers, "pipeline", options | {"model": subject["model"]})
        measured.append(Program("transformers", "transformers, PyTorch eager, pipeline", (*pipeline, "once")))
    return measured


def subject_paths(work: Path, model: Path | None) -> dict[str, str]:
    """Paths of the model and the image, and a title; a child process creates them, since this one has to stay small."""
    code = (
        "import json, sys; from pathlib import Path; from benchmarks.subject import subject;"
        "s = subject(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2] else None);"
        "print(json.dumps({'model': str(s.model), 'photograph': str(s.photograph), 'title': s.title}))"
    )
    command = [sys.executable, "-c", code, str(work), str(model or "")]
    paths: dict[str, str] = child_json(command)
    return paths


def row(program: Program) -> dict[str, Any]:
    """A program's row of the results."""
    return {
        "key": program.key,
        "title": program.title,
        "peak_mb": figures(program.peak_mb, digits=1),
        "wall_s": figures(program.wall_s),
        "processor_s": figures(program.processor_s),
        "at_most_mb": BARS_MB.get(program.key),
    }


def ratios(ran: Sequence[Program]) -> list[dict[str, Any]]:
    """Ratios of the median peaks and wall times, ours to theirs."""
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


def main() -> None:
    """Measures and writes the results."""
    parser = benchmark_parser(
        "benchmarks.memory", "Peak memory and cold start.", "--work", "--model", "--optimum", "--python-peers",
        "--int8", "--threads", results="memory", runs=RUNS,
    )  # fmt: skip
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.memory", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    variables = environment(arguments.work, arguments.threads)
    floor = floor_mb()
    ran, left_out = run_in_turns(programs(arguments, subject), arguments.runs, variables, show)
    for title, reason in left_out.items():
        print(f"left out: {title}: {reason}", file=sys.stderr)
    results = {
        **head,
        "model": subject["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "floor_mb": round(floor, 1),
        "rows": [row(program) for program in ran],
        "ratios": ratios(ran),
        "left_out": absent(left_out),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
