"""A model as an .ort file: ONNX Runtime's own format, the only one that its minimal builds read.

    checkpoint ── onnx_file.py ──► .onnx ── optimized by ONNX Runtime ──► .ort, and a list of the operators it needs

The optimizations are those of ONNX Runtime's own converter: all but the blocked layout of x86-64, so that the file runs
on any processor. An .ort file keeps the metadata, and `Detector` runs it like an .onnx file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.atomic import atomic_files, draft_directory
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines.graph_engine import BOXES, LOGITS, MASK, MASKS, PIXELS, POINTS
from detr_onnx.engines.onnxruntime import SLOWING_OPTIMIZERS, import_onnxruntime
from detr_onnx.engines.providers import CPU
from detr_onnx.errors import EngineError, OutputError
from detr_onnx.exporter.end_to_end import IMAGE, SCORES, THRESHOLD
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.paths import is_directory
from detr_onnx.text import first_line, reason_of

Arrays = list[NDArray[Any]]

SUFFIX = ".ort"
CONFIG_SUFFIX = ".required_operators.config"  # as ONNX Runtime's converter names it
NOT_PORTABLE = ["NchwcTransformer"]  # blocks of channels as wide as this processor's registers; ARM has no such kernels
WRITE_CONFIG = """
import pathlib, sys
sys.modules["torch"] = None  # the tools would import it if it is installed, for another of their functions
from onnxruntime.tools.ort_format_model import create_config_from_models
create_config_from_models([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), False)
"""
NOT_SAVED = "Failed to save"  # ONNX Runtime's words, which have no reason; mostly the disk is full
TRIAL_HW = (96, 128)  # of the image that both files are run on, if they take any size
BROKEN_FROM = 0.05  # mean difference in standard deviations: rounding in fp16 or int8 is below, wrong outputs near 1


def write_ort(path: Path, checkpoint: Checkpoint, preprocessing: Preprocessing, options: ExportOptions) -> None:
    """Writes the model as .ort and, beside it, the configuration for a build with only its operators.

    Args:
        path: the .ort file; it is replaced only when the new one has been run and agrees with the .onnx.
        checkpoint: the weights and their config.
        preprocessing: how images are prepared, for the metadata.
        options: which graph.

    Raises:
        EngineError: when the package `onnx` or `onnxruntime` is not installed, or the conversion fails.
        OutputError: when a file cannot be written.
    """
    if is_directory(path):
        raise OutputError(f"{path} cannot be written", found="a directory", remedy="choose another file")
    try:
        with atomic_files(path, path.with_suffix(CONFIG_SUFFIX)) as files, draft_directory(path.parent) as folder:
            graph, converted = folder / f"{path.stem}.onnx", folder / path.name
            write_onnx(graph, checkpoint, preprocessing, options)
            convert(graph, converted)
            config = write_required_operators(converted)
            check_outputs(graph, converted, options, has_masks=checkpoint.config.masks and not options.attention)
            graph.unlink()  # which leaves its space on the disk for the copy
            for source, file in zip((converted, config), files, strict=True):
                with source.open("rb") as content:
                    shutil.copyfileobj(content, file)
    except OSError as error:
        raise _not_written(path, error) from error
    except OutputError as error:
        if isinstance(error.__cause__, OSError):  # of the .onnx, which has the name of a draft
            raise _not_written(path, error.__cause__) from error
        raise


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written", found=reason_of(error), remedy="choose another file")


def convert(graph: Path, target: Path) -> None:
    """Optimizes the .onnx for any processor and saves it as .ort.

    Raises:
        EngineError: when ONNX Runtime fails.
    """
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(target)
    settings.add_session_config_entry("session.save_model_format", "ORT")
    settings.add_session_config_entry("session.qdqisint8allowed", "1")  # signed activations, which ARM prefers
    try:
        onnxruntime.InferenceSession(
            str(graph), settings, providers=[CPU], disabled_optimizers=[*NOT_PORTABLE, *SLOWING_OPTIMIZERS]
        )
    except Exception as error:
        found = first_line(error).replace(str(target), target.name)
        is_full = NOT_SAVED in found
        raise EngineError(
            "ONNX Runtime cannot convert the graph to its own format",
            found=found[:200],
            remedy="free some space on the disk" if is_full else "write an .onnx file",
        ) from error


def write_required_operators(converted: Path) -> Path:
    """The path of the configuration beside an .ort file, for ONNX Runtime's `build.sh --include_ops_by_config`.

    ONNX Runtime's own function writes it; in a subprocess, since importing it changes the root logger.

    Raises:
        EngineError: when it fails.
    """
    config = converted.with_suffix(CONFIG_SUFFIX)
    command = [sys.executable, "-c", WRITE_CONFIG, converted.name, config.name]
    done = subprocess.run(
        command, cwd=converted.parent, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise EngineError(
            "ONNX Runtime's tools cannot list the operators that the file needs",
            found=(done.stderr.splitlines() or ["no reason given"])[-1][:200],
            remedy="run pip install --upgrade onnxruntime flatbuffers",
        )
    return config


def check_outputs(graph: Path, converted: Path, options: ExportOptions, *, has_masks: bool = False) -> None:
    """Runs both files once on the same image.

    Raises:
        EngineError: when the .ort file does not load, or its outputs differ.
    """
    feeds = sample_inputs(options, has_masks=has_masks)
    names = [SCORES] if options.end_to_end else [LOGITS, BOXES, *([MASKS] if has_masks else [])]
    expected, found = (run(file, feeds, names) for file in (graph, converted))
    for name, before, after in zip(names, expected, found, strict=True):
        same_shape = before.shape == after.shape
        difference = float(np.abs(before - after).mean() / (before.std() or 1)) if same_shape else np.inf
        if not difference < BROKEN_FROM:
            raise EngineError(
                f"ONNX Runtime's conversion changed {name}",
                found=f"a mean difference of {difference:.2g} standard deviations",
                remedy="write an .onnx file",
            )


def sample_inputs(options: ExportOptions, *, has_masks: bool = False) -> dict[str, NDArray[Any]]:
    """Noise as inputs for a graph with these options; `has_masks`: of a panoptic model."""
    random = np.random.default_rng(0)
    height, width = options.shape_hw or TRIAL_HW
    if options.end_to_end:
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        return {IMAGE: image, THRESHOLD: np.zeros(1, np.float32)}
    B = options.batch or 1
    pixels = {PIXELS: random.standard_normal((B, 3, height, width), np.float32)}
    mask: dict[str, NDArray[Any]] = {MASK: np.ones((B, height, width), np.int64)} if options.mask else {}
    points: dict[str, NDArray[Any]] = {POINTS: np.zeros((B, 1), np.int64)} if options.attention else {}
    threshold = {THRESHOLD: np.zeros(1, np.float32)} if options.attention or has_masks else {}  # every query is kept
    return {**pixels, **mask, **threshold, **points}


def run(file: Path, feeds: dict[str, NDArray[Any]], names: list[str]) -> Arrays:
    """The outputs of a plain session.

    Raises:
        EngineError: when the file does not load or run.
    """
    onnxruntime = import_onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(file), settings, providers=[CPU], disabled_optimizers=SLOWING_OPTIMIZERS
        )
        return list(session.run(names, feeds))
    except Exception as error:
        raise EngineError(
            f"ONNX Runtime cannot run what it wrote: {file.name}",
            found=first_line(error)[:200],
            remedy="write an .onnx file",
        ) from error
