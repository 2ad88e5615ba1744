"""Compares the graphs that all exporters, and ours, write of one checkpoint: structure, correctness, speed.

    python -m export.compare [--optimum DIR] [--torch DIR] [--python-peers .venv-peers/bin/python] [--runs 0]

The graphs are those of `export.optimum_export` and `export.torch_export`, and ours, written now. Their outputs are
compared with the PyTorch model of transformers: one image at two sizes, and a padded batch of two images of different
sizes, with its mask for graphs that take one. Without `--python-peers`, our numpy model is the reference. Differences
are the largest of the logits, in standard deviations of the logits. Then ONNX Runtime and OpenVINO run the graphs in
turns, each in a plain session.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import benchmark_parser, run_main, write_results
from benchmarks.setting import environment, show
from benchmarks.subject import SHAPE_HW, Subject, subject
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.interleave import Entry, baseline_command, run_contenders
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures
from detr_onnx.cache import sha256_of
from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.engines import Network
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.errors import DetrError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from export.optimum_export import SOURCE
from export.torch_export import GRAPH, REFUSED, VARIANTS
from tests.parity.seeded import padded_batch, seeded_pixels

SEED = 5
RUNS = 15
RIGHT = 1e-3  # standard deviations of the logits: the tolerance of the parity tests
RUNTIMES = ("onnxruntime", "openvino")
OPTIMUM = {"optimum-dynamic": "optimum, dynamic", "optimum-static": "optimum, static"}
TORCH = {name: f"torch, {name.replace('-', ', ')}" for name in VARIANTS}

Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Heights and widths of the test images.

    Attributes:
        single: the size of the graphs with a fixed size.
        other: another size.
        mixed: the two images of the batch.
    """

    single: Size = SHAPE_HW
    other: Size = (480, 640)
    mixed: tuple[Size, Size] = ((800, 1066), (608, 800))


@dataclass(frozen=True)
class Candidate:
    """A graph to compare.

    Attributes:
        key: its name in the results.
        title: its name in tables.
        file: the .onnx file.
        refused: the reason why there is no file; None if there is one.
    """

    key: str
    title: str
    file: Path
    refused: str | None = None


def our_forms(shape_hw: Size) -> dict[str, tuple[str, ExportOptions]]:
    """Our graphs: `detr-onnx export` without options, with --fused-attention, and with --shape HxW --no-mask."""
    return {
        "ours-dynamic": ("ours, any size, with mask", ExportOptions()),
        "ours-fused": ("the same, `--fused-attention`", ExportOptions(fused_attention=True)),
        "ours-static": ("ours, one size", ExportOptions(shape_hw=shape_hw, mask=False, batch=1)),
    }


def candidates(model: Path, work: Path, optimum: Path | None, torch: Path | None, shape_hw: Size) -> list[Candidate]:
    """Our graphs, written into the work directory, and those of the other exporters."""
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, preprocessing = read_model(model)
    graphs = []
    for key, (title, form) in our_forms(shape_hw).items():
        write_onnx(work / f"{key}.onnx", checkpoint, preprocessing, form)
        graphs.append(Candidate(key, title, work / f"{key}.onnx"))
    for directory, titles in ((optimum, OPTIMUM), (torch, TORCH)):
        check_source(directory, model)
        graphs += [their_candidate(directory, key, title) for key, title in titles.items() if directory]
    return graphs


def their_candidate(directory: Path, key: str, title: str) -> Candidate:
    """The graph that an exporter wrote into its directory, or the reason why there is none."""
    folder = directory / key.removeprefix("optimum-")
    refused = folder / REFUSED
    reason = refused.read_text().strip() if refused.is_file() else "not exported"
    return Candidate(key, title, folder / GRAPH, None if (folder / GRAPH).is_file() else reason)


def check_source(directory: Path | None, model: Path) -> None:
    """Exits if an exporter's files come from other weights, because all their outputs would look wrong."""
    source = directory / SOURCE if directory else Path()
    if source.is_file() and source.read_text() != sha256_of(weights_file(model)):
        sys.exit(f"{directory} was exported from other weights than {model}: run its exporter again")


# Correctness


def cases(sizes: Sizes) -> Arrays:
    """`NAME.pixels` and `NAME.mask` for "single", "other" (another size), "mixed" (a batch), "alone" (its second)."""
    batched, mask = padded_batch(seeded_pixels(SEED, 2, 3, *sizes.mixed[0]), sizes.mixed)
    height, width = sizes.mixed[1]
    pixels = {
        "single": seeded_pixels(SEED, 1, 3, *sizes.single),
        "other": seeded_pixels(SEED, 1, 3, *sizes.other),
        "alone": np.ascontiguousarray(batched[1:, :, :height, :width]),
    }
    inputs: Arrays = {"mixed.pixels": batched, "mixed.mask": mask}
    for name, array in pixels.items():
        inputs |= {f"{name}.pixels": array, f"{name}.mask": np.ones((1, *array.shape[2:]), bool)}
    return inputs


def torch_outputs(python: str, model: Path, inputs: Arrays) -> Arrays:
    """Logits and boxes of transformers for all cases, computed by the peers' interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(source, **inputs)
        command = [python, "-m", "tests.parity.reference", str(model), str(source), str(target)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return dict(np.load(target))


def numpy_outputs(model: Path, inputs: Arrays) -> Arrays:
    """Logits and boxes of our numpy model for all cases."""
    network = numpy_engine(load_checkpoint(model)).network
    outputs: Arrays = {}
    for name in ("single", "other", "mixed", "alone"):
        outputs |= run(network, inputs, name, with_mask=True)
    return outputs


def run(network: Network, inputs: Arrays, name: str, with_mask: bool) -> Arrays:
    """A network's logits and boxes for one case."""
    logits, boxes = network(inputs[f"{name}.pixels"], inputs[f"{name}.mask"] if with_mask else None)
    return {f"{name}.logits": logits, f"{name}.boxes": boxes}


def difference(outputs: Arrays, reference: Arrays, name: str) -> dict[str, float]:
    """Largest difference of the logits, in their standard deviations, and of the boxes, in 0..1."""
    logits, boxes = reference[f"{name}.logits"], reference[f"{name}.boxes"]
    return {
        "logits_of_std": float(f"{np.abs(outputs[f'{name}.logits'] - logits).max() / logits.std():.2g}"),
        "boxes": float(f"{np.abs(outputs[f'{name}.boxes'] - boxes).max():.2g}"),
    }


def border_effect(reference: Arrays) -> float:
    """How much the reference itself changes when the smaller image is padded: convolutions see the padding's edge."""
    alone = reference["alone.logits"]
    return float(f"{np.abs(reference['mixed.logits'][1:] - alone).max() / alone.std():.2g}")


def correctness(file: Path, inputs: Arrays, reference: Arrays, free: Sequence[str], with_mask: bool) -> dict[str, Any]:
    """Differences from the reference by case, or an error; None for cases that a fixed size excludes."""
    network = onnxruntime_engine(file).network
    differences: dict[str, Any] = dict.fromkeys(("single", "other", "mixed"))
    for name in ("single", "other", "mixed") if free else ("single",):
        try:
            outputs = run(network, inputs, name, with_mask)
        except DetrError as error:
            differences[name] = {"error": str(error.found or error)}
            continue
        finite = all(np.isfinite(array).all() for array in outputs.values())
        differences[name] = difference(outputs, reference, name) if finite else {"error": "not finite"}
    return differences


def anatomy(file: Path) -> dict[str, Any]:
    """Producer, number of nodes, operations and weights, size, and inputs with their axes."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    data = file.with_name(f"{file.name}.data")
    return {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "nodes": len(model.graph.node),
        "operations": len({node.op_type for node in model.graph.node}),
        "initializers": len(model.graph.initializer),
        "mb": round((file.stat().st_size + (data.stat().st_size if data.exists() else 0)) / 1e6, 1),
        "opset": next(entry.version for entry in model.opset_import if entry.domain == ""),
        "inputs": {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in model.graph.input
        },
    }


def row(candidate: Candidate, inputs: Arrays, reference: Arrays) -> dict[str, Any]:
    """A candidate's row of the results, without its times."""
    head: dict[str, Any] = {"key": candidate.key, "title": candidate.title}
    if candidate.refused is not None:
        return head | {"refused": candidate.refused}
    structure = anatomy(candidate.file)
    free = [axis for axis in structure["inputs"]["pixel_values"] if isinstance(axis, str)]
    mask = "pixel_mask" in structure["inputs"]
    differences = correctness(candidate.file, inputs, reference, free, with_mask=mask)
    return {**head, **structure, "free_axes": free, "mask": mask, "differences": differences}


# Speed


def latencies(graphs: Sequence[Candidate], measured: Subject, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runtime -> candidate -> milliseconds, or an error. Runtimes are measured one after the other, to save memory."""
    variables = environment(arguments.work, arguments.threads)
    options = {"pixels": str(measured.pixels), "threads": arguments.threads}
    times: dict[str, Any] = {}
    for runtime in RUNTIMES if arguments.runs else ():
        kind = f"{runtime}-network"
        entries = [
            Entry(graph.key, graph.title, baseline_command(sys.executable, kind, options | {"graph": str(graph.file)}))
            for graph in graphs
            if graph.refused is None
        ]
        contenders, left_out = run_contenders(
            entries, variables, arguments.runs, arguments.warm_up, show, arguments.pause
        )
        times[runtime] = {entry.key: {"error": left_out[entry.title]} for entry in entries if entry.title in left_out}
        times[runtime] |= {c.entry.key: {"ms": figures(c.seconds["network"], 1000)} for c in contenders}
    return times


def main() -> None:
    """Compares, measures and writes the results."""
    parser = benchmark_parser(
        "export.compare", "Compares exporters.", "--work", "--model", "--python-peers", "--threads", "--warm-up",
        "--pause", results="compare", runs=RUNS, fewest_runs=0,
    )  # fmt: skip
    parser.add_argument("--optimum", type=Path, metavar="DIR", help="the directory of export.optimum_export")
    parser.add_argument("--torch", type=Path, metavar="DIR", help="the directory of export.torch_export")
    arguments = parser.parse_args()
    sizes, head = Sizes(), setting("python -m export.compare", sys.argv[1:])
    measured, inputs = subject(arguments.work, arguments.model), cases(sizes)
    graphs = candidates(measured.model, arguments.work / "compare", arguments.optimum, arguments.torch, sizes.single)
    python = arguments.python_peers
    reference = torch_outputs(python, measured.model, inputs) if python else numpy_outputs(measured.model, inputs)
    results = {
        **head,
        "model": measured.title,
        "versions": versions_of("onnx", "onnxruntime", "openvino", "numpy"),
        "reference": "transformers, PyTorch" if python else "our numpy model",
        "right_below": RIGHT,
        "mixed_sizes": [f"{height}x{width}" for height, width in sizes.mixed],
        "border_effect": border_effect(reference),
        "rows": [row(graph, inputs, reference) for graph in graphs],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "latency": latencies(graphs, measured, arguments),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
