"""The files that the benchmarks measure: a checkpoint, the graphs written from it, an image and its pixels.

    python -m benchmarks.subject [--work DIR] [--model DIR]

Without --model the checkpoint is a full-size DETR-R50 with seeded weights: its answers are meaningless, and its speed
is that of the official one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import OPTIONS, run_main
from benchmarks.setting import CACHE
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import read_model
from detr_onnx.network.config import DetrConfig
from detr_onnx.verify.sample_photo import jpeg
from tests.parity.seeded import CONFIGS, write_checkpoint

SEED = 1
PHOTOGRAPH_WH = (640, 480)
SHAPE_HW = (800, 1066)  # the size rule for such an image
FORMS = {
    "mask": ExportOptions(fused_attention=True),  # as the cache holds it for ONNX Runtime
    "plain": ExportOptions(),  # as the cache holds it for OpenVINO, and as `detr-onnx export` writes it
    "fixed": ExportOptions(shape_hw=SHAPE_HW, mask=False, batch=1, fused_attention=True),
}


@dataclass(frozen=True)
class Subject:
    """Paths of the files.

    Attributes:
        model: the checkpoint's directory.
        title: a name for tables.
        photograph: a JPEG of 640x480.
        pixels: a .npy file, [1,3,800,1066] float32, the preprocessed photograph.
        graphs: our .onnx files, by the keys of `FORMS`.
    """

    model: Path
    title: str
    photograph: Path
    pixels: Path
    graphs: dict[str, Path]


def subject(work: Path, model: Path | None = None) -> Subject:
    """Creates the files in a work directory, without reusing graphs of an earlier version of the code."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / CACHE, ignore_errors=True)
    photograph, pixels = work / "photograph.jpg", work / "pixels.npy"
    directory = model or _seeded(work / "seeded")
    if not photograph.exists():
        photograph.write_bytes(jpeg(*PHOTOGRAPH_WH))
    if not pixels.exists():
        np.save(pixels, batch([read_rgb(photograph)], Preprocessing())[0])
    title = directory.name if model else f"seeded DETR-R50 (seed {SEED})"
    return Subject(directory, title, photograph, pixels, _graphs(work / "ours", directory))


def _seeded(directory: Path) -> Path:
    """The seeded checkpoint, with tensor names that transformers 4 and 5 both read."""
    if not (directory / "preprocessor_config.json").exists():
        write_checkpoint(directory, DetrConfig(), SEED)
        (directory / "preprocessor_config.json").write_text(json.dumps(Preprocessing().to_json()))
    return directory


def panoptic_subject(work: Path) -> tuple[Path, Path, Path, str]:
    """A detection checkpoint, a panoptic one, the photograph, and a title."""
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / CACHE, ignore_errors=True)
    photograph, panoptic = work / "photograph.jpg", work / "seeded-panoptic"
    if not photograph.exists():
        photograph.write_bytes(jpeg(*PHOTOGRAPH_WH))
    if not (panoptic / "preprocessor_config.json").exists():
        write_checkpoint(panoptic, CONFIGS["detr-resnet-50-panoptic"], SEED)
        (panoptic / "preprocessor_config.json").write_text(json.dumps(Preprocessing().to_json()))
    return _seeded(work / "seeded"), panoptic, photograph, f"Seeded panoptic DETR-R50 (seed {SEED})"


def _graphs(directory: Path, model: Path) -> dict[str, Path]:
    """Our graphs of the checkpoint, always rewritten: the code that writes them may have changed."""
    directory.mkdir(exist_ok=True)
    checkpoint, preprocessing = read_model(model)
    files = {name: directory / f"{name}.onnx" for name in FORMS}
    for name, file in files.items():
        write_onnx(file, checkpoint, preprocessing, FORMS[name], external_data=True)
    return files


def main() -> None:
    """Creates the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subject", description="The files that are measured.")
    for option in ("--work", "--model"):
        parser.add_argument(option, **OPTIONS[option])
    arguments = parser.parse_args()
    subject(arguments.work, arguments.model)


if __name__ == "__main__":
    run_main(main)
