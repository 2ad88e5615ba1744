"""Every exporter's graph of one checkpoint, and ours: what they are, whether they are right, how fast they run.

    python -m export.compare [--optimum DIR] [--torch DIR] [--python-peers .venv-peers/bin/python] [--runs 0]

The graphs are those that `export.optimum_export` and `export.torch_export` wrote, and ours, written now. Their answers
are compared with the torch model of transformers: one image at two sizes, and a batch of two images of different
sizes, padded, with the mask that says so given to whoever takes one. Without the peers' interpreter our numpy model
stands in for it. A difference is the largest of the logits', in standard deviations of the logits. Then ONNX Runtime
and OpenVINO run them in turns, each in a plain session of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import environment, show
from benchmarks.subject import SHAPE_HW, Subject, add_arguments, subject
from detr_onnx.bench.baselines import versions_of
from detr_onnx.bench.interleave import PAUSE_S, Contender, Entry, interleaved, started, theirs
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

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "compare.json"
SEED = 5
WARM_UP, RUNS = 3, 15
RIGHT = 1e-3  # of the logits' deviation: the project's own bar for parity
RUNTIMES = ("onnxruntime", "openvino")
OPTIMUM = {"optimum-dynamic": "optimum, dynamic", "optimum-static": "optimum, static"}
TORCH = {name: f"torch, {name.replace('-', ', ')}" for name in VARIANTS}

Arrays = dict[str, NDArray[Any]]
Size = tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """Height and width of the image that the graphs of one size take, of another, and of the two in the batch."""

    single: Size = SHAPE_HW
    other: Size = (480, 640)
    mixed: tuple[Size, Size] = ((800, 1066), (608, 800))


@dataclass(frozen=True)
class Candidate:
    """A graph to compare: its name in the results, its name for people, its file, and why there is none if so."""

    key: str
    title: str
    file: Path
    refused: str | None = None


def our_forms(shape_hw: Size) -> dict[str, tuple[str, ExportOptions]]:
    """What `detr-onnx export` writes by itself, with --fused-attention, and with --shape HxW --no-mask."""
    return {
        "ours-dynamic": ("ours, any size, with mask", ExportOptions()),
        "ours-fused": ("the same, `--fused-attention`", ExportOptions(fused_attention=True)),
        "ours-static": ("ours, one size", ExportOptions(shape_hw=shape_hw, mask=False, batch=1)),
    }


def candidates(model: Path, work: Path, optimum: Path | None, torch: Path | None, shape_hw: Size) -> list[Candidate]:
    """Ours, written into the work directory, and those of the others that there are."""
    work.mkdir(parents=True, exist_ok=True)
    checkpoint, preprocessing = read_model(model)
    found = []
    for key, (title, form) in our_forms(shape_hw).items():
        write_onnx(work / f"{key}.onnx", checkpoint, preprocessing, form)
        found.append(Candidate(key, title, work / f"{key}.onnx"))
    for place, titles in ((optimum, OPTIMUM), (torch, TORCH)):
        check_source(place, model)
        found += [their_candidate(place, key, title) for key, title in titles.items() if place]
    return found


def their_candidate(place: Path, key: str, title: str) -> Candidate:
    """What an exporter wrote into its directory, or why it did not."""
    folder = place / key.removeprefix("optimum-")
    refused = folder / REFUSED
    why = refused.read_text().strip() if refused.is_file() else "not exported"
    return Candidate(key, title, folder / GRAPH, None if (folder / GRAPH).is_file() else why)


def check_source(place: Path | None, model: Path) -> None:
    """Ends the program when an exporter's files were made of other weights: all their answers would look wrong."""
    note = place / SOURCE if place else Path()
    if note.is_file() and note.read_text() != sha256_of(weights_file(model)):
        sys.exit(f"{place} was exported from other weights than {model}: run its exporter again")


# Right or wrong


def cases(sizes: Sizes) -> Arrays:
    """`NAME.pixels` and `NAME.mask` of "single", "other" (another size), "mixed" (a batch), "alone" (its second)."""
    batched, mask = padded_batch(seeded_pixels(SEED, 2, 3, *sizes.mixed[0]), sizes.mixed)
    height, width = sizes.mixed[1]
    pixels = {
        "single": seeded_pixels(SEED, 1, 3, *sizes.single),
        "other": seeded_pixels(SEED, 1, 3, *sizes.other),
        "alone": np.ascontiguousarray(batched[1:, :, :height, :width]),
    }
    found: Arrays = {"mixed.pixels": batched, "mixed.mask": mask}
    for name, array in pixels.items():
        found |= {f"{name}.pixels": array, f"{name}.mask": np.ones((1, *array.shape[2:]), bool)}
    return found


def torch_answers(python: str, model: Path, given: Arrays) -> Arrays:
    """Transformers' logits and boxes of the cases, computed in the peers' environment."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "inputs.npz", Path(folder) / "answers.npz"
        np.savez(source, **given)
        command = [python, "-m", "tests.parity.reference", str(model), str(source), str(target)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return dict(np.load(target))


def numpy_answers(model: Path, given: Arrays) -> Arrays:
    """Our numpy model's logits and boxes of the cases."""
    network = numpy_engine(load_checkpoint(model)).network
    found: Arrays = {}
    for name in ("single", "other", "mixed", "alone"):
        found |= answer(network, given, name, with_mask=True)
    return found


def answer(network: Network, given: Arrays, name: str, with_mask: bool) -> Arrays:
    """A network's logits and boxes of one case."""
    logits, boxes = network(given[f"{name}.pixels"], given[f"{name}.mask"] if with_mask else None)
    return {f"{name}.logits": logits, f"{name}.boxes": boxes}


def difference(found: Arrays, reference: Arrays, name: str) -> dict[str, float]:
    """Of the logits in their standard deviations, and of the boxes in 0..1; the largest."""
    logits, boxes = reference[f"{name}.logits"], reference[f"{name}.boxes"]
    return {
        "logits_of_std": float(f"{np.abs(found[f'{name}.logits'] - logits).max() / logits.std():.2g}"),
        "boxes": float(f"{np.abs(found[f'{name}.boxes'] - boxes).max():.2g}"),
    }


def border_effect(reference: Arrays) -> float:
    """How far the reference itself moves when the smaller image is padded: convolutions see the padding's edge."""
    alone = reference["alone.logits"]
    return float(f"{np.abs(reference['mixed.logits'][1:] - alone).max() / alone.std():.2g}")


def correctness(file: Path, given: Arrays, reference: Arrays, free: Sequence[str], with_mask: bool) -> dict[str, Any]:
    """Differences from the reference, case by case; what does not run says why; None where the file is not for it."""
    network = onnxruntime_engine(file).network
    told: dict[str, Any] = dict.fromkeys(("single", "other", "mixed"))
    for name in ("single", "other", "mixed") if free else ("single",):
        try:
            told[name] = difference(answer(network, given, name, with_mask), reference, name)
        except DetrError as error:
            told[name] = {"error": str(error.found or error)}
    return told


def anatomy(file: Path) -> dict[str, Any]:
    """Who wrote it, nodes, kinds of operations, weights, bytes, inputs with their axes."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    beside = file.with_name(f"{file.name}.data")
    return {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "nodes": len(model.graph.node),
        "operations": len({node.op_type for node in model.graph.node}),
        "initializers": len(model.graph.initializer),
        "mb": round((file.stat().st_size + (beside.stat().st_size if beside.exists() else 0)) / 1e6, 1),
        "opset": next(entry.version for entry in model.opset_import if entry.domain == ""),
        "inputs": {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in model.graph.input
        },
    }


def row(candidate: Candidate, given: Arrays, reference: Arrays) -> dict[str, Any]:
    """A candidate's part of the results, but for its times."""
    told: dict[str, Any] = {"key": candidate.key, "title": candidate.title}
    if candidate.refused is not None:
        return told | {"refused": candidate.refused}
    structure = anatomy(candidate.file)
    free = [axis for axis in structure["inputs"]["pixel_values"] if isinstance(axis, str)]
    mask = "pixel_mask" in structure["inputs"]
    differences = correctness(candidate.file, given, reference, free, with_mask=mask)
    return {**told, **structure, "free_axes": free, "mask": mask, "differences": differences}


# Fast or slow


def latencies(found: Sequence[Candidate], measured: Subject, arguments: argparse.Namespace) -> dict[str, Any]:
    """By runtime, by candidate: milliseconds, or why it cannot run there. One runtime after the other, for memory."""
    surroundings = environment(arguments.work, arguments.threads)
    given = {"pixels": str(measured.pixels), "threads": arguments.threads}
    told: dict[str, Any] = {}
    for runtime in RUNTIMES if arguments.runs else ():
        kind = f"{runtime}-network"
        entries = [
            Entry(one.key, one.title, theirs(sys.executable, kind, given | {"graph": str(one.file)}))
            for one in found
            if one.refused is None
        ]
        with started(entries, surroundings) as (contenders, left_out):
            interleaved(contenders, arguments.runs, arguments.warm_up, show, arguments.pause)
        told[runtime] = {entry.key: {"error": left_out[entry.title]} for entry in entries if entry.title in left_out}
        told[runtime] |= {one.entry.key: time_of(one) for one in contenders}
    return told


def time_of(one: Contender) -> dict[str, Any]:
    """A contender's milliseconds."""
    return {"ms": figures(one.seconds["network"], 1000)}


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export.compare", description="The exporters' graphs, and ours.")
    add_arguments(parser)
    parser.add_argument("--optimum", type=Path, metavar="DIR", help="what export.optimum_export wrote")
    parser.add_argument("--torch", type=Path, metavar="DIR", help="what export.torch_export wrote")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--threads", type=int, default=2, help="of every contender (default: 2)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"turns of each; 0 for no times (default: {RUNS})")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help=f"turns before them (default: {WARM_UP})")
    parser.add_argument("--pause", type=float, default=PAUSE_S, metavar="S", help=f"between turns (default: {PAUSE_S})")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Compares, measures and writes the results."""
    arguments = arguments_parser().parse_args()
    sizes, top = Sizes(), setting("python -m export.compare", sys.argv[1:])
    measured, given = subject(arguments.work, arguments.model), cases(sizes)
    found = candidates(measured.model, arguments.work / "compare", arguments.optimum, arguments.torch, sizes.single)
    python = arguments.python_peers
    reference = torch_answers(python, measured.model, given) if python else numpy_answers(measured.model, given)
    results = {
        **top,
        "model": measured.title,
        "versions": versions_of("onnx", "onnxruntime", "openvino", "numpy"),
        "reference": "transformers, PyTorch" if python else "our numpy model",
        "right_below": RIGHT,
        "mixed_sizes": [f"{height}x{width}" for height, width in sizes.mixed],
        "border_effect": border_effect(reference),
        "rows": [row(candidate, given, reference) for candidate in found],
        "threads": arguments.threads,
        "runs": arguments.runs,
        "latency": latencies(found, measured, arguments),
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
