"""The longer commands of the command line, a file each, and what they share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detr_onnx.detector import Detector


def open_detector(arguments: Namespace) -> Detector:
    """The detector that the options describe."""
    from detr_onnx.detector import Detector
    from detr_onnx.engines.providers import parse_providers

    providers = arguments.providers
    return Detector(
        arguments.model,
        engine=arguments.engine,
        providers=parse_providers(providers) if providers is not None else None,
        precision=arguments.precision,
        threads=arguments.threads,
        size=arguments.size,
        config=arguments.config,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )


def add_model(parser: ArgumentParser) -> None:
    """`--model`."""
    default = "facebook/detr-resnet-50"
    parser.add_argument("-m", "--model", default=default, help="the local model (default: %(default)s)")


def add_engine_options(parser: ArgumentParser) -> None:
    """`--engine`, how it runs, `--size` and `--verbose`."""
    parser.add_argument("--engine", default="auto", help="auto, numpy, onnxruntime or openvino (default: auto)")
    parser.add_argument("--providers", metavar="A,B", help="ONNX Runtime's execution providers")
    parser.add_argument("--precision", help="default: the engine's best")
    parser.add_argument("--threads", type=int, metavar="N", help="threads within one operation")
    parser.add_argument("--size", type=int, metavar="PX", help="scale images to this length of the short side")
    parser.add_argument("-v", "--verbose", action="store_true", help="log progress and details to stderr")


def add_source_options(parser: ArgumentParser) -> None:
    """`--config`, `--offline` and `--cache-dir`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="config.json for a model that has none beside it")
    parser.add_argument("--offline", action="store_true", help="do not contact the hub")
    parser.add_argument("--cache-dir", metavar="DIR", help="directory for cached models")
