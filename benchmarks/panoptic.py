"""Panoptic segmentation beside our own detection and transformers: time and memory by the number of kept queries.

    python -m benchmarks.panoptic [--python-peers .venv-peers/bin/python] [--runs 7]

Each of our engines goes from a file to its segments with thresholds that keep exactly 0, 1, 10 and 30 queries, and from
the same file to the detections of a model without a mask head. These take turns (`detr_onnx/bench/interleave.py`), one
engine after the other. Transformers, which computes the masks of all queries whatever the threshold, runs alone, since
it needs 13 GB. Peak memory is that of a whole process with one image, as in `memory.py`; like that program, this one
must not import anything heavy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.command import absent, benchmark_parser, child_json, listed, parse_arguments, run_main, write_results
from benchmarks.setting import environment, show
from detr_onnx.bench.interleave import Entry, baseline_command, our_command, run_contenders
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio

RUNS, MEMORY_RUNS = 7, 2
KEPT = (0, 1, 10, 30)
KEPT_IN_MEMORY = (10, 30)
KEPT_BY_TRANSFORMERS = 10
RATIO_AT_MOST, PEAK_AT_MOST_MB = 1.5, 700  # with ten kept queries
TITLES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "numpy": "numpy"}
TRANSFORMERS = "transformers, PyTorch eager"
SUBJECT = """
import json, sys
from pathlib import Path
from benchmarks.subject import panoptic_subject
detection, panoptic, photograph, title = panoptic_subject(Path(sys.argv[1]))
print(json.dumps({"detection": str(detection), "panoptic": str(panoptic), "image": str(photograph), "title": title}))
"""
"""A program that creates the files and prints their paths; this process has to stay small."""


def subject_paths(arguments: argparse.Namespace) -> dict[str, str]:
    """Paths of both models and the image, and a title."""
    command = [sys.executable, "-c", SUBJECT, str(arguments.work)]
    paths: dict[str, str] = child_json(command)
    return paths


def our_entries(engine: str, paths: Mapping[str, str], threads: int, kept: Sequence[int]) -> list[Entry]:
    """The panoptic model and the detection model on one engine."""
    options = {"image": paths["image"], "engine": engine, "threads": threads}
    panoptic = options | {"model": paths["panoptic"], "kept": kept}
    return [
        Entry("panoptic", TITLES[engine], our_command("panoptic", panoptic)),
        Entry(
            "detection", f"{TITLES[engine]}, detection", our_command("detect", options | {"model": paths["detection"]})
        ),
    ]


def measured(entries: Sequence[Entry], runs: int, warm_up: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Key -> runtime and seconds by part; or the error of the first that cannot run."""
    variables = environment(arguments.work, arguments.threads)
    contenders, left_out = run_contenders(entries, variables, runs, warm_up, show, arguments.pause)
    if left_out:
        return {"error": next(iter(left_out.values()))}
    return {c.entry.key: {"runs_on": c.runs_on, "versions": c.versions, "seconds": c.seconds} for c in contenders}


def our_rows(engine: str, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for detection and for each number of kept queries, with the time relative to detection."""
    detection, panoptic = results["detection"], results["panoptic"]
    base = detection["seconds"]["detect"]
    head = {"engine": engine, "title": f"ours, {TITLES[engine]}", "runs_on": panoptic["runs_on"]}
    rows = [{**head, "kept": None, "ms": figures(base, 1000)}]
    for kept in KEPT:
        seconds = panoptic["seconds"][str(kept)]
        rows.append({**head, "kept": kept, "ms": figures(seconds, 1000), "relative": ratio(seconds, base)})
    return rows


def their_rows(paths: Mapping[str, str], arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Transformers' rows, its detection first, and why they are missing."""
    if not arguments.python_peers:
        return [], {TRANSFORMERS: "no --python-peers"}
    options = {"image": paths["image"], "threads": arguments.threads, "kept": KEPT_BY_TRANSFORMERS}
    rows: list[dict[str, Any]] = []
    for kind, model, runs, kept in (("eager-parts", "detection", 3, None), ("panoptic", "panoptic", 1, "any")):
        command = baseline_command(arguments.python_peers, kind, options | {"model": paths[model]})
        results = measured(
            [Entry("theirs", f"{TRANSFORMERS}, {model}", command)], runs, 1 if kept is None else 0, arguments
        )
        if "error" in results:
            return rows, {TRANSFORMERS: results["error"]}
        ms = figures(results["theirs"]["seconds"]["detect"], 1000)
        head = {"engine": "transformers", "title": TRANSFORMERS, "runs_on": results["theirs"]["runs_on"]}
        relative = {} if kept is None else {"relative": {"median": round(ms["median"] / rows[0]["ms"]["median"], 2)}}
        rows.append({**head, "kept": kept, "ms": ms, **relative})
    return rows, {}


def programs(paths: Mapping[str, str], arguments: argparse.Namespace) -> list[Program]:
    """The whole processes whose memory is measured, by engine and number of kept queries."""
    ran = []
    for engine in arguments.engines:
        for kept in KEPT_IN_MEMORY:
            entry = our_entries(engine, paths, arguments.threads, [kept])[0]
            ran.append(Program(f"{engine}/{kept}", f"{entry.title}, {kept} kept", (*entry.command, "once")))
        entry = our_entries(engine, paths, arguments.threads, [])[1]
        ran.append(Program(f"{engine}/None", entry.title, (*entry.command, "once")))
    return ran


def their_programs(paths: Mapping[str, str], arguments: argparse.Namespace) -> list[Program]:
    """Transformers' process, which runs a single time."""
    options = {"image": paths["image"], "threads": arguments.threads, "kept": KEPT_BY_TRANSFORMERS}
    command = baseline_command(arguments.python_peers, "panoptic", options | {"model": paths["panoptic"]})
    return [Program("transformers/any", TRANSFORMERS, (*command, "once"))]


def peaks(paths: Mapping[str, str], arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Peak memory by engine and number of kept queries, and why some are missing."""
    variables = environment(arguments.work, arguments.threads)
    ran, left_out = run_in_turns(programs(paths, arguments), MEMORY_RUNS, variables, show)
    if arguments.python_peers:
        for program in their_programs(paths, arguments):
            theirs, missing = run_once(program, variables)
            ran, left_out = [*ran, *theirs], {**left_out, **missing}
    return {program.key: figures(program.peak_mb, digits=1) for program in ran}, left_out


def run_once(program: Program, variables: Mapping[str, str]) -> tuple[list[Program], dict[str, str]]:
    """As `run_in_turns`, without the round that is not recorded."""
    from detr_onnx.bench.processes import run

    show(1, program.title)
    try:
        run(program, variables)
    except (OSError, RuntimeError) as error:
        return [], {program.title: str(error)}
    return [program], {}


def main() -> None:
    """Measures and writes the results."""
    parser = benchmark_parser(
        "benchmarks.panoptic", "Panoptic segmentation, ours and transformers'.", "--work", "--python-peers",
        "--threads", "--warm-up", "--pause", results="panoptic", runs=RUNS,
    )  # fmt: skip
    parser.add_argument("--engines", default=",".join(TITLES), type=listed(*TITLES), metavar="NAME,…",
                        help="of ours (default: %(default)s)")  # fmt: skip
    arguments = parse_arguments(parser, "engines")
    head, paths = setting("python -m benchmarks.panoptic", sys.argv[1:]), subject_paths(arguments)
    memory, left_out = peaks(paths, arguments)
    rows: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for engine in arguments.engines:
        results = measured(
            our_entries(engine, paths, arguments.threads, KEPT), arguments.runs, arguments.warm_up, arguments
        )
        if "error" in results:
            left_out[TITLES[engine]] = results["error"]
        else:
            rows += our_rows(engine, results)
            versions |= results["panoptic"]["versions"]
    theirs, missing = their_rows(paths, arguments)
    rows += theirs
    for row in rows:
        row["peak_mb"] = memory.get(f"{row['engine']}/{row['kept']}")
    results = {
        **head,
        "model": paths["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "versions": versions,
        "bars": {"relative": RATIO_AT_MOST, "peak_mb": PEAK_AT_MOST_MB, "kept": 10},
        "rows": rows,
        "left_out": absent(left_out | missing),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
