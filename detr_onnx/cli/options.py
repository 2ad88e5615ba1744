"""The longer commands of the command line, a file each, and what they share."""

from __future__ import annotations

from argparse import Namespace
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
        shortest_edge=arguments.size,
        config=arguments.config,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )
