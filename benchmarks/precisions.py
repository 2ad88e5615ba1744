"""What each precision of `detr-onnx export` costs: time of the network, size of the file, peak memory of a process.

    python -m benchmarks.precisions [--optimum DIR] [--runs 15]

Files as the command writes them, one for ONNX Runtime (attention as one node) and one for OpenVINO of each precision.
Times are taken in turns as in `latency.py`, peaks of `detect` as in `memory.py`. The ranges of int8 are those of the
one photograph: speed does not depend on them, and whether int8 says what fp32 says is for `detr-onnx export` to judge.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.latency import RUNS, WARM_UP, Ratios, measured_rows, optimum_files
from benchmarks.memory import row
from benchmarks.setting import environment, show
from detr_onnx.bench.interleave import PAUSE_S, Entry, baseline_command, our_command
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting

RESULTS = Path(__file__).parent / "results" / "precisions.json"
PRECISIONS = ("fp32", "fp16-weights", "int8-weights", "int8")
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
COMPUTED_IN: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "onnxruntime": (("", "", None),),
    "openvino": (("", "", "fp32"), ("-bf16", ", the rest in bf16", "bf16")),
}
"""How key and title go on, and the precision that the engine is asked for; what is not int8 is the rest."""

METHOD = "minmax"
MEMORY_RUNS = 5
MB_AT_MOST, PEAK_AT_MOST = 50, 0.6
RATIOS: Ratios = (
    *(("network", f"onnxruntime-{kind}", "onnxruntime-fp32", None) for kind in PRECISIONS[1:-1]),
    ("network", "onnxruntime-int8", "onnxruntime-fp32", 0.5),
    *(("network", f"openvino-{kind}", "openvino-fp32", None) for kind in PRECISIONS[1:]),
    ("network", "openvino-int8", "openvino-dynamic", None),
    ("network", "openvino-int8-bf16", "openvino-dynamic", 0.66),
)


def write_files(work: Path, model: Path | None) -> dict[str, str]:
    """Writes every file and gives a name and a place for each; in a process of its own, since it needs room."""
    from benchmarks.subject import subject
    from detr_onnx.exporter.calibrate import ranges_alone
    from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
    from detr_onnx.models.metadata import read_model

    measured = subject(work, model)
    directory = work / "precisions"
    directory.mkdir(exist_ok=True)
    opened = read_model(measured.model)
    grids = ranges_alone(opened, [measured.photograph], METHOD)
    places = {"title": measured.title, "pixels": str(measured.pixels), "photograph": str(measured.photograph)}
    for engine in TITLES:
        for kind in PRECISIONS:
            file = directory / f"{engine}-{kind}.onnx"
            told = grids if kind == "int8" else {}
            form = ExportOptions(precision=kind, fused_attention=engine == "onnxruntime", grids=told)
            write_onnx(file, *opened, form)
            places[file.stem] = str(file)
    return places


def entries(places: dict[str, str], optimum: Path | None, threads: int) -> list[Entry]:
    """Who takes part, in the order of the turns."""
    given = {"pixels": places["pixels"], "threads": threads}
    mine = [
        Entry(f"{engine}-{kind}{form}", f"{title}, {kind}{rest}", our_command("network", given | told))
        for engine, title in TITLES.items()
        for kind in PRECISIONS
        for form, rest, precision in COMPUTED_IN[engine]
        for told in ({"model": places[f"{engine}-{kind}"], "engine": engine, "precision": precision},)
        if kind == "int8" or not form
    ]
    stock = [
        Entry(
            f"openvino-{name}",
            f"optimum's export, OpenVINO, {name}",
            baseline_command(sys.executable, "openvino-network", given | {"graph": str(graph)}),
        )
        for name, graph in optimum_files(optimum).items()
    ]
    return [*mine, *stock]


def peaks(places: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak megabytes of `detect` with ONNX Runtime, by the key of the file."""
    words = ["--engine", "onnxruntime", "--threads", str(arguments.threads)]
    detect = [sys.executable, "-m", "detr_onnx", "detect", places["photograph"], *words, "-m"]
    wanted = [Program(f"onnxruntime-{kind}", kind, (*detect, places[f"onnxruntime-{kind}"])) for kind in PRECISIONS]
    ran, _ = run_in_turns(wanted, arguments.memory_runs, environment(arguments.work, arguments.threads), show)
    return {program.key: row(program)["peak_mb"] for program in ran}


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precisions", description="What a precision costs.")
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where what is measured is kept")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint; without it, the seeded one")
    parser.add_argument("--optimum", type=Path, metavar="PATH", help="a file or directory of export.optimum_export")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"turns of each that count (default: {RUNS})")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help=f"turns before them (default: {WARM_UP})")
    parser.add_argument("--memory-runs", type=int, default=MEMORY_RUNS, help=f"(default: {MEMORY_RUNS})")
    parser.add_argument("--pause", type=float, default=PAUSE_S, metavar="S", help=f"between turns (default: {PAUSE_S})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measures and writes the results; with --write, as a child, only the files."""
    arguments = arguments_parser().parse_args()
    if arguments.write:
        print(json.dumps(write_files(arguments.work, arguments.model)))
        return
    head = setting("python -m benchmarks.precisions", sys.argv[1:])
    command = [sys.executable, "-m", "benchmarks.precisions", "--write", *sys.argv[1:]]
    places = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    peak_mb = peaks(places, arguments)
    found = measured_rows(entries(places, arguments.optimum, arguments.threads), arguments, RATIOS)
    for line in found["rows"]:
        file = Path(places.get(line["key"], ""))
        line["mb"] = round(file.stat().st_size / 1e6, 1) if file.suffix else None
        line["peak_mb"] = peak_mb.get(line["key"])
    results = {
        **head,
        "model": places["title"],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "mb_at_most": MB_AT_MOST,
        "peak_at_most": PEAK_AT_MOST,
        **found,
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
