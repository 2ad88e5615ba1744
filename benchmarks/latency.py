"""Latency of the network, of preprocessing, and of a file to its detections: ours and peers.

    python -m benchmarks.latency [--optimum DIR] [--python-peers .venv-peers/bin/python] [--int8 FILE] [--runs 15]

Every contender is loaded once, in a process and an environment of its own. Then they take turns
(`detr_onnx/bench/interleave.py`), so that other load affects all alike. Figures are medians with p10 and p90; ratios
are computed round by round. The results name the peers that are not installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, only_some, parse_arguments, run_main, write_results
from benchmarks.setting import environment, show
from benchmarks.subject import SHAPE_HW, Subject, subject
from detr_onnx.bench.interleave import Contender, Entry, baseline_command, our_command, run_contenders
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio

RUNS = 15
TITLES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "numpy": "numpy"}
EAGER = "transformers, PyTorch eager"
TRANSFORMERS_NETWORKS = 3

Row = tuple[str, str, str, Path, str | None]
"""Engine, end of the key, title, model file, and requested precision."""

IN_WORDS = {"bf16": "in bf16", "bf16-mixed": "bf16-mixed", "bf16-backbone": "backbone in bf16"}
"""OpenVINO's precisions in titles."""

Ratios = Sequence[tuple[str, str, str, float | None]]
"""Part, key of ours, key of theirs, and the target: the largest ratio."""

