"""What the files beside a model, or the metadata inside it, say of its classes and of how it wants its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.checkpoint.files import weights_file
from detr_onnx.checkpoint.load import Checkpoint, load_checkpoint
from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError, ModelFileError
from detr_onnx.image.preprocess import Preprocessing
from detr_onnx.json_input import parse_object, read_object
from detr_onnx.network.config import DetrConfig, config_from_huggingface

CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"


@dataclass(frozen=True)
class Description:
    """What says how a model is to be read: its config.json and its preprocessor_config.json, where they are there."""

    config: Path | None
    preprocessing: Path | None

    @classmethod
    def of(cls, place: Path) -> Description:
        """The two files of a directory, or a config file and the other beside it."""
        directory, config = (place, place / CONFIG) if place.is_dir() else (place.parent, place)
        files = (config, directory / PREPROCESSING)
        return cls(*(file if file.is_file() else None for file in files))

    def read_config(self) -> DetrConfig | None:
        """The config, or None where no file tells it; CheckpointError when it is no DETR's."""
        return config_from_huggingface(read_object(self.config), str(self.config)) if self.config else None

    def read_preprocessing(self) -> Preprocessing:
        """What preprocessor_config.json says, or DETR's own where there is none."""
        file = self.preprocessing
        return Preprocessing.from_json(read_object(file), str(file)) if file else Preprocessing()


def read_model(path: Path, config: Path | None = None) -> tuple[Checkpoint, Preprocessing]:
    """A checkpoint and how it wants its images, as the config given or the files beside the weights say.

    Raises:
        CheckpointError: when the weights, config.json or preprocessor_config.json cannot be used.
    """
    weights = weights_file(path)
    described = Description.of(config or weights.parent)
    preprocessing = described.read_preprocessing()
    return load_checkpoint(weights, described.read_config()), preprocessing


def describe_graph(
    graph: Path, engine: Engine, config: Path | None, labels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], Preprocessing]:
    """Class names and preprocessing: from the config given, the file's own metadata, or a config.json nearby."""
    told = engine.metadata or {}
    if config is None and "detr_onnx.config" in told:
        return _own_description(graph, told)
    home = graph.parent.parent if graph.parent.name == "onnx" else graph.parent  # transformers.js: onnx/model.onnx
    described = Description.of(config or home)
    names = labels or getattr(described.read_config(), "labels", None)
    if names is None:
        raise ModelFileError(
            f"{graph} does not say what its classes are called",
            found=f"no metadata of detr-onnx and no {CONFIG} in {config or home}",
            remedy="give the config.json that belongs to it (config=…, --config …)",
        )
    return names, described.read_preprocessing()


def _own_description(graph: Path, told: Mapping[str, str]) -> tuple[tuple[str, ...], Preprocessing]:
    """What `export.metadata` wrote, read back."""
    try:
        labels = DetrConfig.from_fields(parse_object(told["detr_onnx.config"], "detr_onnx.config")).labels
        preprocessing = parse_object(told["detr_onnx.preprocessing"], "detr_onnx.preprocessing")
        return labels, Preprocessing.from_json(preprocessing, f"the metadata of {graph}")
    except (ValueError, LookupError, TypeError, AttributeError, CheckpointError) as error:
        raise ModelFileError(
            f"{graph} has metadata that cannot be read", found=str(error), remedy="export the file again"
        ) from error


def check_labels(labels: Sequence[str], classes: int) -> None:
    """Raises ModelFileError unless there is a name for each class of the model."""
    if len(labels) != classes:
        raise ModelFileError(
            "the names of the classes do not fit the model",
            found=f"{len(labels)} names for {classes} classes",
            remedy="give the config.json that belongs to it, or as many labels",
        )
