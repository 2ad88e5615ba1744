"""From what the user calls a model to an engine that runs it.

    name ── locate ──► a checkpoint, an .onnx file, or both ── choose ──► engine, labels, preprocessing

A checkpoint becomes a graph for ONNX Runtime and OpenVINO once; the graph is kept in the cache under the digest of all
it was made of. Nothing asked for by name is ever replaced by something else: only "auto" chooses.
"""

from __future__ import annotations

import difflib
import importlib.util
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from detr_onnx.defaults import DEFAULT_MODEL, ENGINES, EXPORT_PRECISIONS
from detr_onnx.engines import Engine
from detr_onnx.engines.openvino import BF16_BACKBONE, HINTS, has_bfloat16
from detr_onnx.engines.optimized import check_probe
from detr_onnx.engines.providers import ProviderSpec, check_form, provider_names, takes_fused_attention
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.hub import fetch, is_hub_name
from detr_onnx.image.preprocess import Preprocessing
from detr_onnx.models.graph_cache import AS_IT_IS, GRAPH, GraphFormat, built_graph, openvino_format, optimized
from detr_onnx.models.metadata import check_labels, describe_graph, read_model

PACKAGE = Path(__file__).parents[1]
PRECISIONS = {"numpy": ("fp32",), "onnxruntime": EXPORT_PRECISIONS, "openvino": tuple(HINTS)}
DEMO_IMAGE = "demo-scene.jpg"
OWN_FORMATS = {".ort": "onnxruntime", ".xml": "openvino"}  # which one engine alone reads
GRAPH_SUFFIXES = (".onnx", *OWN_FORMATS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready: its engine, the names of its classes, how it wants its images."""

    engine: Engine
    labels: tuple[str, ...]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Source:
    """Where a model lies: its checkpoint, its graph, or both."""

    checkpoint: Path | None
    graph: Path | None


def open_model(
    model: str | os.PathLike[str],
    *,
    engine: str = "auto",
    providers: ProviderSpec | None = None,
    precision: str | None = None,
    threads: int | None = None,
    config: Path | None = None,
    labels: tuple[str, ...] | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> OpenModel:
    """The model on the engine that was asked for; see `Detector` for the arguments and errors."""
    if engine not in ENGINES:
        raise UsageError("no such engine", found=repr(engine), expected=f"one of {', '.join(ENGINES)}")
    if threads is not None and threads < 1:
        raise UsageError("the number of threads is wrong", found=str(threads), expected="a number from 1 up")
    if config is not None and not config.exists():
        raise UsageError(f"there is no config {config}", expected="a config.json or its directory")
    if providers is not None:
        check_form(providers)
    source = locate(model, offline=offline, cache_dir=cache_dir)
    chosen = choose(source, engine, providers)
    _check_precision(chosen, precision)
    if chosen == "numpy":
        opened = _on_numpy(source, providers, threads, config)
    else:
        opened = _on_graph(source, chosen, providers, precision, threads, config, labels, cache_dir)
    logger.info("running on %s", opened.engine.title)
    opened = opened if labels is None else replace(opened, labels=labels)
    if opened.engine.classes is not None:
        check_labels(opened.labels, opened.engine.classes)
    return opened


def _check_precision(engine: str, asked: str | None) -> None:
    """Raises EngineError for a precision that the engine does not have, UsageError for one that none has."""
    known = list(dict.fromkeys(precision for some in PRECISIONS.values() for precision in some))
    if asked is not None and asked not in known:
        raise UsageError("no such precision", found=repr(asked), expected=f"one of {', '.join(known)}")
    if asked is not None and asked not in PRECISIONS[engine]:
        able = [name for name, some in PRECISIONS.items() if asked in some]
        raise EngineError(
            f"engine {engine} has no precision {asked}",
            found=", ".join(PRECISIONS[engine]),
            remedy=f"use engine {' or '.join(able)}",
        )


def _check_needs_no_images(precision: str, checkpoint: Path | None) -> None:
    """Raises EngineError for a precision that only an exported file can have."""
    if precision == "int8":
        raise EngineError(
            "int8 needs images to be calibrated with",
            found=f"the checkpoint {checkpoint} alone",
            remedy="run detr-onnx export with --precision int8 --calibrate DIR, and name the file it writes",
        )


def locate(
    model: str | os.PathLike[str], *, offline: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Source:
    """The files of a model: shipped, on disk, or fetched from the hub.

    Of a directory that has both, the weights count, and the graph is written from them: one that somebody left there
    may be of other weights, or lack the mask. To run it, name the file.

    Raises:
        UsageError: when there is nothing of that name anywhere.
        HubError: when the hub has it but it cannot be had.
    """
    if model == "demo":
        graph = demo_directory() / GRAPH
        return Source(demo_directory(), graph if graph.exists() else None)
    path, name = Path(model), os.fspath(model)
    is_directory = bool(name) and os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for overlong names
    if path.suffix.lower() in GRAPH_SUFFIXES and not is_directory:
        return Source(None, path)
    if is_directory and not (path / "model.safetensors").exists():
        graphs = [graph for graph in (path / GRAPH, path / "onnx" / GRAPH) if graph.exists()]  # transformers.js's place
        return Source(None, graphs[0]) if graphs else Source(path, None)
    if is_hub_name(name):
        path = fetch(name, offline=offline, cache_dir=cache_dir, progress=logger.info)
    elif not name or not os.path.exists(path):  # noqa: PTH110 - as above
        near = difflib.get_close_matches(name, ("demo", DEFAULT_MODEL), 1)
        raise UsageError(
            f"there is no model {name[:200]!r}",
            expected='"demo", a name of the hub such as facebook/detr-resnet-50, or a path',
            remedy=f"did you mean {near[0]}?" if near else "check the spelling",
        )
    return Source(path, None)


def demo_directory() -> Path:
    """The small trained model that ships with the package; in a checkout it lies under weights/."""
    packaged = PACKAGE / "demo"
    return packaged if packaged.is_dir() else PACKAGE.parent / "weights" / "demo"


def demo_image() -> Path:
    """The scene that ships with the demo model; in a checkout it lies under examples/."""
    packaged = PACKAGE / "demo" / DEMO_IMAGE
    return packaged if packaged.exists() else PACKAGE.parent / "examples" / DEMO_IMAGE


def choose(source: Source, engine: str, providers: ProviderSpec | None) -> str:
    """The engine to run a source on: the one asked for, or for "auto" the fastest that can run it here.

    Raises:
        EngineError: when what was asked for cannot run here.
    """
    if engine == "numpy" and source.checkpoint is None:
        raise EngineError(
            "engine numpy runs checkpoints",
            found=f"the graph {source.graph}",
            remedy="give the checkpoint's directory, or use another engine",
        )
    only = OWN_FORMATS.get(source.graph.suffix.lower()) if source.graph else None
    if only is not None and engine not in ("auto", only):
        raise EngineError(
            f"engine {engine} runs .onnx files",
            found=str(source.graph),
            remedy=f"give the .onnx file, or use engine {only}",
        )
    if only is not None:
        return only
    if engine != "auto":
        return engine
    lacking = [package for package in ("onnxruntime", "onnx") if not _installed(package)]
    can_have_graph = source.graph is not None or "onnx" not in lacking
    if providers is None and can_have_graph and _installed("openvino"):
        return "openvino"
    if source.checkpoint is None or providers is not None or (can_have_graph and "onnxruntime" not in lacking):
        return "onnxruntime"
    logger.info("without the package %s the engine is numpy, which is slower", " and ".join(lacking))
    return "numpy"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _on_numpy(source: Source, providers: ProviderSpec | None, threads: int | None, config: Path | None) -> OpenModel:
    from detr_onnx.engines.numpy import numpy_engine

    if providers is not None or threads is not None:
        asked = provider_names(providers) if providers is not None else f"{threads} threads"
        raise UsageError(
            "engine numpy has no providers and no threads of its own",
            found=asked,
            remedy="set OMP_NUM_THREADS or OPENBLAS_NUM_THREADS before Python starts, or use engine onnxruntime",
        )
    checkpoint, preprocessing = read_model(source.checkpoint or Path(), config)
    return OpenModel(numpy_engine(checkpoint), checkpoint.config.labels, preprocessing)


def _on_graph(
    source: Source,
    engine: str,
    providers: ProviderSpec | None,
    precision: str | None,
    threads: int | None,
    config: Path | None,
    labels: tuple[str, ...] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> OpenModel:
    """The source's graph, or one written from its checkpoint, on ONNX Runtime or OpenVINO."""
    kept = precision if engine == "onnxruntime" and precision else "fp32"  # OpenVINO converts as it loads
    if kept != "fp32" and source.checkpoint is not None:  # the demo's graph is fp32: another is written
        _check_needs_no_images(kept, source.checkpoint)
        source = replace(source, graph=None)
    laid_out = source.graph is None and (engine, kept, providers) == ("onnxruntime", "fp32", None)
    fused = engine == "onnxruntime" and takes_fused_attention(providers)
    graph = source.graph or built_graph(
        source.checkpoint or Path(), config, cache_dir, kept, fused, _finish(engine, precision, laid_out)
    )
    running = _graph_engine(engine, graph, providers, precision, threads)
    if laid_out:
        check_probe(running, graph)
    return _described(graph, running, config if source.graph else None, labels)


def _finish(engine: str, precision: str | None, laid_out: bool) -> GraphFormat:
    """What a new graph is finished for: ONNX Runtime's layout, or OpenVINO where it computes something in bfloat16."""
    if laid_out:
        return optimized()
    in_bfloat16 = engine == "openvino" and precision != "fp32" and has_bfloat16()
    return openvino_format(precision or BF16_BACKBONE) if in_bfloat16 else AS_IT_IS


def _graph_engine(
    name: str, graph: Path, providers: ProviderSpec | None, precision: str | None, threads: int | None
) -> Engine:
    """The graph on ONNX Runtime or OpenVINO."""
    if name == "onnxruntime":
        from detr_onnx.engines.onnxruntime import onnxruntime_engine

        engine = onnxruntime_engine(graph, providers, threads)
        told = (engine.metadata or {}).get("detr_onnx.precision", precision)
        if precision is not None and told != precision:
            remedy = "export it in that precision"
            raise EngineError(f"the graph does not have precision {precision}", found=told, remedy=remedy)
        return engine
    from detr_onnx.engines.openvino import openvino_engine

    if providers is not None:
        remedy = "use engine onnxruntime"
        raise UsageError("engine openvino has no providers", found=provider_names(providers), remedy=remedy)
    return openvino_engine(graph, precision, threads)


def _described(graph: Path, engine: Engine, config: Path | None, labels: tuple[str, ...] | None) -> OpenModel:
    """The engine with what its graph says of classes and images."""
    names, preprocessing = describe_graph(graph, engine, config, labels)
    if engine.canvas_hw and not engine.batches_mixed_sizes:  # nothing says what is padding: fill the canvas instead
        preprocessing = replace(preprocessing, fixed_hw=engine.canvas_hw)
    return OpenModel(engine, names, preprocessing)
