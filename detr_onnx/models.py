"""From what the user calls a model to an engine that runs it.

    name ── locate ──► a checkpoint, an .onnx file, or both ── choose ──► engine, labels, preprocessing

A checkpoint becomes a graph for ONNX Runtime once; the graph is kept in the cache under the digest of all it was made
of. Nothing asked for by name is ever replaced by something else: only "auto" chooses.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detr_onnx import __version__
from detr_onnx.cache import cached, sha256_of
from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError, EngineError, ModelFileError, UsageError
from detr_onnx.hub import fetch, is_hub_name
from detr_onnx.image import Preprocessing
from detr_onnx.network.checkpoint import Checkpoint, load_checkpoint, read_config, read_json, weights_file
from detr_onnx.network.config import DetrConfig

DEFAULT_MODEL = "facebook/detr-resnet-50"
ENGINES = ("auto", "numpy", "onnxruntime")
PRECISIONS = ("fp32",)
DEMO_PICTURE = "demo-scene.jpg"
GRAPH, CONFIG, PREPROCESSING = "model.onnx", "config.json", "preprocessor_config.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready: its engine, the names of its classes, how it wants its pictures."""

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
    providers: Sequence[str] | None = None,
    precision: str | None = None,
    threads: int | None = None,
    config: Path | None = None,
    labels: tuple[str, ...] | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> OpenModel:
    """The model on the engine that was asked for; see `Detector` for the arguments and errors."""
    _check_choice("engine", engine, ENGINES)
    if precision is not None:
        _check_choice("precision", precision, PRECISIONS)
    source = locate(model, offline=offline, cache_dir=cache_dir)
    chosen = choose(source, engine, providers)
    if chosen == "numpy":
        opened = _on_numpy(source, providers, threads)
    else:
        graph = source.graph or _built_graph(source.checkpoint, cache_dir)
        opened = _on_onnxruntime(graph, providers, threads, config, labels)
    logger.info("running on %s", opened.engine.title)
    return replace(opened, labels=labels) if labels else opened


def _check_choice(what: str, found: str, choices: Sequence[str]) -> None:
    if found not in choices:
        raise UsageError(f"no such {what}", found=repr(found), expected=f"one of {', '.join(choices)}")


