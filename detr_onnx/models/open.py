"""From the name of a model to an engine that runs it.

    name ── locate ──► a checkpoint, a graph file, or both ── choose ──► an engine of `engines.table` ──► OpenModel

`load.py` opens it: an engine that runs graphs gets the checkpoint's graph from the cache, where it is written once.
Only "auto" chooses: an engine, provider or precision that was requested and is not available is an error, never a
fallback.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from detr_onnx.checkpoint.files import INDEX, WEIGHTS, weight_files, weights_file
from detr_onnx.defaults import DEFAULT_ENGINE, DEFAULT_MODEL, DEMO, DEMO_PANOPTIC, DEMOS
from detr_onnx.engines import Engine
from detr_onnx.engines.external_data import external_files
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.table import ENGINES, GRAPH_SUFFIXES, ONNX, PRECISIONS, EngineRow
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.hub import fetch
from detr_onnx.hub.names import is_hub_name
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.graph_cache import GRAPH
from detr_onnx.models.load import Opening, Source, load
from detr_onnx.models.metadata import check_config, check_labels
from detr_onnx.paths import exists, is_directory

PACKAGE = Path(__file__).parents[1]
DEMO_IMAGE = "demo-scene.jpg"
PANOPTIC_INDEX = "panoptic.safetensors.index.json"  # of the demo's weights and those of the mask head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to run: its engine, class names, how it wants its images; and the files of its weights."""

    engine: Engine
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    engine_name: str
    files: tuple[Path, ...] = ()

    def preprocessing_at(self, shortest_edge: int) -> Preprocessing:
        """The model's preprocessing with another length of the short side.

        Raises:
            UsageError: the network takes one size only and no mask.
        """
        canvas_hw = self.engine.canvas_hw
        if canvas_hw and not self.engine.batches_mixed_sizes:
            height, width = canvas_hw
            found = f"shortest_edge {shortest_edge}"
            raise UsageError(f"the model takes images of {height}x{width} only", found=found, remedy="leave it out")
        return replace(self.preprocessing.with_shortest_edge(shortest_edge), resize=True)


