"""What each precision of `detr-onnx export` costs: time of the network, size of the file, peak memory of a process.

    python -m benchmarks.precisions [--optimum DIR] [--runs 15]

For each precision there is one file for ONNX Runtime (attention as one node) and one for OpenVINO. Times are measured
in turns as in `latency.py`, peaks of `detect` as in `memory.py`. int8 is calibrated with the one photograph, since
speed does not depend on the ranges; `detr-onnx export` decides whether int8 is accurate enough.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, child_json, positive, run_main, write_results
from benchmarks.latency import RUNS, Ratios, measured_rows, optimum_files
from benchmarks.memory import row as memory_row
from benchmarks.setting import environment, show
from detr_onnx.bench.interleave import Entry, baseline_command, our_command
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting

PRECISIONS = ("fp32", "fp16-weights", "int8-weights", "int8")
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
COMPUTED_IN: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "onnxruntime": (("", "", None),),
    "openvino": (
        ("", "", "fp32"),
        ("-mixed", ", the rest in bf16-mixed", "bf16-mixed"),
        ("-bf16", ", the rest in bf16", "bf16"),
    ),
}
"""Engine -> ends of key and title, and the requested precision, which applies to what is not int8."""

METHOD = "minmax"
MEMORY_RUNS = 5
MB_AT_MOST, PEAK_AT_MOST = 50, 0.6
RATIOS: Ratios = (
    *(("network", f"onnxruntime-{kind}", "onnxruntime-fp32", None) for kind in PRECISIONS[1:-1]),
    ("network", "onnxruntime-int8", "onnxruntime-fp32", 0.5),
    *(("network", f"openvino-{kind}", "openvino-fp32", None) for kind in PRECISIONS[1:]),
    ("network", "openvino-int8", "openvino-dynamic", None),
    ("network", "openvino-int8-mixed", "openvino-dynamic", 0.75),
    ("network", "openvino-int8-bf16", "openvino-dynamic", None),
)


def write_files(work: Path, model: Path | None) -> dict[str, str]:
    """Writes every file and returns their paths by name; it runs in its own process, since it needs much memory."""
    from benchmarks.subject import subject
    from detr_onnx.exporter.calibrate import find_quant_params
    from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
    from detr_onnx.models.metadata import read_model

    measured = subject(work, model)
    directory = work / "precisions"
    directory.mkdir(exist_ok=True)
    model_and_preprocessing = read_model(measured.model)
    quant_params = find_quant_params(model_and_preprocessing, [measured.photograph], METHOD)
    paths = {"title": measured.title, "pixels": str(measured.pixels), "photograph": str(measured.photograph)}
    for engine in TITLES:
        for kind in PRECISIONS:
            file = directory / f"{engine}-{kind}.onnx"
            ranges = quant_params if kind == "int8" else {}
            fused = engine == "onnxruntime"
            options = ExportOptions(precision=kind, fused_attention=fused, quant_params=ranges)
            write_onnx(file, *model_and_preprocessing, options)
            paths[file.stem] = str(file)
    return paths


def entries(paths: dict[str, str], optimum: Path | None, threads: int) -> list[Entry]:
    """The contenders in the order of their turns."""
    shared = {"pixels": paths["pixels"], "threads": threads}
    mine = [
        Entry(f"{engine}-{kind}{key_end}", f"{title}, {kind}{title_end}", our_command("network", shared | own))
        for engine, title in TITLES.items()
        for kind in PRECISIONS
        for key_end, title_end, precision in COMPUTED_IN[engine]
        for own in ({"model": paths[f"{engine}-{kind}"], "engine": engine, "precision": precision},)
        if kind == "int8" or not key_end
    ]
    stock = [
        Entry(
            f"openvino-{name}",
            f"optimum's export, OpenVINO, {name}",
            baseline_command(sys.executable, "openvino-network", shared | {"graph": str(graph)}),
        )
        for name, graph in optimum_files(optimum).items()
    ]
    return [*mine, *stock]


def peaks(paths: dict[str, str], arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Peak memory of `detect` with ONNX Runtime, in megabytes, by key of the file; and why some are missing."""
    options = ["--engine", "onnxruntime", "--threads", str(arguments.threads)]
    detect = [sys.executable, "-m", "detr_onnx", "detect", paths["photograph"], *options, "-m"]
    programs = [Program(f"onnxruntime-{kind}", kind, (*detect, paths[f"onnxruntime-{kind}"])) for kind in PRECISIONS]
    variables = environment(arguments.work, arguments.threads)
    ran, left_out = run_in_turns(programs, arguments.memory_runs, variables, show)
    missing = {f"peak memory of {title}": reason for title, reason in left_out.items()}
    return {program.key: memory_row(program)["peak_mb"] for program in ran}, missing


def main() -> None:
    """Measures and writes the results; with --write, as a child process, only writes the files."""
    parser = benchmark_parser(
        "benchmarks.precisions", "What each precision costs.", "--work", "--model", "--optimum", "--threads",
        "--warm-up", "--pause", results="precisions", runs=RUNS,
    )  # fmt: skip
    parser.add_argument("--memory-runs", type=positive, default=MEMORY_RUNS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        print(json.dumps(write_files(arguments.work, arguments.model)))
        return
    head = setting("python -m benchmarks.precisions", sys.argv[1:])
    command = [sys.executable, "-m", "benchmarks.precisions", "--write", *sys.argv[1:]]
    paths = child_json(command)
    peak_mb, no_peaks = peaks(paths, arguments)
    measured = measured_rows(entries(paths, arguments.optimum, arguments.threads), arguments, RATIOS)
    for row in measured["rows"]:
        file = Path(paths.get(row["key"], ""))
        row["mb"] = round(file.stat().st_size / 1e6, 1) if file.suffix else None
        row["peak_mb"] = peak_mb.get(row["key"])
    results = {
        **head,
        "model": paths["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "mb_at_most": MB_AT_MOST,
        "peak_at_most": PEAK_AT_MOST,
        **measured,
        "left_out": [*absent(no_peaks), *measured["left_out"]],
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
