"""What is measured: a checkpoint, the graphs written from it, an image, and the pixels made of it.

    python -m benchmarks.subject WORK_DIR [--model DIR]

fills a directory with all of it: the full-size DETR-R50 with seeded weights, whose numbers are arbitrary and whose
speed is that of the official ones, unless a checkpoint is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.sample_photo import jpeg
from benchmarks.setting import CACHE
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.preprocess import Preprocessing, batch, read_rgb
from detr_onnx.models.metadata import read_model
from detr_onnx.network.config import DetrConfig
from tests.parity.seeded import write_checkpoint

SEED = 1
PHOTOGRAPH_WH = (640, 480)
SHAPE_HW = (800, 1066)  # what such a photograph is scaled to
FORMS = {
    "mask": ExportOptions(fused_attention=True),  # what the cache holds for ONNX Runtime
    "plain": ExportOptions(),  # what the cache holds for OpenVINO, and what `detr-onnx export` writes
    "fixed": ExportOptions(shape_hw=SHAPE_HW, mask=False, batch=1, fused_attention=True),
}


@dataclass(frozen=True)
class Subject:
    """Where everything lies.

    Attributes:
        model: the checkpoint's directory.
        title: what it is, for people.
        photograph: a JPEG of 640x480.
        pixels: [1,3,800,1066] float32 in a .npy file, what the network sees of the photograph.
        graphs: our .onnx files by the name of their form.
    """

    model: Path
    title: str
    photograph: Path
    pixels: Path
    graphs: dict[str, Path]


def subject(work: Path, model: Path | None = None) -> Subject:
    """The subject in a work directory, where nothing is left of graphs that were written before."""
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
    """The seeded checkpoint, in the dialect that transformers 4 and 5 both read."""
    if not (directory / "preprocessor_config.json").exists():
        write_checkpoint(directory, DetrConfig(), SEED)
        (directory / "preprocessor_config.json").write_text(json.dumps(Preprocessing().to_json()))
    return directory


def _graphs(directory: Path, model: Path) -> dict[str, Path]:
    """Our graphs of the checkpoint, always written anew: the code that writes them may have changed."""
    directory.mkdir(exist_ok=True)
    checkpoint, preprocessing = read_model(model)
    files = {name: directory / f"{name}.onnx" for name in FORMS}
    for name, file in files.items():
        write_onnx(file, checkpoint, preprocessing, FORMS[name], external_data=True)
    return files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--work and --model, which every benchmark takes."""
    parser.add_argument("--work", type=Path, default=Path("build/benchmarks"), help="where what is measured is kept")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a checkpoint; without it, the seeded one")


def main() -> None:
    """Fills the work directory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subject")
    add_arguments(parser)
    arguments = parser.parse_args()
    subject(arguments.work, arguments.model)


if __name__ == "__main__":
    main()
