"""The settings of a job, on which all its rows depend: _job.json in its directory. Later runs must have the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detr_onnx.atomic import create_atomically
from detr_onnx.errors import OutputError
from detr_onnx.jobs.rows import Origin
from detr_onnx.jobs.shard import MAX_SHARDS
from detr_onnx.json_input import read_object
from detr_onnx.paths import exists, is_directory

if TYPE_CHECKING:
    from detr_onnx.detector import Detector

FILE = "_job.json"
SHOWN_NAMES = {
    "version": "detr-onnx", "model_sha256": "model", "labels": "labels", "class_names": "class names of the model",
}  # fmt: skip
"""The names of fields in messages, where they differ from the fields' own."""
UNCOMPARED = {"model"}  # the same weights may have several names


@dataclass(frozen=True)
class JobSettings:
    """What a job's rows depend on, and how it is laid out.

    Attributes:
        version: of detr-onnx.
        model: as it was named.
        model_sha256: see `Detector.sha256`.
        engine: "numpy", "onnxruntime" or "openvino".
        precision: what it computes in.
        preprocessing: as a preprocessor_config.json has it.
        class_names: the names of the classes, by id.
        masks: whether detections have masks: the model is panoptic.
        threshold: scores are above it.
        labels: the only labels in the rows; None for all.
        format: "ndjson" or "parquet".
        shards: how many shares the job has.
    """

    version: str
    model: str
    model_sha256: str
    engine: str
    precision: str
    preprocessing: dict[str, Any]
    class_names: list[str]
    masks: bool
    threshold: float
    labels: list[str] | None
    format: str
    shards: int

    @classmethod
    def of(
        cls,
        detector: Detector,
        model: str,
        threshold: float,
        labels: Sequence[str] | None,
        form: str,
        shards: int,
    ) -> JobSettings:
        """The settings of a job of this detector."""
        preprocessing = json.loads(json.dumps(detector.preprocessing.to_json()))  # lists for tuples, as when read
        return cls(
            **Origin.of(detector).fields(),
            model=model,
            preprocessing=preprocessing,
            class_names=[*detector.class_names],
            masks=detector.has_masks,
            threshold=float(threshold),
            labels=sorted(set(labels)) if labels is not None else None,
            format=form,
            shards=shards,
        )

    @property
    def origin(self) -> Origin:
        """The last fields of the rows."""
        return Origin(self.model_sha256, self.engine, self.precision, self.version)

    def metadata(self) -> dict[str, str]:
        """The settings as texts, for the metadata of a Parquet schema: values that are not texts become JSON."""
        values = {name: value for name, value in asdict(self).items() if name not in ("format", "shards")}
        return {f"detr_onnx.{n}": v if isinstance(v, str) else json.dumps(v) for n, v in values.items()}


def read_settings(directory: Path) -> JobSettings:
    """The settings of the job in a directory.

    Raises:
        OutputError: there is no job, or its settings are damaged.
    """
    file = directory / FILE
    if not exists(file):
        found = f"no {FILE}" if is_directory(directory) else "no such directory"
        raise OutputError(
            f"there is no job in {directory}", found=found, remedy="name the directory that detect -o wrote"
        )
    values = read_object(file, error=OutputError)
    names = {field.name for field in fields(JobSettings)}
    if set(values) != names:
        found = f"the fields {', '.join(values)}"[:300]
        raise OutputError(f"{file} is not a job of this version", found=found, remedy="choose another directory")
    if wrong := [name for name, value in values.items() if not _is_valid(name, value)]:
        found = f"{wrong[0]} {json.dumps(values[wrong[0]])[:200]}"
        raise OutputError(f"{file} is damaged", found=found, remedy="choose another directory")
    return JobSettings(**values)


def _is_valid(name: str, value: Any) -> bool:
    """Whether a setting may have this value."""
    if name == "preprocessing":
        return isinstance(value, dict)
    if name == "masks":
        return isinstance(value, bool)
    if name == "threshold":
        return type(value) in (int, float)
    if name == "shards":
        return type(value) is int and 1 <= value <= MAX_SHARDS
    if name in ("class_names", "labels"):
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return is_list or (name == "labels" and value is None)
    return isinstance(value, str)


def write_or_compare(directory: Path, settings: JobSettings) -> None:
    """Writes the settings of a new job, or compares them with those of the existing job.

    Raises:
        OutputError: the directory has a job with others; both are named.
        OSError: they cannot be written.
    """
    file = directory / FILE
    if not exists(file):
        create_atomically(file, (json.dumps(asdict(settings), indent=1) + "\n").encode())
    there = read_settings(directory)  # also after writing: another process may have been faster
    if different := differences(there, settings):
        raise OutputError(
            f"{directory} has the rows of another job",
            found=different[0],
            expected=different[1],
            remedy="choose another directory, or use the options of that job",
        )


def differences(found: JobSettings, expected: JobSettings) -> tuple[str, str] | None:
    """The settings that differ, as found and as expected, such as "threshold 0.5" and "threshold 0.4"; else None."""
    theirs, ours = asdict(found), asdict(expected)
    names = [name for name in ours if ours[name] != theirs[name] and name not in UNCOMPARED]
    if not names:
        return None
    return ", ".join(_shown(name, found) for name in names), ", ".join(_shown(name, expected) for name in names)


def _shown(name: str, settings: JobSettings) -> str:
    """A setting in a message: "model demo (sha256 1f0c…)", "threshold 0.5"."""
    if name == "model_sha256":
        return f"model {settings.model} (sha256 {settings.model_sha256[:12]}…)"
    value = getattr(settings, name)
    text = ",".join(value) if isinstance(value, list) else json.dumps(value) if isinstance(value, dict) else str(value)
    return f"{SHOWN_NAMES.get(name, name)} {text[:200] if value is not None else 'all'}"
