"""Class names of a config or a graph, and those of a caller in their place: `Detector(labels=…)`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detr_onnx import Detector
from detr_onnx.engines import Engine
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import CheckpointError, ModelFileError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import describe_graph
from detr_onnx.models.open import open_model
from tests.small_model import CONFIG, LABELS, write_foreign_onnx

OWN = tuple("abcdefg")
ENGINES = ("numpy", "onnxruntime")  # one that runs the checkpoint, and one that runs a cached graph
COUNT = len(LABELS)

NOT_NAMES: dict[str, Any] = {
    "null": {str(i): None for i in range(COUNT)},
    "one null": {**{str(i): name for i, name in enumerate(LABELS)}, "3": None},
    "true": {str(i): True for i in range(COUNT)},
    "nested": {str(i): {"name": name} for i, name in enumerate(LABELS)},
    "lists": {str(i): [name] for i, name in enumerate(LABELS)},
    "by name": {name: i for i, name in enumerate(LABELS)},
    "a list": [*LABELS],
    "a text": "cat",
    "nothing": {},
    "a number": 7,
}
"""Values of id2label that transformers refuses, or passes on although they are not names."""

ODD_NAMES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "from 1": ({str(i + 1): name for i, name in enumerate(LABELS)}, ("LABEL_0", *LABELS[:-1])),
    "with gaps": ({str(i * 2): name for i, name in enumerate(LABELS)},
                  (LABELS[0], "LABEL_1", LABELS[1], "LABEL_3", LABELS[2], "LABEL_5", LABELS[3])),
    "numbers": ({str(i): i for i in range(COUNT)}, tuple("0123456")),
}  # fmt: skip
"""Values that transformers accepts, and the names."""


@pytest.fixture(params=ENGINES)
def options(request, monkeypatch, tmp_path) -> EngineOptions:
    pytest.importorskip(request.param)
    if request.param != "numpy":
        pytest.importorskip("onnx")
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    return EngineOptions(request.param)


def with_id2label(small: Path, directory: Path, id2label: Any) -> Path:
    """The small model with another id2label, and without label2id."""
    shutil.copytree(small, directory)
    fields = json.loads((directory / "config.json").read_text())
    del fields["label2id"]
    (directory / "config.json").write_text(json.dumps({**fields, "id2label": id2label}))
    return directory


@pytest.mark.parametrize("name", NOT_NAMES)
def test_names_of_the_caller_win_over_what_is_not_a_name_and_without_them_it_is_refused(name, options, small, tmp_path):
    model = with_id2label(small, tmp_path / "model", NOT_NAMES[name])
    refusals = []
    for _ in range(2):  # the second time, the graph is in the cache
        with pytest.raises(
            CheckpointError, match=r"config.json: id2label does not (name class|number the classes)"
        ) as e:
            open_model(model, options)
        refusals.append(str(e.value))
        assert open_model(model, options, labels=OWN).labels == OWN
    assert refusals[0] == refusals[1]
    assert len(refusals[0]) < 500


@pytest.mark.parametrize("id2label", [None, *(value for value, _ in ODD_NAMES.values())])
def test_names_of_the_caller_win_over_odd_names(id2label, options, small, tmp_path):
    model = with_id2label(small, tmp_path / "model", id2label)
    for _ in range(2):
        assert open_model(model, options, labels=OWN).labels == OWN


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_transformers_accepts_works(name, options, small, tmp_path):
    id2label, labels = ODD_NAMES[name]
    model = with_id2label(small, tmp_path / "model", id2label)
    for _ in range(2):
        assert open_model(model, options).labels == labels


def test_null_means_two_classes_as_in_transformers(options, small, tmp_path):
    model = with_id2label(small, tmp_path / "model", None)
    with pytest.raises(CheckpointError, match="does not fit its config"):
        open_model(model, options)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_names_of_a_caller_are_not_those_of_the_next_one(engine, small, tmp_path):
    pytest.importorskip(engine)
    for labels, expected in ((OWN, OWN), (None, LABELS), (OWN, OWN), (None, LABELS)):
        assert open_model(small, EngineOptions(engine), labels=labels, cache_dir=tmp_path).labels == expected


@pytest.mark.parametrize("labels", [(), ("cat",), (*OWN, "more")])
@pytest.mark.parametrize("name", ["null", "a list"])
def test_a_wrong_number_of_names_is_an_error(name, labels, options, small, tmp_path):
    model = with_id2label(small, tmp_path / "model", NOT_NAMES[name])
    with pytest.raises((ModelFileError, CheckpointError), match=r"do not fit the model|does not fit its config"):
        open_model(model, options, labels=labels)


@pytest.mark.parametrize("name", ["null", "nested", "a list"])
def test_the_config_beside_a_foreign_graph_is_not_read_for_names(name, small, tmp_path):
    graph = write_foreign_onnx(tmp_path / "model.onnx", small, ExportOptions(mask=False))
    config = with_id2label(small, tmp_path / "described", NOT_NAMES[name]) / "config.json"
    shutil.copy(config, tmp_path)
    assert open_model(graph, labels=OWN).labels == OWN
    assert open_model(graph, config=config, labels=OWN).labels == OWN
    with pytest.raises(CheckpointError, match="id2label"):
        open_model(graph)


@pytest.mark.parametrize("labels", [[None] * COUNT, [1] * COUNT, [], None, {"0": "cat"}, "cat", [["cat"]]])
def test_metadata_of_a_graph_whose_names_are_none(labels, tmp_path):
    fields = json.dumps({**CONFIG.to_fields(), "labels": labels})
    metadata = {"detr_onnx.config": fields, "detr_onnx.preprocessing": json.dumps(Preprocessing().to_json())}
    engine = Engine("a test", lambda pixels, mask: (pixels, pixels), metadata=metadata)
    assert describe_graph(tmp_path / "model.onnx", engine, None, OWN) == (OWN, Preprocessing())
    with pytest.raises(ModelFileError, match="has metadata that cannot be read"):
        describe_graph(tmp_path / "model.onnx", engine, None, None)


@pytest.mark.parametrize("labels", ["cat", [1], ["cat", None], [["cat"]]])
def test_names_of_the_caller_are_texts(labels):
    with pytest.raises(UsageError, match="labels is not a list of names"):
        Detector("demo", labels=labels)
