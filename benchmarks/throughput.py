"""Images a second with one, two and four images at a time: our engines and transformers.

    python -m benchmarks.throughput [--python-peers .venv-peers/bin/python] [--runs 5]

A warm `Detector`, or pipeline, in its own process, called from as many threads. Contenders take turns as for latency;
each turn is four images for each number of threads.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.command import absent, benchmark_parser, run_main, write_results
from benchmarks.latency import EAGER, TITLES, title_of
from benchmarks.setting import environment, show
from benchmarks.subject import Subject, subject
from detr_onnx.bench.interleave import Contender, Entry, baseline_command, our_command, run_contenders
from detr_onnx.bench.report import rate
from detr_onnx.bench.setting import setting

WARM_UP, RUNS = 1, 5


def entries(measured: Subject, python_peers: str | None, threads: int) -> list[Entry]:
    """The contenders in the order of their turns."""
    options = {"model": str(measured.model), "image": str(measured.photograph), "threads": threads}
    engines = [
        Entry(engine, f"ours, {title}", our_command("throughput", options | {"engine": engine}))
        for engine, title in TITLES.items()
    ]
    pipeline = Entry("transformers", f"{EAGER}, pipeline", baseline_command(python_peers or "", "throughput", options))
    return [*engines, *([pipeline] if python_peers else [])]


def row(contender: Contender) -> dict[str, Any]:
    """A contender's row of the results: images a second by the number of images at a time."""
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
    shared = ("--work", "--model", "--python-peers", "--threads")
    parser = benchmark_parser("benchmarks.throughput", "Images a second.", *shared, results="throughput", runs=RUNS)
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.throughput", sys.argv[1:])
    measured = subject(arguments.work, arguments.model)
    contestants = entries(measured, arguments.python_peers, arguments.threads)
    variables = environment(arguments.work, arguments.threads)
    contenders, left_out = run_contenders(contestants, variables, arguments.runs, WARM_UP, show)
    results = {
        **head,
        "model": measured.title,
        "threads": arguments.threads,
        "runs": arguments.runs,
        "rows": [row(contender) for contender in contenders],
        "left_out": absent(left_out),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
