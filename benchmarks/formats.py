"""Size on disk and memory of one model, by the kind of file it is exported to.

    python -m benchmarks.formats [--runs 3]

`detr-onnx export` writes each file, and each run is a whole `detr-onnx detect --engine onnxruntime`. Peak resident
memory is measured as in `memory.py` and includes mapped files, whose pages processes share and the system may drop.
Private memory is what a process has allocated once an image is done. Times are not recorded: see `latency.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, run_main, write_results
from benchmarks.memory import subject_paths
from benchmarks.setting import environment, show
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures

RUNS = 3
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "one.onnx": ("one .onnx file", ()),
    "external.onnx": (".onnx with `--external-data`", ("--external-data",)),
    "mapped.ort": (".ort, mapped", ()),
}
"""File name -> title, and options of `export`."""
PRIVATE_KIB = """
import sys
from detr_onnx import Detector
detector = Detector(sys.argv[1], engine="onnxruntime", threads=int(sys.argv[3]))
detector(sys.argv[2])
print(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
"""
"""A program that detects objects in one image and prints its private memory in KiB."""


def exported(model: str, work: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """The exported files; child processes write them, since this one has to stay small."""
    work.mkdir(parents=True, exist_ok=True)
    for name, (_, options) in FORMATS.items():
        command = [sys.executable, "-m", "detr_onnx", "export", model, "-o", str(work / name), *options]
        subprocess.run(command, check=True, env=environment)
    return {name: work / name for name in FORMATS}


def private_mb(file: Path, image: str, threads: int, environment: Mapping[str, str]) -> float:
    """Private memory of a process after one image."""
    command = [sys.executable, "-c", PRIVATE_KIB, str(file), image, str(threads)]
    output = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    return round(int(output) * 1024 / 1e6, 1)


def row(program: Program, file: Path, private: float) -> dict[str, Any]:
    """A format's row of the results; all its files count."""
    files = [file, *file.parent.glob(f"{file.name}.data")]
    size = sum(part.stat().st_size for part in files)
    peak = figures(program.peak_mb, digits=1)
    return {
        "key": program.key,
        "title": program.title,
        "mb": round(size / 1e6, 1),
        "peak_mb": peak,
        "own_mb": private,
    }


def main() -> None:
    """Exports, measures and writes the results."""
    shared = ("--work", "--model", "--threads")
    parser = benchmark_parser(
        "benchmarks.formats", "Formats on disk and in memory.", *shared, results="formats", runs=RUNS
    )
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.formats", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    variables = environment(arguments.work, arguments.threads)
    files = exported(subject["model"], arguments.work / "formats", variables)
    threads = ["--threads", str(arguments.threads)]
    detect = [sys.executable, "-m", "detr_onnx", "detect", subject["photograph"], "--engine", "onnxruntime", *threads]
    programs = [Program(name, title, (*detect, "-m", str(files[name]))) for name, (title, _) in FORMATS.items()]
    ran, left_out = run_in_turns(programs, arguments.runs, variables, show)
    private = {n: private_mb(file, subject["photograph"], arguments.threads, variables) for n, file in files.items()}
    results = {
        **head,
        "model": subject["title"],
        "versions": versions_of("onnxruntime", "numpy"),
        "threads": arguments.threads,
        "runs": arguments.runs,
        "rows": [row(program, files[program.key], private[program.key]) for program in ran],
        "left_out": absent(left_out),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
