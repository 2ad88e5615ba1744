"""How long it takes: the network, the preprocessing, and a file to its detections, ours beside the peers'.

    python -m benchmarks.latency [--optimum DIR] [--python-peers .venv-peers/bin/python] [--runs 15]

Every contender is loaded once, in a process and an environment of its own; then they take turns (`turns.py`), so that
whatever else the machine does falls on all alike. Figures are medians with p10 and p90; ratios are taken round by
round. Peers that are not there are left out, and the results say so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.setting import environment, setting
from benchmarks.subject import SHAPE_HW, Subject, add_arguments, subject
from benchmarks.timings import figures, ratio
from benchmarks.turns import PAUSE_S, Contender, Entry, interleaved, start, stop

RESULTS = Path(__file__).parent / "results" / "latency.json"
WARM_UP, RUNS = 3, 15

Ratios = Sequence[tuple[str, str, str, float | None]]
"""Part, ours, theirs, and the bar, at most."""

RATIOS: Ratios = (
    ("network", "ours-onnxruntime-mask", "optimum-dynamic", 0.80),
    ("network", "ours-onnxruntime-mask", "torch", None),
    ("network", "ours-onnxruntime-fixed", "optimum-static", 0.80),
    ("network", "ours-openvino", "openvino-dynamic", 0.85),
    ("network", "ours-openvino", "torch", None),
    ("network", "ours-numpy", "torch", 0.90),
    ("network", "ours-numpy", "optimum-dynamic", 1.30),
    ("total", "ours-preprocessing", "transformers-preprocessing", None),
    ("detect", "ours-detect-openvino", "transformers-detect", 0.14),
    ("detect", "ours-detect-onnxruntime", "transformers-detect", None),
    ("detect", "ours-detect-numpy", "transformers-detect", None),
)


def entries(measured: Subject, optimum: Path | None, python_peers: str | None) -> list[Entry]:
    """Who takes part, in the order of the turns."""
    pixels, photograph, model, graphs = measured.pixels, measured.photograph, measured.model, measured.graphs
    ours = [
        Entry(f"ours-onnxruntime-{name}", f"ours, onnxruntime, {form}", "ours-onnxruntime", graphs[name], pixels)
        for name, form in (("mask", "any size, with mask"), ("fixed", "one size"))
    ]
    ours.append(Entry("ours-openvino", "ours, OpenVINO", "ours-openvino", graphs["plain"], pixels))
    ours.append(Entry("ours-numpy", "ours, numpy", "ours-numpy", model, pixels))
    theirs = [
        Entry(f"optimum-{name}", f"optimum's export, onnxruntime, {name}", "stock-onnxruntime", graph, pixels)
        for name, graph in optimum_files(optimum).items()
    ]
    theirs += [
        Entry(f"openvino-{name}", f"optimum's export, OpenVINO, {name}", "stock-openvino", graph, pixels)
        for name, graph in optimum_files(optimum).items()
    ]
    whole = [
        Entry("ours-preprocessing", "ours", "ours-preprocessing", model, photograph),
        Entry("ours-detect-onnxruntime", "ours, onnxruntime", "ours-detect-onnxruntime", model, photograph),
        Entry("ours-detect-openvino", "ours, OpenVINO", "ours-detect-openvino", model, photograph),
        Entry("ours-detect-numpy", "ours, numpy", "ours-detect-numpy", model, photograph),
    ]
    if python_peers:
        eager, processor, detect = "transformers, PyTorch eager", "transformers-preprocessing", "transformers-detect"
        theirs.append(Entry("torch", eager, "transformers-network", model, pixels, python_peers))
        compiled = "transformers, torch.compile"
        theirs.append(Entry("torch-compiled", compiled, "transformers-compiled", model, pixels, python_peers))
        whole.append(Entry(processor, "transformers' image processor", processor, model, photograph, python_peers))
        whole.append(Entry(detect, f"{eager}, pipeline", detect, model, photograph, python_peers))
    return [*ours, *theirs, *whole]


def optimum_files(place: Path | None) -> dict[str, Path]:
    """Optimum's graphs by name: a file as it is, or what `export.optimum_export` wrote into a directory."""
    if place is None:
        return {}
    if place.is_file():
        return {"dynamic": place}
    return {name: place / name / "model.onnx" for name in ("dynamic", "static")}


def row(contender: Contender) -> dict[str, Any]:
    """A contender's part of the results; milliseconds."""
    return {
        "key": contender.entry.key,
        "title": contender.entry.title,
        "versions": contender.versions,
        "spun_ms": round(1000 * contender.spun_s / max(map(len, contender.seconds.values())), 1),
        "ms": {part: figures(seconds, 1000) for part, seconds in contender.seconds.items()},
    }


def ratios(contenders: Sequence[Contender], wanted: Ratios) -> list[dict[str, Any]]:
    """Those whose both sides took part."""
    by_key = {contender.entry.key: contender.seconds for contender in contenders}
    return [
        {"part": part, "ours": ours, "theirs": theirs, "at_most": bar, "ratio": ratio(mine[part], by_key[theirs][part])}
        for part, ours, theirs, bar in wanted
        if (mine := by_key.get(ours)) and theirs in by_key
    ]


def measured_rows(wanted: Sequence[Entry], arguments: argparse.Namespace, compared: Ratios = RATIOS) -> dict[str, Any]:
    """Rows, ratios and who was left out."""
    threads = arguments.threads
    surroundings = environment(arguments.work, threads)
    started = [(entry, start(entry, surroundings, threads)) for entry in wanted]
    contenders = [found for _, found in started if isinstance(found, Contender)]
    left_out = [{"title": entry.title, "why": found} for entry, found in started if isinstance(found, str)]
    for absent in left_out:
        print(f"left out: {absent['title']}: {absent['why']}", file=sys.stderr)
    try:
        interleaved(contenders, arguments.runs, arguments.warm_up, arguments.pause)
    finally:
        stop(contenders)
    return {
        "rows": [row(contender) for contender in contenders],
        "ratios": ratios(contenders, compared),
        "left_out": left_out,
    }


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description="Latency, ours and the peers'.")
    add_arguments(parser)
    parser.add_argument("--optimum", type=Path, metavar="PATH", help="a file or directory of export.optimum_export")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"turns of each that count (default: {RUNS})")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help=f"turns before them (default: {WARM_UP})")
    parser.add_argument("--pause", type=float, default=PAUSE_S, metavar="S", help=f"between turns (default: {PAUSE_S})")
    parser.add_argument("--only", metavar="A,B", help="only contenders whose keys begin so")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Measures and writes the results."""
    arguments = arguments_parser().parse_args()
    measured = subject(arguments.work, arguments.model)
    wanted = entries(measured, arguments.optimum, arguments.python_peers)
    if arguments.only:
        wanted = [entry for entry in wanted if entry.key.startswith(tuple(arguments.only.split(",")))]
    results = {
        **setting("benchmarks.latency", sys.argv[1:]),
        "model": measured.title,
        "input": f"{SHAPE_HW[0]}x{SHAPE_HW[1]}",
        "threads": arguments.threads,
        "runs": arguments.runs,
        **measured_rows(wanted, arguments),
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
