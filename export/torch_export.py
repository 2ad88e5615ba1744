"""Exports a checkpoint with torch, by its old exporter (TorchScript) and its new one (dynamo).

    python -m export.torch_export MODEL_DIR -o DIR

It needs torch, transformers and onnxscript, and writes `DIR/NAME/model.onnx` for each of `VARIANTS`: any size with
`pixel_mask`, and one size without. The traced example is a padded batch of two sizes, so that the mask does not become
a constant. If an exporter fails, its reason is in `DIR/NAME/refused.txt`, on one line. A JSON summary goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import run_main
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.cache import sha256_of
from detr_onnx.checkpoint.files import weights_file
from export.optimum_export import SEED, SOURCE, STATIC_HW
from tests.parity.seeded import padded_batch, seeded_pixels

GRAPH, REFUSED = "model.onnx", "refused.txt"
OPSET = 17  # for the old exporter; the new one chooses its own
VERSIONS = ("torch", "transformers", "onnxscript", "onnx", "numpy")
AXES: dict[str, dict[int, str]] = {
    "pixel_values": {0: "batch", 2: "height", 3: "width"},
    "pixel_mask": {0: "batch", 1: "height", 2: "width"},
}
OUTPUTS = ["logits", "pred_boxes"]


@dataclass(frozen=True)
class Variant:
    """One way to export.

    Attributes:
        dynamo: the new exporter instead of the old one.
        any_size: any size, with a mask; else one size without.
    """

    dynamo: bool
    any_size: bool


VARIANTS = {
    "torchscript-dynamic": Variant(dynamo=False, any_size=True),
    "torchscript-static": Variant(dynamo=False, any_size=False),
    "dynamo-dynamic": Variant(dynamo=True, any_size=True),
    "dynamo-static": Variant(dynamo=True, any_size=False),
}


def export_all(
    checkpoint: Path, directory: Path, names: Sequence[str] = tuple(VARIANTS), shape_hw: tuple[int, int] = STATIC_HW
) -> dict[str, str | None]:
    """Exports the variants; their names with the reason of a failure, or None."""
    network = torch_network(checkpoint)
    return {name: attempt(network, directory / name, VARIANTS[name], shape_hw) for name in names}


def attempt(network: Any, folder: Path, variant: Variant, shape_hw: tuple[int, int]) -> str | None:
    """Writes the graph into the folder; if the exporter fails, writes and returns the reason."""
    shutil.rmtree(folder, ignore_errors=True)  # else a file of an earlier run could be mistaken for a new one
    folder.mkdir(parents=True)
    try:
        export(network, folder / GRAPH, variant, shape_hw)
    except Exception as error:  # noqa: BLE001 - a failure is a result, whatever the exporter raised
        (folder / GRAPH).unlink(missing_ok=True)
        (folder / REFUSED).write_text(reason(error) + "\n")
        return reason(error)
    return None


def torch_network(checkpoint: Path) -> Any:
    """The model of transformers, with logits and boxes as outputs."""
    import torch
    from transformers import DetrForObjectDetection

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detr = DetrForObjectDetection.from_pretrained(checkpoint)

        def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None) -> tuple[Any, Any]:
            outputs = self.detr(pixel_values=pixel_values, pixel_mask=pixel_mask)
            return outputs.logits, outputs.pred_boxes

    return Network().eval()


def export(network: Any, file: Path, variant: Variant, shape_hw: tuple[int, int]) -> None:
    """Writes one file with one exporter; errors of the exporter are not caught."""
    import torch

    inputs = example(shape_hw) if variant.any_size else {"pixel_values": seeded_pixels(SEED, 1, 3, *shape_hw)}
    axes = {name: AXES[name] for name in inputs} if variant.any_size else None
    options: dict[str, Any] = (
        {"dynamo": True, "dynamic_shapes": axes, "external_data": False}
        if variant.dynamo
        else {"dynamo": False, "dynamic_axes": axes, "opset_version": OPSET}
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the old exporter is deprecated, and prints pages of tracer warnings
        torch.onnx.export(
            network, tuple(map(torch.from_numpy, inputs.values())), str(file),
            input_names=list(inputs), output_names=OUTPUTS, verbose=False, **options,
        )  # fmt: skip


def example(shape_hw: tuple[int, int]) -> dict[str, Any]:
    """Two images of different sizes, padded, and their mask as int64."""
    height, width = shape_hw
    pixels, mask = padded_batch(seeded_pixels(SEED, 2, 3, height, width), [shape_hw, (height * 3 // 4, width * 3 // 4)])
    return {"pixel_values": pixels, "pixel_mask": mask.astype(np.int64)}


def reason(error: Exception) -> str:
    """One line: the type of the error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:200]


def main() -> None:
    """Exports, records the source, prints the failures."""
    parser = argparse.ArgumentParser(prog="python -m export.torch_export", description="Exports a DETR with torch.")
    parser.add_argument("checkpoint", type=Path, metavar="MODEL_DIR", help="a directory in Hugging Face's layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the exports")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="NAME",
        help=f"of {', '.join(VARIANTS)} (default: all)",
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with redirect_stdout(sys.stderr):  # exporters print; stdout is for the summary
        refused = export_all(arguments.checkpoint, arguments.output, arguments.only)
    (arguments.output / SOURCE).write_text(sha256_of(weights_file(arguments.checkpoint)))
    print(json.dumps({"versions": versions_of(*VERSIONS), "refused": refused}, indent=1))


if __name__ == "__main__":
    run_main(main)
