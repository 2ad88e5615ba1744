"""What one model costs on disk and in memory, by the kind of file it is exported as.

    python -m benchmarks.formats [--runs 3]

Each file is what `detr-onnx export` writes; each run is a whole `detr-onnx detect --engine onnxruntime`, its peak
resident set counted as in `memory.py`, mapped files included: those pages are shared between processes, and the system
may take them back. What is a process's own is what it has anonymously once an image is done. Times are not kept:
`latency.py` is for those.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.memory import subject_place
from benchmarks.setting import environment, show
from detr_onnx.bench.baselines import versions_of
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures

RESULTS = Path(__file__).parent / "results" / "formats.json"
RUNS = 3
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "one.onnx": ("one .onnx file", ()),
    "external.onnx": (".onnx with `--external-data`", ("--external-data",)),
    "mapped.ort": (".ort, mapped", ()),
}
"""File, title, and the words that make `export` write it."""
OWN = """
import sys
from detr_onnx import Detector
detector = Detector(sys.argv[1], engine="onnxruntime", threads=int(sys.argv[3]))
detector(sys.argv[2])
print(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
"""
"""A program that says how many KiB are its own when it has looked at an image."""


def exported(model: str, work: Path, surroundings: Mapping[str, str]) -> dict[str, Path]:
    """The files, written by children: this process has to stay small."""
    work.mkdir(parents=True, exist_ok=True)
    for name, (_, words) in FORMATS.items():
        command = [sys.executable, "-m", "detr_onnx", "export", model, "-o", str(work / name), *words]
        subprocess.run(command, check=True, env=surroundings)
    return {name: work / name for name in FORMATS}


def own_mb(file: Path, photograph: str, threads: int, surroundings: Mapping[str, str]) -> float:
    """What a process that has looked at one image has of its own."""
    command = [sys.executable, "-c", OWN, str(file), photograph, str(threads)]
    said = subprocess.run(command, check=True, env=surroundings, capture_output=True, text=True).stdout
    return round(int(said) * 1024 / 1e6, 1)


def row(program: Program, file: Path, own: float) -> dict[str, Any]:
    """A format's part of the results; all its files count."""
    files = [file, *file.parent.glob(f"{file.name}.data")]
    size = sum(part.stat().st_size for part in files)
    peak = figures(program.peak_mb, digits=1)
    told = {"key": program.key, "title": program.title, "mb": round(size / 1e6, 1)}
    return {**told, "peak_mb": peak, "own_mb": own}


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description="Formats, on disk and in memory.")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where what is measured is kept")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint; without it, the seeded one")
    parser.add_argument("--threads", type=int, default=2, help="of every program (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each that count (default: {RUNS})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Exports, measures and writes the results."""
    arguments = arguments_parser().parse_args()
    head = setting("python -m benchmarks.formats", sys.argv[1:])
    place = subject_place(arguments.work, arguments.model)
    surroundings = environment(arguments.work, arguments.threads)
    files = exported(place["model"], arguments.work / "formats", surroundings)
    threads = ["--threads", str(arguments.threads)]
    detect = [sys.executable, "-m", "detr_onnx", "detect", place["photograph"], "--engine", "onnxruntime", *threads]
    wanted = [Program(name, title, (*detect, "-m", str(files[name]))) for name, (title, _) in FORMATS.items()]
    ran, left_out = run_in_turns(wanted, arguments.runs, surroundings, show)
    own = {name: own_mb(file, place["photograph"], arguments.threads, surroundings) for name, file in files.items()}
    results = {
        **head,
        "model": place["title"],
        "versions": versions_of("onnxruntime", "numpy"),
        "threads": arguments.threads,
        "runs": arguments.runs,
        "rows": [row(program, files[program.key], own[program.key]) for program in ran],
        "left_out": [{"title": title, "why": why} for title, why in left_out.items()],
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
