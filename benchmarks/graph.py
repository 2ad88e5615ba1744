"""Our graph beside optimum's: size, inputs, free axes, and whether the answers are right, measured from the files.

    python -m benchmarks.graph --optimum DIR [--python-peers .venv-peers/bin/python]

The answers are compared with the torch model of transformers: one picture at two sizes, and a batch of two pictures of
different sizes, padded, with the mask that says so given to whoever takes one. Without the peers' interpreter our numpy
model stands in for it. A difference is the largest of the logits', in standard deviations of the logits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency import optimum_files
from benchmarks.subject import SHAPE_HW, add_arguments, subject
from detr_onnx.bench.peers import versions_of
from detr_onnx.bench.setting import setting
from detr_onnx.cache import sha256_of
from detr_onnx.engines import Network
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.network.checkpoint import load_checkpoint, weights_file
from export.optimum_export import SOURCE
from export.seeded import padded_batch, seeded_pixels

RESULTS = Path(__file__).parent / "results" / "graph.json"
SEED = 5
OTHER_HW = (480, 640)
MIXED_HW = [(800, 1066), (608, 800)]
RIGHT = 1e-3  # of the logits' deviation: the project's own bar for parity
TITLES = {"mask": "any size, with mask", "fixed": "one size"}

Arrays = dict[str, NDArray[Any]]


def cases() -> Arrays:
    """`NAME.pixels` and `NAME.mask` of "single", "other" (another size), "mixed" (a batch), "alone" (its second)."""
    batched, mask = padded_batch(seeded_pixels(SEED, 2, 3, *SHAPE_HW), MIXED_HW)
    height, width = MIXED_HW[1]
    pixels = {
        "single": seeded_pixels(SEED, 1, 3, *SHAPE_HW),
        "other": seeded_pixels(SEED, 1, 3, *OTHER_HW),
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
        command = [python, "-m", "benchmarks.reference", str(model), str(source), str(target)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        return dict(np.load(target))


def answers(network: Network, given: Arrays, names: tuple[str, ...], with_mask: bool = True) -> Arrays:
    """A network's logits and boxes of some of the cases."""
    found: Arrays = {}
    for name in names:
        mask = given[f"{name}.mask"] if with_mask else None
        found[f"{name}.logits"], found[f"{name}.boxes"] = network(given[f"{name}.pixels"], mask)
    return found


def difference(found: Arrays, reference: Arrays, name: str) -> dict[str, float]:
    """Of the logits in their standard deviations, and of the boxes in 0..1; the largest."""
    logits, boxes = reference[f"{name}.logits"], reference[f"{name}.boxes"]
    return {
        "logits_of_std": float(f"{np.abs(found[f'{name}.logits'] - logits).max() / logits.std():.2g}"),
        "boxes": float(f"{np.abs(found[f'{name}.boxes'] - boxes).max():.2g}"),
    }


def anatomy(file: Path) -> dict[str, Any]:
    """Nodes, kinds of operations, weights, bytes, inputs with their axes."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    beside = file.with_name(f"{file.name}.data")
    return {
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


def correctness(file: Path, given: Arrays, reference: Arrays, one_size: bool, with_mask: bool) -> dict[str, Any]:
    """Differences from the reference, case by case; None where the file takes no other size."""
    names = ("single",) if one_size else ("single", "other", "mixed")
    found = answers(onnxruntime_engine(file).network, given, names, with_mask)
    told: dict[str, Any] = dict.fromkeys(("single", "other", "mixed"))
    return told | {name: difference(found, reference, name) for name in names}


def row(key: str, title: str, file: Path, given: Arrays, reference: Arrays) -> dict[str, Any]:
    """A file's part of the results."""
    structure = anatomy(file)
    free = [axis for axis in structure["inputs"]["pixel_values"] if isinstance(axis, str)]
    mask = "pixel_mask" in structure["inputs"]
    differences = correctness(file, given, reference, one_size=not free, with_mask=mask)
    return {"key": key, "title": title, **structure, "free_axes": free, "mask": mask, "differences": differences}


def check_source(optimum: Path | None, model: Path) -> None:
    """Ends the program when optimum's files were made of other weights: all their answers would look wrong."""
    note = optimum / SOURCE if optimum else Path()
    if note.is_file() and note.read_text() != sha256_of(weights_file(model)):
        sys.exit(f"{optimum} was exported from other weights than {model}: run export.optimum_export again")


def border_effect(reference: Arrays) -> float:
    """How far the reference itself moves when the smaller picture is padded: convolutions see the padding's edge."""
    alone = reference["alone.logits"]
    return float(f"{np.abs(reference['mixed.logits'][1:] - alone).max() / alone.std():.2g}")


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph", description="Our graph beside optimum's.")
    add_arguments(parser)
    parser.add_argument("--optimum", type=Path, metavar="PATH", help="a file or directory of export.optimum_export")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    measured, given = subject(arguments.work, arguments.model), cases()
    check_source(arguments.optimum, measured.model)
    reference = (
        torch_answers(arguments.python_peers, measured.model, given)
        if arguments.python_peers
        else answers(
            numpy_engine(load_checkpoint(measured.model)).network, given, ("single", "other", "mixed", "alone")
        )
    )
    files = [(f"ours-{name}", f"ours, {title}", measured.graphs[name]) for name, title in TITLES.items()]
    files += [(f"optimum-{name}", f"optimum, {name}", file) for name, file in optimum_files(arguments.optimum).items()]
    results = {
        **setting("python -m benchmarks.graph", sys.argv[1:]),
        "model": measured.title,
        "versions": versions_of("onnx", "onnxruntime", "numpy"),
        "reference": "transformers, PyTorch" if arguments.python_peers else "our numpy model",
        "right_below": RIGHT,
        "mixed_sizes": [f"{height}x{width}" for height, width in MIXED_HW],
        "border_effect": border_effect(reference),
        "rows": [row(key, title, file, given, reference) for key, title, file in files],
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
