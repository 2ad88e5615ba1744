"""`detr-onnx bench`: how long each engine takes here and how much memory, beside others that run the same model."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detr_onnx import __version__
from detr_onnx.bench.cases import PEERS, BenchmarkCase, beside, our_own
from detr_onnx.bench.interleave import Contender, interleaved, started
from detr_onnx.bench.processes import Program, in_turns
from detr_onnx.bench.report import ratios_of, rows_of, text_of
from detr_onnx.bench.setting import environment, setting, without_place
from detr_onnx.cli.console import check_place, progress, tell, write
from detr_onnx.errors import EngineError, ImageError, UsageError
from detr_onnx.models.open import demo_image, locate

RUNS, WARM_UP = 10, 2
MOST_LONG_RUNS = 5  # of whole processes and of throughput, which takes a dozen images a turn
OPTIONS = ("model", "engine", "providers", "precision", "size", "config", "offline", "cache_dir")

Show = Callable[[int, str], None]


def measure(arguments: Namespace) -> int:
    """Measures, writes and tells."""
    runs = arguments.runs if arguments.runs is not None else RUNS
    peers = check_usage(arguments)
    image = arguments.image if arguments.image is not None else demo_image()
    if not image.is_file():
        raise ImageError(f"cannot read {image}", found="no such file", remedy="check the path")
    threads = arguments.threads or os.cpu_count() or 1
    options = {name: getattr(arguments, name) for name in OPTIONS} | {"threads": threads}
    options["config"] = str(arguments.config) if arguments.config is not None else None
    some = [*our_own(options, image), *_others(arguments, peers, image, threads)]
    results = {
        **setting("detr-onnx", arguments.words),
        "version": __version__,
        "model": without_place(arguments.model),
        "image": image.name,
        "threads": threads,
        "runs": runs,
    }
    try:
        results |= _measured(some, runs, environment(threads), arguments.engine != "auto")
    except RuntimeError as error:
        remedy = "leave it out, or see that it can run the model by itself"
        raise EngineError("a contender failed while it was measured", found=str(error), remedy=remedy) from error
    if arguments.json is not None:
        write(arguments.json, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    tell(text_of(results))
    return 0


def check_usage(arguments: Namespace) -> list[str]:
    """The peers asked for; raises what is wrong with the options before anything is started."""
    if os.name != "posix":
        raise EngineError("bench measures processes as Linux and macOS do", found=os.name, remedy="run it there")
    for name in ("runs", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} is wrong", found=str(value), expected="a number from 1 up")
    peers = [peer.strip() for peer in arguments.against.split(",")] if arguments.against is not None else []
    if unknown := [peer for peer in peers if peer not in PEERS]:
        expected = f"some of {', '.join(PEERS)}"
        raise UsageError("--against names no peer", found=", ".join(map(repr, unknown)), expected=expected)
    if arguments.json is not None:
        check_place(arguments.json)
    return list(dict.fromkeys(peers))


def _others(arguments: Namespace, peers: Sequence[str], image: Path, threads: int) -> list[BenchmarkCase]:
    if not peers:
        return []
    source = locate(arguments.model, offline=arguments.offline, cache_dir=arguments.cache_dir)
    python, graph = arguments.peers_python or sys.executable, arguments.optimum
    return [one for peer in peers for one in beside(peer, source, image, threads, python, graph)]


def _measured(some: Sequence[BenchmarkCase], runs: int, surroundings: dict[str, str], strict: bool) -> dict[str, Any]:
    """Rows, ratios and who was left out; who was asked for by name and cannot is an error."""
    long_runs = min(runs, MOST_LONG_RUNS)
    turns = len(some) * (runs + WARM_UP + 2 * long_runs + 2)
    by_key = {one.key: one for one in some}
    with progress(turns) as show:
        count = _counted(show)
        with started([one.entry(one.parts) for one in some], surroundings) as (latencies, left_out):
            _check_present(some, latencies, left_out, strict)
            interleaved(latencies, runs, WARM_UP, count)
        able = [by_key[one.entry.key] for one in latencies]
        crowds = [one.entry(one.throughput) for one in able if one.throughput is not None]
        with started(crowds, surroundings) as (throughputs, _):
            interleaved(throughputs, long_runs, 1, count)
        programs = [one.program(one.whole) for one in able if one.whole is not None]
        wholes: list[Program]
        wholes, failed = in_turns(programs, long_runs, surroundings, count)
    theirs = [one.key for one in some if one.peer is not None]
    rows = rows_of(latencies, throughputs, wholes)
    return {"rows": rows, "ratios": ratios_of(latencies, theirs), "left_out": left_out | failed}


def _counted(show: Show) -> Show:
    """Numbers what is done from the first to the last, whatever number it has in its own round."""
    done = iter(range(1, 1_000_000))
    return lambda _, title: show(next(done), title)


def _check_present(
    some: Sequence[BenchmarkCase], there: Sequence[Contender], left_out: dict[str, str], strict: bool
) -> None:
    """Raises EngineError when a peer that was asked for, or the one engine, cannot take part, or nobody of ours can."""
    present = {one.entry.key for one in there}
    for group in dict.fromkeys(one.peer for one in some):
        lacking = [one for one in some if one.peer == group and one.key not in present]
        nobody = len(lacking) == sum(one.peer == group for one in some)
        if nobody or (strict and group is None and lacking):
            first = lacking[0]
            remedy = "name an interpreter that has torch and transformers with --peers-python"
            raise EngineError(
                f"{first.title} cannot take part",
                found=left_out[first.title],
                remedy=remedy if group == "transformers" else None,
            )
