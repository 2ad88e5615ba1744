"""Images a second of a job over a folder: `detect -o` beside a loop, `detect`, and transformers' pipeline.

    python -m benchmarks.jobs [--python-peers .venv-peers/bin/python] [--images 40] [--runs 5]

Whole processes run one at a time, in turns, each over a folder of so many photographs and over a folder of one. The
rate is that of the images but the first: what is left when the start is taken off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, run_main, whole_number, write_results
from benchmarks.memory import subject_paths
from benchmarks.setting import environment, show
from benchmarks.subject import PHOTOGRAPH_WH
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.verify.sample_photo import jpeg

RUNS, IMAGES = 5, 40
FEW = "one"  # the folder of one photograph
LOOP = """
import sys
from pathlib import Path
from detr_onnx import Detector
model, engine, threads, folder = sys.argv[1:]
detector = Detector(model, engine=engine, threads=int(threads))
for path in sorted(Path(folder).iterdir()):
    detector(path).to_dicts()
"""
PIPELINE = """
import sys, torch
from pathlib import Path
from transformers import pipeline
model, threads, folder = sys.argv[1:]
torch.set_num_threads(int(threads))
detect = pipeline("object-detection", model=model, device="cpu")
detect.model.float()
for path in sorted(Path(folder).iterdir()):
    detect(str(path), threshold=0.5)
"""
AFRESH = 'rm -rf "$0" && exec "$@"'  # a job that is done would do nothing
LOOP_KEY = "loop"  # what the others are relative to


def commands(arguments: argparse.Namespace, model: str, folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Title and command of each contender for a folder, by its key."""
    threads, engine, python = str(arguments.threads), arguments.engine, sys.executable
    detect = (python, "-m", "detr_onnx", "detect", str(folder), "-m", model, "--engine", engine, "--threads", threads)
    out = str(arguments.work / "jobs-out")
    afresh = ("sh", "-c", AFRESH, out, *detect, "-o", out)
    found = {
        LOOP_KEY: ("`Detector` in a loop", (python, "-c", LOOP, model, engine, threads, str(folder))),
        "detect": ("`detect DIR`", detect),
        "ndjson": ("`detect DIR -o out/`", afresh),
        "parquet": ("`detect DIR -o out/ --format parquet`", (*afresh, "--format", "parquet")),
    }
    if arguments.python_peers:
        command = (arguments.python_peers, "-c", PIPELINE, model, threads, str(folder))
        found["transformers"] = ("transformers, PyTorch eager, pipeline in a loop", command)
    return found


def programs(arguments: argparse.Namespace, model: str) -> list[Program]:
    """Each contender twice: over all photographs, and over one."""
    many, few = folders(arguments.work, arguments.images)
    at_most_one = commands(arguments, model, few)
    both = []
    for key, (title, command) in commands(arguments, model, many).items():
        both += [Program(key, title, command), Program(f"{key}-{FEW}", f"{title}, one", at_most_one[key][1])]
    return both


def folders(work: Path, count: int) -> tuple[Path, Path]:
    """A folder of `count` different photographs, and one of a single photograph."""
    many, few = work / f"photographs-{count}", work / "photographs-1"
    for folder, number in ((many, count), (few, 1)):
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(number):
            path = folder / f"{seed:04d}.jpg"
            if not path.exists():
                path.write_bytes(jpeg(*PHOTOGRAPH_WH, seed))
    return many, few


def without_start(
    ran: Sequence[Program], few: str, more: int
) -> tuple[list[tuple[Program, Program]], dict[str, list[float]]]:
    """Each contender with its run over few images, and by its key the seconds of each of the other images.

    Args:
        ran: the contenders, and those over few images, whose keys end in `few`.
        few: this end of keys.
        more: how many images the others have more.
    """
    by_key = {program.key: program for program in ran}
    pairs = [(p, by_key[f"{p.key}-{few}"]) for p in ran if f"{p.key}-{few}" in by_key]
    return pairs, {p.key: [(a - b) / more for a, b in zip(p.wall_s, f.wall_s, strict=True)] for p, f in pairs}


def rows(ran: Sequence[Program], images: int) -> list[dict[str, Any]]:
    """A row for each contender that ran over both folders."""
    pairs, seconds = without_start(ran, FEW, images - 1)
    loop = seconds.get(LOOP_KEY)
    return [
        {
            "key": program.key,
            "title": program.title,
            "image_ms": figures(seconds[program.key], 1000),
            "images_per_s": per_second(figures(seconds[program.key], digits=6)["median"]),
            "start_s": figures(few.wall_s),
            "peak_mb": figures(program.peak_mb, digits=1),
            "relative_to_loop": ratio(seconds[program.key], loop)["median"] if loop else None,
        }
        for program, few in pairs
    ]


def per_second(seconds: float) -> float | None:
    """The rate of a time; None where noise has hidden it, as with few images."""
    return round(1 / seconds, 3) if seconds > 0 else None


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--model", "--python-peers", "--threads")
    parser = benchmark_parser("benchmarks.jobs", "Images a second of jobs.", *shared, results="jobs", runs=RUNS)
    parser.add_argument(
        "--images", type=whole_number(2), default=IMAGES, metavar="N", help="photographs (default: %(default)s)"
    )
    parser.add_argument("--engine", default="auto", help="of ours (default: %(default)s)")
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.jobs", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    variables = environment(arguments.work, arguments.threads)
    ran, left_out = run_in_turns(programs(arguments, subject["model"]), arguments.runs, variables, show)
    results = {
        **head,
        "model": subject["title"],
        "engine": arguments.engine,
        "threads": arguments.threads,
        "runs": arguments.runs,
        "images": arguments.images,
        "rows": rows(ran, arguments.images),
        "left_out": absent(left_out),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
