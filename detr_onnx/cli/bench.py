"""`detr-onnx bench`: latency, memory and start-up time of each engine here, beside other runtimes of the same model."""

from __future__ import annotations

import itertools
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detr_onnx import __version__
from detr_onnx.arguments import checked_number
from detr_onnx.cli.console import progress
from detr_onnx.cli.options import add_engine_options, add_model, add_source_options, given_options
from detr_onnx.cli.results import check_destination, write_results
from detr_onnx.defaults import BENCH_RUNS
from detr_onnx.errors import EngineError, ImageError, UsageError
from detr_onnx.paths import exists, is_directory, is_file, without_directories

if TYPE_CHECKING:
    from detr_onnx.bench.cases import BenchmarkCase
    from detr_onnx.bench.interleave import LeftOut
    from detr_onnx.models.load import Source

HELP = "measure latency, throughput, memory and start-up time of each engine"
USAGE = "%(prog)s [options]"
WARM_UP_RUNS = 2
MOST_LONG_RUNS = 5  # of whole processes, and of throughput, where one run takes a dozen images
OPTIONS = ("model", "engine", "providers", "precision", "size", "config", "offline", "cache_dir")

Show = Callable[[int, str], None]


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--against", metavar="A,B", help="also measure these: transformers, optimum, openvino")
    add("--peers-python", metavar="PYTHON", help="interpreter that has torch and transformers (default: this one)")
    add("--optimum", type=Path, metavar="FILE", help="optimum's .onnx export of the model, for optimum and openvino")
    add("--image", type=Path, metavar="FILE", help="image to detect in (default: the demo scene)")
    add("--runs", type=int, default=BENCH_RUNS, metavar="N", help="measured runs of each (default: %(default)s)")
    add("--json", type=Path, metavar="FILE",
        help="write all measurements and a description of the machine (- for stdout)")  # fmt: skip
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    from detr_onnx.bench.cases import our_cases
    from detr_onnx.bench.report import format_results
    from detr_onnx.bench.setting import environment, setting, short_path
    from detr_onnx.models.open import demo_image, locate

    peers = check_usage(arguments)
    image = arguments.image if arguments.image is not None else demo_image()
    check_image(image)
    threads = arguments.threads or os.cpu_count() or 1
    options = {name: getattr(arguments, name) for name in OPTIONS} | {"threads": threads}
    options["config"] = str(arguments.config) if arguments.config is not None else None
    source = locate(arguments.model, offline=arguments.offline, cache_dir=arguments.cache_dir)
    cases = [*our_cases(options, image), *peer_cases(arguments, peers, source, image, threads)]
    strict = arguments.engine != "auto"
    results = {
        **setting("detr-onnx", arguments.words),
        "version": __version__,
        "model": short_path(arguments.model),
        "image": image.name,
        "threads": threads,
        "runs": arguments.runs,
        **measure(cases, arguments.runs, environment(threads), strict),
    }
    files = {arguments.json: partial(to_json, results)} if arguments.json is not None else {}
    write_results(format_results(results), files)
    check_present(cases, {row["key"] for row in results["rows"]}, results["left_out"], strict)
    return 0


def to_json(results: Mapping[str, Any]) -> str:
    """The results for a file that others may read: its reasons name no directories of this machine."""
    reasons = {title: without_directories(reason) for title, reason in results["left_out"].items()}
    return json.dumps({**results, "left_out": reasons}, indent=1, ensure_ascii=False) + "\n"


def check_usage(arguments: Namespace) -> list[str]:
    """The peers of `--against`; raises what is wrong with the options before anything is started."""
    from detr_onnx.bench.cases import BASELINES

    if os.name != "posix":
        raise EngineError("bench measures processes with POSIX calls", found=os.name, remedy="run it on Linux or macOS")
    for name in ("runs", "threads", "size"):
        if (value := getattr(arguments, name)) is not None:
            checked_number(f"--{name}", value, "a number from 1 up")
    peers = [peer.strip() for peer in arguments.against.split(",")] if arguments.against is not None else []
    if unknown := [peer for peer in peers if peer not in BASELINES]:
        expected = f"some of {', '.join(BASELINES)}"
        raise UsageError("--against has unknown names", found=", ".join(map(repr, unknown)), expected=expected)
    inputs = (arguments.image, arguments.optimum, arguments.config)
    check_destination(arguments.json, "--json", [arguments.model], *inputs, or_stdout=True)
    given = given_options(arguments, add_arguments)
    readers = {"--optimum": ("optimum", "openvino"), "--peers-python": ("transformers",)}
    for option, names in readers.items():
        if option in given and not {*names} & {*peers}:
            raise UsageError(f"{option} is not used", remedy=f"add --against {','.join(names)}, or leave it out")
    return list(dict.fromkeys(peers))


