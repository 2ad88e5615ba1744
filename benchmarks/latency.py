"""How long it takes: the network, the preprocessing, and a file to its detections, ours beside the peers'.

    python -m benchmarks.latency [--optimum DIR] [--python-peers .venv-peers/bin/python] [--int8 FILE] [--runs 15]

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

from benchmarks.setting import environment, show
from benchmarks.subject import SHAPE_HW, Subject, add_arguments, subject
from detr_onnx.bench.interleave import (
    PAUSE_S,
    Contender,
    Entry,
    baseline_command,
    our_command,
    run_interleaved,
    start_all,
)
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio

RESULTS = Path(__file__).parent / "results" / "latency.json"
WARM_UP, RUNS = 3, 15
TITLES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "numpy": "numpy"}
EAGER = "transformers, PyTorch eager"
NETWORKS = 3  # of transformers

Row = tuple[str, str, str, Path, str | None]
"""Engine, how its key goes on, title, what it runs, and the precision that it is asked for."""

Ratios = Sequence[tuple[str, str, str, float | None]]
"""Part, ours, theirs, and the bar, at most."""

RATIOS: Ratios = (
    ("network", "ours-onnxruntime-mask", "optimum-dynamic", 0.80),
    ("network", "ours-onnxruntime-mask", "torch", None),
    ("network", "ours-onnxruntime-fixed", "optimum-static", 0.80),
    ("network", "ours-openvino-bf16", "openvino-dynamic", 0.85),
    ("network", "ours-openvino", "openvino-dynamic", None),
    ("network", "ours-openvino", "torch", None),
    ("network", "ours-openvino-int8", "openvino-dynamic", 0.66),
    ("network", "ours-numpy", "torch", 0.90),
    ("network", "ours-numpy", "optimum-dynamic", 1.30),
    ("total", "ours-preprocessing", "transformers-preprocessing", None),
    ("detect", "ours-detect-openvino-int8", "transformers-detect", 0.14),
    ("detect", "ours-detect-openvino-bf16", "transformers-detect", None),
    ("detect", "ours-detect-openvino", "transformers-detect", None),
    ("detect", "ours-detect-onnxruntime", "transformers-detect", None),
    ("detect", "ours-detect-numpy", "transformers-detect", None),
)


def entries(
    measured: Subject, optimum: Path | None, python_peers: str | None, threads: int, int8: Path | None = None
) -> list[Entry]:
    """Who takes part, in the order of the turns; `int8` is a file of the same model."""
    inputs = {"pixels": str(measured.pixels), "image": str(measured.photograph), "threads": threads}
    model, graphs = str(measured.model), measured.graphs
    in_int8: list[Row] = [("openvino", "-int8", "OpenVINO, int8, the rest in bf16", int8, "bf16")] if int8 else []
    networks: list[Row] = [
        ("onnxruntime", "-mask", "onnxruntime, any size, with mask", graphs["mask"], None),
        ("onnxruntime", "-fixed", "onnxruntime, one size", graphs["fixed"], None),
        ("openvino", "", "OpenVINO", graphs["plain"], None),
        ("openvino", "-fp32", "OpenVINO, in fp32", graphs["plain"], "fp32"),
        ("openvino", "-bf16", "OpenVINO, all in bf16", graphs["plain"], "bf16"),
        *in_int8,
        ("numpy", "", "numpy", measured.model, None),
    ]
    detectors: list[Row] = [
        ("onnxruntime", "", "onnxruntime", measured.model, None),
        ("openvino", "", "OpenVINO", measured.model, None),
        ("openvino", "-bf16", "OpenVINO, all in bf16", measured.model, "bf16"),
        *in_int8,
        ("numpy", "", "numpy", measured.model, None),
    ]
    sides = _ours("network", "ours", inputs, networks)
    sides += [
        Entry(
            f"{key}-{name}",
            f"optimum's export, {title}, {name}",
            baseline_command(sys.executable, f"{runtime}-network", inputs | {"graph": str(graph)}),
        )
        for key, runtime, title in (("optimum", "onnxruntime", "onnxruntime"), ("openvino", "openvino", "OpenVINO"))
        for name, graph in optimum_files(optimum).items()
    ]
    given = inputs | {"model": model}
    whole = [Entry("ours-preprocessing", "ours", our_command("preprocessing", given))]
    whole += _ours("detect", "ours-detect", inputs, detectors)
    peers = _transformers(given, python_peers) if python_peers else []
    return [*sides, *peers[:NETWORKS], *whole, *peers[NETWORKS:]]


def _ours(kind: str, prefix: str, inputs: dict[str, Any], rows: Sequence[Row]) -> list[Entry]:
    """Our own, of one of the kinds of `bench/contenders.py`."""
    return [
        Entry(
            f"{prefix}-{engine}{form}",
            f"ours, {title}",
            our_command(kind, inputs | {"model": str(file), "engine": engine, "precision": precision}),
        )
        for engine, form, title, file, precision in rows
    ]


def _transformers(given: dict[str, Any], python: str) -> list[Entry]:
    """Transformers in its ways, those of the network alone first."""
    return [
        Entry(key, title, baseline_command(python, kind, given))
        for key, title, kind in (
            ("torch", EAGER, "eager-network"),
            ("torch-bf16", "transformers, eager under bf16 autocast", "bf16-network"),
            ("torch-compiled", "transformers, torch.compile", "torch.compile-network"),
            ("transformers-preprocessing", "transformers' image processor", "preprocessing"),
            ("transformers-detect", f"{EAGER}, pipeline", "pipeline"),
        )
    ]


def optimum_files(place: Path | None) -> dict[str, Path]:
    """Optimum's graphs by name: a file as it is, or what `export.optimum_export` wrote into a directory."""
    if place is None:
        return {}
    if place.is_file():
        return {"dynamic": place}
    return {name: place / name / "model.onnx" for name in ("dynamic", "static")}


def title_of(contender: Contender) -> str:
    """The contender's title, with bf16 where the engine has chosen that by itself."""
    title = contender.entry.title
    if "bf16" in title or "fp32" in title:
        return title
    chosen = {"bf16": "in bf16", "bf16-backbone": "backbone in bf16"}.get(contender.runs_on.split(", ")[-1])
    return f"{title}, {chosen}" if chosen else title


def row(contender: Contender) -> dict[str, Any]:
    """A contender's part of the results; milliseconds."""
    return {
        "key": contender.entry.key,
        "title": title_of(contender),
        "runs_on": contender.runs_on,
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
    with start_all(wanted, environment(arguments.work, arguments.threads)) as (contenders, left_out):
        for title, why in left_out.items():
            print(f"left out: {title}: {why}", file=sys.stderr)
        run_interleaved(contenders, arguments.runs, arguments.warm_up, show, arguments.pause)
    absent = [{"title": title, "why": why} for title, why in left_out.items()]
    return {
        "rows": [row(contender) for contender in contenders],
        "ratios": ratios(contenders, compared),
        "left_out": absent,
    }


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description="Latency, ours and the peers'.")
    add_arguments(parser)
    parser.add_argument("--optimum", type=Path, metavar="PATH", help="a file or directory of export.optimum_export")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--int8", type=Path, metavar="FILE", help="the same model as an int8 file for OpenVINO")
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
    wanted = entries(measured, arguments.optimum, arguments.python_peers, arguments.threads, arguments.int8)
    if arguments.only:
        wanted = [entry for entry in wanted if entry.key.startswith(tuple(arguments.only.split(",")))]
    results = {
        **setting("python -m benchmarks.latency", sys.argv[1:]),
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