def open_model(
    model: str | os.PathLike[str],
    options: EngineOptions | None = None,
    *,
    config: Path | None = None,
    labels: tuple[str, ...] | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> OpenModel:
    """The model on the requested engine; see `Detector` for the arguments and errors."""
    options = options or EngineOptions()
    check_names(options)
    check_config(config)
    source = locate(model, offline=offline, cache_dir=cache_dir)
    row = choose(source, options)
    check_options(row, options)
    engine, names, preprocessing = load(row, Opening(source, options, config, labels, cache_dir))
    logger.info("running on %s", engine.title)
    names = names if labels is None else labels
    if engine.classes is not None:
        check_labels(names, engine.classes)
    return OpenModel(engine, names, preprocessing, row.name, tuple(model_files(source)))


def check_names(options: EngineOptions) -> None:
    """Raises UsageError for an engine or a precision that does not exist."""
    if options.engine not in (DEFAULT_ENGINE, *ENGINES):
        raise UsageError(
            "no such engine", found=repr(options.engine), expected=f"one of {', '.join((DEFAULT_ENGINE, *ENGINES))}"
        )
    if options.precision is not None and options.precision not in PRECISIONS:
        raise UsageError("no such precision", found=repr(options.precision), expected=f"one of {', '.join(PRECISIONS)}")


def check_options(row: EngineRow, options: EngineOptions) -> None:
    """Raises an error for options that exist, but not for this engine."""
    if options.precision is not None and options.precision not in row.precisions:
        able = [name for name, other in ENGINES.items() if options.precision in other.precisions]
        raise EngineError(
            f"engine {row.name} has no precision {options.precision}",
            expected=f"one of {', '.join(row.precisions)}",
            remedy=f"use engine {' or '.join(able)}",
        )
    rest = {name: value for name, value in options.given().items() if name not in row.options}
    if rest:
        raise UsageError(
            f"engine {row.name} does not take {' and '.join(rest)}",
            found=", ".join(rest.values()),
            remedy=row.instead_of_options,
        )


def locate(
    model: str | os.PathLike[str], *, offline: bool = False, cache_dir: str | os.PathLike[str] | None = None
) -> Source:
    """The files of a model: shipped, on disk, or downloaded from the hub.

    In a directory with both, the weights win and the graph is written from them: the graph there may belong to other
    weights, or lack the mask. Name the graph file to run it.

    Raises:
        UsageError: there is no model of that name.
        HubError: the hub has it, but it cannot be downloaded.
    """
    if not isinstance(model, str | os.PathLike):
        raise UsageError("the model is not a name or a path", found=f"a {type(model).__name__}", expected="a text")
    if model == DEMO_PANOPTIC:
        return Source(demo_directory() / PANOPTIC_INDEX, None)
    if model == DEMO:
        graph = demo_directory() / GRAPH
        return Source(demo_directory(), graph if graph.exists() else None)
    path, name = Path(model), os.fspath(model)
    is_folder = bool(name) and is_directory(path)
    if path.suffix.lower() in GRAPH_SUFFIXES and not is_folder:
        return Source(None, path)
    if is_folder and not any((path / name).exists() for name in (WEIGHTS, INDEX)):
        graphs = [graph for graph in (path / GRAPH, path / "onnx" / GRAPH) if graph.exists()]  # as transformers.js
        return Source(None, graphs[0]) if graphs else Source(path, None)
    if is_hub_name(name):
        path = fetch(name, offline=offline, cache_dir=cache_dir)
    elif not name or not exists(path):
        import difflib

        near = difflib.get_close_matches(name, (*DEMOS, DEFAULT_MODEL), 1)
        raise UsageError(
            f"there is no model {name[:200]!r}",
            expected='"demo", "demo-panoptic", a name of the hub such as facebook/detr-resnet-50, or a path',
            remedy=f"did you mean {near[0]}?" if near else "check the spelling",
        )
    return Source(path, None)


def model_files(source: Source) -> list[Path]:
    """The files with the weights of a model: its checkpoint's, else the graph and the data beside it."""
    if source.checkpoint is not None:
        return weight_files(weights_file(source.checkpoint))
    graph = source.graph or Path()
    return [graph, *external_files(graph)]


def demo_directory() -> Path:
    """The small trained model that ships with the package; in a checkout it is under weights/."""
    packaged = PACKAGE / "demo"
    return packaged if packaged.is_dir() else PACKAGE.parent / "weights" / "demo"


def demo_image() -> Path:
    """The scene that ships with the demo model; in a checkout it is under examples/."""
    packaged = PACKAGE / "demo" / DEMO_IMAGE
    return packaged if packaged.exists() else PACKAGE.parent / "examples" / DEMO_IMAGE


def choose(source: Source, options: EngineOptions) -> EngineRow:
    """The engine for a source: the requested one, or for "auto" the fastest installed one that can run it.

    Raises:
        EngineError: the requested engine does not read such files.
    """
    if options.engine != DEFAULT_ENGINE:
        row = ENGINES[options.engine]
        _check_reads(row, source)
        return row
    able = [row for row in ENGINES.values() if _reads(row, source) and _takes(row, options)]
    able = able or [row for row in ENGINES.values() if _reads(row, source)]  # `check_options` says why none can
    missing = {row.name: row.missing_packages(source.graph is not None) for row in able}
    row = next((row for row in able if not missing[row.name]), able[-1])  # the last one's error says what to install
    if row.graphs is None and row is not able[0]:
        reasons = ", ".join(f"{name} needs {' and '.join(missing[name])}" for name in missing if missing[name])
        logger.info("engine %s, which is slower: %s", row.name, reasons)
    return row


def _reads(row: EngineRow, source: Source) -> bool:
    if row.graphs is None or source.graph is None:
        return source.checkpoint is not None
    return source.graph.suffix.lower() in row.graphs.suffixes


def _takes(row: EngineRow, options: EngineOptions) -> bool:
    has_precision = options.precision is None or options.precision in row.precisions
    return has_precision and options.given().keys() <= row.options


def _check_reads(row: EngineRow, source: Source) -> None:
    if _reads(row, source):
        return
    if row.graphs is None:
        raise EngineError(
            f"engine {row.name} runs checkpoints",
            found=f"the graph {source.graph}",
            remedy="give the checkpoint's directory, or use another engine",
        )
    able = [other.name for other in ENGINES.values() if _reads(other, source)]
    raise EngineError(
        f"engine {row.name} reads {' and '.join(row.graphs.suffixes)} files",
        found=str(source.graph),
        remedy=f"give the {ONNX} file, or use engine {' or '.join(able)}",
    )
