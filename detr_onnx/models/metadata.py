"""Class names and preprocessing of a model, from the files beside it or the metadata inside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.checkpoint.load import Checkpoint, load_checkpoint
from detr_onnx.engines import Engine
from detr_onnx.engines.graph_engine import PREPROCESSING as METADATA_PREPROCESSING
from detr_onnx.engines.graph_engine import metadata_error, read_preprocessing
from detr_onnx.errors import CheckpointError, ModelFileError, UsageError
from detr_onnx.image.processor_config import Preprocessing, image_processor_fields
from detr_onnx.json_input import parse_object, read_object
from detr_onnx.network.config import DetrConfig
from detr_onnx.paths import exists, is_directory, is_file
from detr_onnx.text import is_text

CONFIG, PREPROCESSING, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"


@dataclass(frozen=True)
class Description:
    """The config.json and preprocessor_config.json of a model; None for a file that is not there."""

    config: Path | None
    preprocessing: Path | None

    @classmethod
    def of(cls, path: Path) -> Description:
        """The two files in a directory, or a config file and the other file beside it."""
        directory, config = (path, path / CONFIG) if is_directory(path) else (path.parent, path)
        processor = directory / PROCESSOR  # transformers 5; where it has an image processor, that one counts
        has_image_processor = is_file(processor) and image_processor_fields(read_object(processor)) is not None
        files = (config, processor if has_image_processor else directory / PREPROCESSING)
        return cls(*(file if is_file(file) else None for file in files))

    def read_config(self, labels: tuple[str, ...] | None = None) -> DetrConfig | None:
        """The config; None if there is no file. Raises CheckpointError if it is not a DETR's.

        Args:
            labels: names of the classes, in place of the file's.
        """
        return config_from_huggingface(read_object(self.config), str(self.config), labels) if self.config else None

    def read_preprocessing(self) -> Preprocessing:
        """The preprocessing of preprocessor_config.json, or DETR's defaults if there is no file."""
        file = self.preprocessing
        return Preprocessing.from_json(read_object(file), str(file)) if file else Preprocessing()


def read_model(
    path: Path, config: Path | None = None, labels: tuple[str, ...] | None = None
) -> tuple[Checkpoint, Preprocessing]:
    """A checkpoint and its preprocessing, by the given config or the files beside the weights.

    Args:
        path: of the weights, or their directory.
        config: a config.json or its directory.
        labels: names of the classes, in place of the config's.

    Raises:
        CheckpointError: the weights, config.json or preprocessor_config.json cannot be used.
        UsageError: there is no such config.
    """
    check_config(config)
    weights = weights_file(path)
    description = Description.of(config or weights.parent)
    preprocessing = description.read_preprocessing()
    return load_checkpoint(weights, description.read_config(labels)), preprocessing


def check_config(config: Path | None) -> None:
    """Raises UsageError for a config that is given and not there."""
    if config is not None and not exists(config):
        raise UsageError(f"there is no config {config}", expected="a config.json or its directory")


def describe_graph(
    graph: Path, engine: Engine, config: Path | None, labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Preprocessing]:
    """Class names and preprocessing of a graph: from the given config, its own metadata, or a config.json nearby.

    Names that are given win, and the others are not read.

    Raises:
        ModelFileError: none of them has the class names, or the metadata cannot be read.
    """
    metadata = engine.metadata or {}
    if config is None and "detr_onnx.config" in metadata:
        return _own_description(graph, metadata, labels)
    home = graph.parent.parent if graph.parent.name == "onnx" else graph.parent  # as transformers.js
    description = Description.of(config or home)
    names = labels or getattr(description.read_config(), "labels", None)
    if names is None:
        raise ModelFileError(
            f"{graph} does not contain its class names",
            found=f"no metadata of detr-onnx, and no {CONFIG} in {config or home}",
            remedy="give the config.json that belongs to it (config=…, --config …)",
        )
    return names, description.read_preprocessing()


def _own_description(
    graph: Path, metadata: Mapping[str, str], labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Preprocessing]:
    """Reads what `exporter.onnx_file.metadata` wrote; of the class names only if there are no others."""
    if labels is None:
        try:
            labels = DetrConfig.from_fields(
                parse_object(metadata.get("detr_onnx.config", ""), "detr_onnx.config")
            ).labels
        except CheckpointError as error:
            raise metadata_error(graph, error) from error
    return labels, read_preprocessing(graph, metadata.get(METADATA_PREPROCESSING, ""))


def class_names(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of the classes that a caller gave; None for the model's own.

    Raises:
        UsageError: they are not a list of names.
    """
    if labels is None:
        return None
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        wrong = [f"the text {labels!r}" if isinstance(labels, str) else repr(labels)]
    else:
        labels = tuple(labels)
        wrong = [repr(name) for name in labels if not is_text(name)]
    if wrong:
        raise UsageError("labels is not a list of names", found=wrong[0][:60], expected="a list of names")
    return tuple(labels)


def check_labels(labels: Sequence[str], classes: int) -> None:
    """Raises ModelFileError unless there is one name per class of the model."""
    if len(labels) != classes:
        raise ModelFileError(
            "the class names do not fit the model",
            found=f"{len(labels)} names for {classes} classes",
            remedy="give the config.json that belongs to it, or as many labels",
        )
