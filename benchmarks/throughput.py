"""Images a second when one, two and four are asked for at a time: ours, engine by engine, beside transformers.

    python -m benchmarks.throughput [--python-peers .venv-peers/bin/python] [--runs 5]

A warm `Detector`, or pipeline, in a process of its own, asked by as many threads; the contenders take turns as for
latency, and each turn is four images for each number of threads.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.latency import EAGER, TITLES, title_of
from benchmarks.setting import environment, show
from benchmarks.subject import Subject, add_arguments, subject
from detr_onnx.bench.interleave import Contender, Entry, baseline_command, our_command, run_interleaved, start_all
from detr_onnx.bench.report import rate
from detr_onnx.bench.setting import setting

RESULTS = Path(__file__).parent / "results" / "throughput.json"
WARM_UP, RUNS = 1, 5


def entries(measured: Subject, python_peers: str | None, threads: int) -> list[Entry]:
    """Who takes part, in the order of the turns."""
    given = {"model": str(measured.model), "image": str(measured.photograph), "threads": threads}
    wanted = [
        Entry(engine, f"ours, {title}", our_command("throughput", given | {"engine": engine}))
        for engine, title in TITLES.items()
    ]
    pipeline = Entry("transformers", f"{EAGER}, pipeline", baseline_command(python_peers or "", "throughput", given))
    return [*wanted, *([pipeline] if python_peers else [])]


def row(contender: Contender) -> dict[str, Any]:
    """A contender's part of the results; images a second by the number asked for at a time."""
    rates = {count: rate(seconds) for count, seconds in contender.seconds.items()}
    return {
        "key": contender.entry.key,
        "title": title_of(contender),
        "runs_on": contender.runs_on,
        "versions": contender.versions,
        "images_per_s": rates,
    }


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description="Images a second.")
    add_arguments(parser)
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--threads", type=int, default=2, help="of one operation, of every contender (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"turns of each that count (default: {RUNS})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.throughput", sys.argv[1:])
    measured = subject(arguments.work, arguments.model)
    wanted = entries(measured, arguments.python_peers, arguments.threads)
    with start_all(wanted, environment(arguments.work, arguments.threads)) as (contenders, left_out):
        run_interleaved(contenders, arguments.runs, WARM_UP, show)
    results = {
        **head,
        "model": measured.title,
        "threads": arguments.threads,
        "runs": arguments.runs,
        "rows": [row(contender) for contender in contenders],
        "left_out": [{"title": title, "why": why} for title, why in left_out.items()],
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