RATIOS: Ratios = (
    ("network", "ours-onnxruntime-mask", "optimum-dynamic", 0.80),
    ("network", "ours-onnxruntime-mask", "torch", None),
    ("network", "ours-onnxruntime-fixed", "optimum-static", 0.80),
    ("network", "ours-openvino-bf16", "openvino-dynamic", 0.85),
    ("network", "ours-openvino", "openvino-dynamic", 1.0),
    ("network", "ours-openvino", "torch", None),
    ("network", "ours-openvino-int8", "openvino-dynamic", 0.75),
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
    """The contenders in the order of their turns; `int8` is a file of the same model."""
    inputs = {"pixels": str(measured.pixels), "image": str(measured.photograph), "threads": threads}
    model, graphs = str(measured.model), measured.graphs
    int8_title = "OpenVINO, int8, the rest in bf16-mixed"
    int8_rows: list[Row] = [("openvino", "-int8", int8_title, int8, "bf16-mixed")] if int8 else []
    networks: list[Row] = [
        ("onnxruntime", "-mask", "onnxruntime, any size, with mask", graphs["mask"], None),
        ("onnxruntime", "-fixed", "onnxruntime, one size", graphs["fixed"], None),
        ("openvino", "", "OpenVINO", graphs["plain"], None),
        ("openvino", "-fp32", "OpenVINO, in fp32", graphs["plain"], "fp32"),
        ("openvino", "-bf16-backbone", "OpenVINO, backbone in bf16", graphs["plain"], "bf16-backbone"),
        ("openvino", "-bf16", "OpenVINO, all in bf16", graphs["plain"], "bf16"),
        *int8_rows,
        ("numpy", "", "numpy", measured.model, None),
    ]
    detectors: list[Row] = [
        ("onnxruntime", "", "onnxruntime", measured.model, None),
        ("openvino", "", "OpenVINO", measured.model, None),
        ("openvino", "-bf16", "OpenVINO, all in bf16", measured.model, "bf16"),
        *int8_rows,
        ("numpy", "", "numpy", measured.model, None),
    ]
    networks_of_all = _ours("network", "ours", inputs, networks)
    networks_of_all += [
        Entry(
            f"{key}-{name}",
            f"optimum's export, {title}, {name}",
            baseline_command(sys.executable, f"{runtime}-network", inputs | {"graph": str(graph)}),
        )
        for key, runtime, title in (("optimum", "onnxruntime", "onnxruntime"), ("openvino", "openvino", "OpenVINO"))
        for name, graph in optimum_files(optimum).items()
    ]
    options = inputs | {"model": model}
    whole = [Entry("ours-preprocessing", "ours", our_command("preprocessing", options))]
    whole += _ours("detect", "ours-detect", inputs, detectors)
    peers = _transformers(options, python_peers) if python_peers else []
    return [*networks_of_all, *peers[:TRANSFORMERS_NETWORKS], *whole, *peers[TRANSFORMERS_NETWORKS:]]


def _ours(kind: str, prefix: str, inputs: dict[str, Any], rows: Sequence[Row]) -> list[Entry]:
    """Our contenders of one of the kinds of `detr_onnx/bench/ours.py`."""
    return [
        Entry(
            f"{prefix}-{engine}{key_end}",
            f"ours, {title}",
            our_command(kind, inputs | {"model": str(file), "engine": engine, "precision": precision}),
        )
        for engine, key_end, title, file, precision in rows
    ]


def _transformers(options: dict[str, Any], python: str) -> list[Entry]:
    """Transformers' contenders, those of the network alone first."""
    return [
        Entry(key, title, baseline_command(python, kind, options))
        for key, title, kind in (
            ("torch", EAGER, "eager-network"),
            ("torch-bf16", "transformers, eager under bf16 autocast", "bf16-network"),
            ("torch-compiled", "transformers, torch.compile", "torch.compile-network"),
            ("transformers-preprocessing", "transformers' image processor", "preprocessing"),
            ("transformers-detect", f"{EAGER}, pipeline", "pipeline"),
        )
    ]


def optimum_files(path: Path | None) -> dict[str, Path]:
    """Optimum's graphs by name: the given file, or those that `export.optimum_export` wrote into a directory."""
    if path is None:
        return {}
    if path.is_file():
        return {"dynamic": path}
    return {name: path / name / "model.onnx" for name in ("dynamic", "static")}


def title_of(contender: Contender) -> str:
    """The contender's title, with the precision if the engine chose bf16 by default."""
    title = contender.entry.title
    if "bf16" in title or "fp32" in title:
        return title
    precision = IN_WORDS.get(contender.runs_on.split(", ")[-1])
    return f"{title}, {precision}" if precision else title


def row(contender: Contender) -> dict[str, Any]:
    """A contender's row of the results, in milliseconds."""
    return {
        "key": contender.entry.key,
        "title": title_of(contender),
        "runs_on": contender.runs_on,
        "versions": contender.versions,
        "spun_ms": round(1000 * contender.spun_s / max(map(len, contender.seconds.values())), 1),
        "ms": {part: figures(seconds, 1000) for part, seconds in contender.seconds.items()},
    }


def ratios(contenders: Sequence[Contender], compared: Ratios) -> list[dict[str, Any]]:
    """The ratios of which both sides were measured."""
    by_key = {contender.entry.key: contender.seconds for contender in contenders}
    return [
        {"part": part, "ours": ours, "theirs": theirs, "at_most": bar, "ratio": ratio(mine[part], by_key[theirs][part])}
        for part, ours, theirs, bar in compared
        if (mine := by_key.get(ours)) and theirs in by_key
    ]


def measured_rows(
    contestants: Sequence[Entry], arguments: argparse.Namespace, compared: Ratios = RATIOS
) -> dict[str, Any]:
    """Rows, ratios and the contenders that were left out."""
    variables = environment(arguments.work, arguments.threads)
    contenders, left_out = run_contenders(
        contestants, variables, arguments.runs, arguments.warm_up, show, arguments.pause
    )
    return {
        "rows": [row(contender) for contender in contenders],
        "ratios": ratios(contenders, compared),
        "left_out": absent(left_out),
    }


def main() -> None:
    """Measures and writes the results."""
    parser = benchmark_parser(
        "benchmarks.latency", "Latency, ours and the peers'.", "--work", "--model", "--optimum", "--python-peers",
        "--int8", "--threads", "--warm-up", "--pause", "--only", results="latency", runs=RUNS,
    )  # fmt: skip
    arguments = parse_arguments(parser, "only")
    measured = subject(arguments.work, arguments.model)
    contestants = entries(measured, arguments.optimum, arguments.python_peers, arguments.threads, arguments.int8)
    contestants = only_some(parser, arguments.only, contestants)
    results = {
        **setting("python -m benchmarks.latency", sys.argv[1:]),
        "model": measured.title,
        "input": f"{SHAPE_HW[0]}x{SHAPE_HW[1]}",
        "threads": arguments.threads,
        "runs": arguments.runs,
        **measured_rows(contestants, arguments),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