def locate(
    model: str | os.PathLike[str], *, offline: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Source:
    """The files of a model: shipped, on disk, or fetched from the hub.

    Raises:
        UsageError: when there is nothing of that name anywhere.
        HubError: when the hub has it but it cannot be had.
    """
    if model == "demo":
        return Source(demo_directory(), demo_directory() / GRAPH)
    path, name = Path(model), os.fspath(model)
    if path.suffix == ".onnx" and not path.is_dir():
        return Source(None, path)
    if path.is_dir() and (path / GRAPH).exists() and not (path / "model.safetensors").exists():
        return Source(None, path / GRAPH)
    if not path.exists() and is_hub_name(name):
        path = fetch(name, offline=offline, cache_dir=cache_dir, progress=logger.info)
    elif not path.exists():
        near = difflib.get_close_matches(name, ("demo", DEFAULT_MODEL), 1)
        raise UsageError(
            f"there is no model {name!r}",
            expected='"demo", a name of the hub such as facebook/detr-resnet-50, or a path',
            remedy=f"did you mean {near[0]}?" if near else "check the spelling",
        )
    return Source(path, None)


def demo_directory() -> Path:
    """The small trained model that ships with the package; in a checkout it lies under weights/."""
    packaged = Path(__file__).with_name("demo")
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "weights" / "demo"


def demo_picture() -> Path:
    """The scene that ships with the demo model; in a checkout it lies under examples/."""
    packaged = Path(__file__).with_name("demo") / DEMO_PICTURE
    return packaged if packaged.exists() else Path(__file__).parent.parent / "examples" / DEMO_PICTURE


def choose(source: Source, engine: str, providers: Sequence[str] | None) -> str:
    """The engine to run a source on: the one asked for, or for "auto" the fastest that can run it here.

    Raises:
        EngineError: when what was asked for cannot run here.
    """
    can_write = importlib.util.find_spec("onnx") is not None
    if engine == "numpy" and source.checkpoint is None:
        raise EngineError(
            "engine numpy runs checkpoints",
            found=f"the graph {source.graph}",
            remedy="give the checkpoint's directory, or use engine onnxruntime",
        )
    if engine != "auto":
        return engine
    return "onnxruntime" if source.graph or can_write or providers else "numpy"


def _on_numpy(source: Source, providers: Sequence[str] | None, threads: int | None) -> OpenModel:
    from detr_onnx.engines.numpy import numpy_engine

    if providers or threads is not None:
        raise UsageError(
            "engine numpy has no providers and no threads of its own",
            found=f"providers {providers}, threads {threads}",
            remedy="set OMP_NUM_THREADS or OPENBLAS_NUM_THREADS before Python starts, or use engine onnxruntime",
        )
    checkpoint, preprocessing = read_model(source.checkpoint or Path())
    return OpenModel(numpy_engine(checkpoint), checkpoint.config.labels, preprocessing)


def read_model(path: Path) -> tuple[Checkpoint, Preprocessing]:
    """A checkpoint and how it wants its pictures.

    Raises:
        CheckpointError: when the weights, config.json or preprocessor_config.json cannot be used.
    """
    return load_checkpoint(path), read_preprocessing(weights_file(path).parent)


def read_preprocessing(directory: Path) -> Preprocessing:
    """What preprocessor_config.json says, or DETR's own where there is none."""
    file = directory / PREPROCESSING
    return Preprocessing.from_json(read_json(file), str(file)) if file.exists() else Preprocessing()


def _built_graph(checkpoint: Path | None, cache_dir: str | os.PathLike[str] | None) -> Path:
    """The cached graph of a checkpoint, written now if it was not there."""
    from detr_onnx.export import Form, write_onnx

    path = checkpoint or Path()

    def build(directory: Path) -> None:
        logger.info("writing the ONNX graph of %s, once", path)
        write_onnx(directory / GRAPH, *read_model(path), Form(), external_data=True)

    return cached(f"{digest(path)[:24]}-{__version__}-fp32", build, cache_dir=cache_dir) / GRAPH


def digest(checkpoint: Path) -> str:
    """One sha256 of the weights and of the configs beside them."""
    weights = weights_file(checkpoint)
    beside = [weights.parent / name for name in (CONFIG, PREPROCESSING)]
    whole = hashlib.sha256(sha256_of(weights).encode())
    for file in beside:
        whole.update(file.read_bytes() if file.exists() else b"-")
    return whole.hexdigest()


def _on_onnxruntime(
    graph: Path,
    providers: Sequence[str] | None,
    threads: int | None,
    config: Path | None,
    labels: tuple[str, ...] | None,
) -> OpenModel:
    from detr_onnx.engines.onnxruntime import onnxruntime_engine

    engine = onnxruntime_engine(graph, providers, threads)
    names, preprocessing = _description(graph, engine, config, labels)
    if engine.canvas_hw and not engine.batches_mixed_sizes:  # nothing says what is padding: fill the canvas instead
        preprocessing = replace(preprocessing, fixed_hw=engine.canvas_hw)
    return OpenModel(engine, names, preprocessing)


def _description(
    graph: Path, engine: Engine, config: Path | None, labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Preprocessing]:
    """Class names and preprocessing: from the config given, the file's own metadata, or a config.json nearby."""
    told = engine.metadata or {}
    directory = config if config is None or config.is_dir() else config.parent
    if directory is None and "detr_onnx.config" in told:
        return _own_description(graph, told["detr_onnx.config"], told["detr_onnx.preprocessing"])
    nearby = [directory] if directory else [graph.parent, graph.parent.parent]  # transformers.js: onnx/model.onnx
    found = next((place for place in nearby if (place / CONFIG).exists()), None)
    described = read_config(found) if found else None
    names = labels or (described.labels if described else None)
    if names is None:
        raise ModelFileError(
            f"{graph} does not say what its classes are called",
            found=f"no metadata of detr-onnx and no {CONFIG} in {' or '.join(map(str, nearby))}",
            remedy="give the config.json that belongs to it (config=…, --config …)",
        )
    return names, read_preprocessing(found) if found else Preprocessing()


def _own_description(graph: Path, config: str, preprocessing: str) -> tuple[tuple[str, ...], Preprocessing]:
    """What `export.metadata` wrote, read back."""
    try:
        labels = DetrConfig.from_fields(json.loads(config)).labels
        return labels, Preprocessing.from_json(json.loads(preprocessing), f"{graph}, metadata")
    except (ValueError, KeyError, TypeError, CheckpointError) as error:
        raise ModelFileError(
            f"{graph} has metadata that cannot be read", found=str(error), remedy="export the file again"
        ) from error