def check_image(path: Path) -> None:
    """Raises ImageError unless the path is that of an image that can be opened again and again."""
    from detr_onnx.image.decode import read_rgb

    if exists(path) and not is_file(path) and not is_directory(path):
        found, expected = "a pipe or a device", "a file, which is read for every run"
        raise ImageError(f"cannot read {path}", found=found, expected=expected)
    read_rgb(path)


def peer_cases(
    arguments: Namespace, peers: Sequence[str], source: Source, image: Path, threads: int
) -> list[BenchmarkCase]:
    """The benchmark cases of other runtimes."""
    from detr_onnx.bench.cases import baseline_cases

    python, graph = arguments.peers_python or sys.executable, arguments.optimum
    return [case for peer in peers for case in baseline_cases(peer, source, image, threads, python, graph)]


def measure(cases: Sequence[BenchmarkCase], runs: int, surroundings: dict[str, str], strict: bool) -> dict[str, Any]:
    """Rows, ratios, and what was left out with the reason.

    Args:
        cases: what to measure.
        runs: measured runs of each.
        surroundings: environment variables of the measured processes.
        strict: an engine of ours that cannot run is an error, because it was requested by name.

    Raises:
        EngineError: something that was requested cannot run, or nothing ran to the end.
    """
    from detr_onnx.bench.interleave import run_interleaved, start_all
    from detr_onnx.bench.processes import run_in_turns
    from detr_onnx.bench.report import ratio_rows, result_rows

    long_runs = min(runs, MOST_LONG_RUNS)
    by_key = {case.key: case for case in cases}
    with progress(len(cases) * (runs + WARM_UP_RUNS + 2 * long_runs + 2)) as show:
        count = _continuous_count(show)
        with start_all([case.entry(case.parts) for case in cases], surroundings) as (started, left_out):
            check_present(cases, {contender.entry.key for contender in started}, left_out, strict)
            latencies, failed = run_interleaved(started, runs, WARM_UP_RUNS, count)
        left_out |= failed
        if not latencies:
            raise EngineError("every measurement failed", found=_listed(left_out))
        runnable = [by_key[contender.entry.key] for contender in latencies]
        entries = [case.entry(case.throughput) for case in runnable if case.throughput is not None]
        with start_all(entries, surroundings) as (started, not_started):
            throughputs, failed = run_interleaved(started, long_runs, 1, count)
        left_out |= _named(not_started | failed, "several images at a time")
        programs = [case.program(case.whole) for case in runnable if case.whole is not None]
        processes, failed = run_in_turns(programs, long_runs, surroundings, count)
        left_out |= _named(failed, "a whole process")
    peer_keys = [case.key for case in cases if case.baseline is not None]
    rows = result_rows(latencies, throughputs, processes)
    ratios = ratio_rows(latencies, peer_keys)
    return {"long_runs": long_runs, "rows": rows, "ratios": ratios, "left_out": left_out}


def _continuous_count(show: Show) -> Show:
    """Numbers the steps from first to last, whatever number they have within their own phase."""
    numbers = itertools.count(1)
    return lambda _, title: show(next(numbers), title)


def _named(left_out: LeftOut, measurement: str) -> LeftOut:
    return {f"{title}, {measurement}": reason for title, reason in left_out.items()}


def _listed(left_out: LeftOut) -> str:
    return "; ".join(f"{title}: {reason}" for title, reason in left_out.items())


def check_present(cases: Sequence[BenchmarkCase], present: Collection[str], left_out: LeftOut, strict: bool) -> None:
    """Raises EngineError if none of our engines, or nothing of a requested peer or engine, is among the keys."""
    for peer in dict.fromkeys(case.baseline for case in cases):
        absent = [case for case in cases if case.baseline == peer and case.key not in present]
        all_absent = len(absent) == sum(case.baseline == peer for case in cases)
        if all_absent or (strict and peer is None and absent):
            title = absent[0].title
            remedy = "name an interpreter that has torch and transformers with --peers-python"
            raise EngineError(
                f"{title} cannot be measured",
                found=left_out[title],
                remedy=remedy if peer == "transformers" else None,
            )
