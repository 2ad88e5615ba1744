"""Options that several commands share, each defined once, and the detector that they describe."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import checked_number
from detr_onnx.defaults import DEFAULT_ENGINE, DEFAULT_MODEL, DEFAULT_THRESHOLD, ENGINES
from detr_onnx.errors import UsageError
from detr_onnx.labels import known_labels, listed_labels

if TYPE_CHECKING:
    from detr_onnx.detector import Detector

PROVIDERS_HELP = """ONNX Runtime's execution providers in order of preference, with their options, such as CUDA
or TensorRT:trt_fp16_enable=True:device_id=1,CUDA; as JSON where a value contains a comma or a colon"""

OUTPUT_FORMATS = ("json", "ndjson", "coco", "table")
DEMO_NOTE = "the demo model recognises drawings only; for photographs, run detr-onnx detect -m %s IMAGE"


def add_model(parser: ArgumentParser) -> None:
    """`--model`."""
    parser.add_argument(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        help='"demo", "demo-panoptic", a Hugging Face model id, a directory, or a .safetensors, .onnx, .ort or .xml '
        "file (default: %(default)s)",
    )


def add_engine_options(parser: ArgumentParser) -> None:
    """`--engine`, how it runs, `--size` and `--verbose`."""
    add = parser.add_argument
    add("--engine", default=DEFAULT_ENGINE, help=f"{', '.join(ENGINES[:-1])} or {ENGINES[-1]} (default: %(default)s)")
    add("--providers", metavar="A,B", help=PROVIDERS_HELP)
    add(
        "--precision",
        help="fp32; openvino: also bf16-mixed, bf16-backbone, bf16; onnxruntime: those of export, and bf16 on ARM64 "
        "processors with the flag bf16 (default: the engine's best)",
    )
    add("--threads", type=int, metavar="N", help="threads of onnxruntime or openvino (default: the engine's choice)")
    add("--size", type=int, metavar="PX", help="length of the short side of resized images (default: the model's)")
    add_verbose(parser)


def add_source_options(parser: ArgumentParser) -> None:
    """`--config`, `--offline` and `--cache-dir`: where the model's files come from."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="config.json for a model that has none beside it")
    parser.add_argument("--offline", action="store_true", help="use downloaded models only")
    add_cache_dir(parser)


def add_cache_dir(parser: ArgumentParser) -> None:
    """`--cache-dir`."""
    parser.add_argument("--cache-dir", metavar="DIR", help="keep models and graphs here, not in the default caches")


def add_verbose(parser: ArgumentParser) -> None:
    """`--verbose`."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log progress and details to stderr")


def add_threshold(parser: ArgumentParser, default: float = DEFAULT_THRESHOLD) -> None:
    """`--threshold`."""
    parser.add_argument(
        "--threshold", type=float, default=default, metavar="SCORE",
        help="keep detections whose score is above this (default: %(default)s)",
    )  # fmt: skip


def add_detection_output(parser: ArgumentParser, formats: Sequence[str] = OUTPUT_FORMATS) -> None:
    """`--threshold`, `--labels`, `--format` and `--save`: which detections are shown, and how."""
    add_threshold(parser)
    parser.add_argument("--labels", action="append", metavar="CAT,DOG", help="keep only these classes; repeatable")
    parser.add_argument("--format", choices=formats,
        help="default: json, the hosted API's form, for one image; ndjson for several")  # fmt: skip
    parser.add_argument(
        "--save", metavar="PATH", help="write the annotated image to this file, or several to this directory"
    )


def given_options(arguments: Namespace, *add_arguments: Callable[[ArgumentParser], None]) -> list[str]:
    """The options that these functions add and whose values are not the defaults, such as ["--engine", "--size"].

    `--verbose` is none of them, as it goes with everything.
    """
    parser = ArgumentParser()
    for add in add_arguments:
        add(parser)
    defaults = vars(parser.parse_args([])).items()
    names = [name for name, default in defaults if name != "verbose" and getattr(arguments, name) != default]
    return [f"--{name.replace('_', '-')}" for name in names]


def parse_labels(texts: Sequence[str], known: Sequence[str], *, option: str = "--labels") -> list[str]:
    """The labels that an option names: each text is one of the model's labels, or several separated by commas.

    Raises:
        UsageError: there are none, or the model lacks one; the message suggests the most similar label.
    """
    parts = [[text] if text in known else [part.strip() for part in text.split(",")] for text in texts]
    labels = [label for part in parts for label in part if label]
    if not labels:
        raise UsageError(f"{option} names no label", expected=f"some of {listed_labels(known)}")
    return known_labels(labels, known)


def chosen_labels(arguments: Namespace, detector: Detector) -> list[str] | None:
    """The labels of `--labels`; None for all."""
    return parse_labels(arguments.labels, detector.class_names) if arguments.labels is not None else None


def add_batch(parser: ArgumentParser) -> None:
    """`--batch`; see `check_batch`."""
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="images per run of the network (default: %(default)s)"
    )


def check_batch(batch: int) -> None:
    """Raises UsageError for a batch below 1."""
    checked_number("the batch", batch, "a number of images from 1 up")


def open_detector(arguments: Namespace) -> Detector:
    """The detector that the model, engine and source options describe.

    Raises:
        DetrError: as `Detector`, with the names of the command line's options.
    """
    from detr_onnx.detector import Detector
    from detr_onnx.engines.providers import parse_providers
    from detr_onnx.image.processor_config import LARGEST_SIDE_PX

    if arguments.size is not None:
        checked_number("--size", arguments.size, f"a number of pixels from 1 to {LARGEST_SIDE_PX}", LARGEST_SIDE_PX)
    providers = arguments.providers
    return Detector(
        arguments.model,
        engine=arguments.engine,
        providers=parse_providers(providers) if providers is not None else None,
        precision=arguments.precision,
        threads=arguments.threads,
        shortest_edge=arguments.size,
        config=arguments.config,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )
