"""An .ort file agrees with its .onnx file, keeps the metadata, and comes with the configuration for a build."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from detr_onnx import Detector
from detr_onnx.errors import EngineError, OutputError
from detr_onnx.exporter import ort_file
from detr_onnx.exporter.onnx_file import ExportOptions, metadata, write_onnx
from detr_onnx.exporter.ort_file import write_ort
from detr_onnx.models.metadata import read_model
from tests.cli.command_line import complaint, outcome
from tests.small_model import sample_image

pytest.importorskip("onnx")

# Of scores and of boxes in pixels: without blocked channels, convolutions sum in another order.
SCORES_TOLERANCE = 1e-5
BOXES_TOLERANCE = 1e-3

OPTIONS = {
    "any size, mask": ExportOptions(),
    "one size, no mask": ExportOptions(shape_hw=(64, 85), mask=False, batch=1),
    "two images": ExportOptions(shape_hw=(64, 85), batch=2),
    "fused attention": ExportOptions(fused_attention=True),
    "fp16": ExportOptions(precision="fp16"),
    "int8-weights": ExportOptions(precision="int8-weights"),
    "end to end": ExportOptions(end_to_end=True),
}


@pytest.fixture(scope="module")
def ort(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .ort file of `small`, alone with its configuration."""
    path = tmp_path_factory.mktemp("ort") / "small.ort"
    write_ort(path, *read_model(small), ExportOptions())
    return path


def test_a_detector_finds_the_same_in_either_format(ort: Path, graph: Path) -> None:
    expected, found = (Detector(file, engine="onnxruntime")(sample_image(90, 60), 0.0) for file in (graph, ort))
    assert [d.label for d in found] == [d.label for d in expected]
    np.testing.assert_allclose(found.scores, expected.scores, atol=SCORES_TOLERANCE)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=BOXES_TOLERANCE)


def test_auto_chooses_onnx_runtime_even_if_openvino_is_installed(ort: Path) -> None:
    assert Detector(ort).engine == "onnxruntime"


@pytest.mark.parametrize("engine", ["openvino", "numpy"])
def test_other_engines_refuse_it(ort: Path, engine: str) -> None:
    with pytest.raises(EngineError, match=rf"engine {engine} (runs|reads) .*small\.ort"):
        Detector(ort, engine=engine)


def test_it_keeps_the_metadata(ort: Path, small: Path) -> None:
    session = onnxruntime.InferenceSession(str(ort), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == metadata(*read_model(small), "fp32")


def test_the_configuration_beside_it_names_the_operators_and_no_path(ort: Path) -> None:
    assert sorted(file.name for file in ort.parent.iterdir()) == ["small.ort", "small.required_operators.config"]
    lines = (ort.parent / "small.required_operators.config").read_text().splitlines()
    assert lines[:2] == ["# Generated from model/s:", "# - small.ort"]
    operators = {name for line in lines[2:] for name in line.split(";")[2].split(",")}
    assert {"Conv", "MaxPool", "MatMul", "Softmax", "LayerNormalization"} <= operators


def test_it_has_no_operators_of_a_certain_processor(ort: Path) -> None:
    text = (ort.parent / "small.required_operators.config").read_text()
    assert {line.split(";")[0] for line in text.splitlines()[2:]} <= {"ai.onnx", "com.microsoft"}  # com.microsoft.nchwc


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_graph_can_be_converted(options: ExportOptions, small: Path, tmp_path: Path) -> None:
    write_ort(tmp_path / "model.ort", *read_model(small), options)
    assert {file.name for file in tmp_path.iterdir()} == {"model.ort", "model.required_operators.config"}


@pytest.mark.parametrize("words", [["--format", "ort"], []])
def test_the_command_line_writes_it(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    path = tmp_path / "model.ort"
    assert outcome(["export", small, "-o", path, *words], capsys)[0] == 0
    assert path.read_bytes()[4:8] == b"ORTM"  # the format's mark


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "model.onnx", "--format", "ort"], "the output is not an .ort file: found model.onnx; let its name"),
        (["-o", "model.ort", "--format", "onnx"], "the output is not an .onnx file: found model.ort; let its name"),
        (["-o", "model.ort", "--external-data"], "an .ort file contains its weights: found --external-data; leave"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    small: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert complaint(outcome(["export", small, *words], capsys), 2).startswith(message)


def test_a_conversion_that_changes_the_outputs_leaves_no_file(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., list[Any]] = ort_file.run

    def reversed_outputs(file: Path, *rest: Any) -> list[Any]:
        return [output[::-1, ::-1] if file.suffix == ".ort" else output for output in real(file, *rest)]

    monkeypatch.setattr(ort_file, "run", reversed_outputs)
    with pytest.raises(EngineError, match="conversion changed logits: found a mean difference of"):
        write_ort(tmp_path / "model.ort", *read_model(small), ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_s_tools_the_error_tells_what_to_install(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_file, "WRITE_CONFIG", "import nothing_of_that_name")
    with pytest.raises(EngineError, match=r"No module named .*; run pip install --upgrade onnxruntime flatbuffers"):
        write_ort(tmp_path / "model.ort", *read_model(small), ExportOptions())


def test_a_path_that_is_a_directory_is_an_output_error(small: Path, tmp_path: Path) -> None:
    (tmp_path / "model.ort").mkdir()
    with pytest.raises(OutputError, match=r"model\.ort cannot be written: found a directory"):
        write_ort(tmp_path / "model.ort", *read_model(small), ExportOptions())


def test_an_older_file_stays_if_the_configuration_cannot_be_written(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(b"older")
    (tmp_path / "model.required_operators.config").mkdir()
    with pytest.raises(OutputError, match=r"model\.ort cannot be written: found "):
        write_ort(path, *read_model(small), ExportOptions())
    assert path.read_bytes() == b"older"
    assert {file.name for file in tmp_path.iterdir()} == {"model.ort", "model.required_operators.config"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_is_followed_and_a_private_file_stays_private(small: Path, tmp_path: Path) -> None:
    path, real = tmp_path / "model.ort", tmp_path / "real"
    real.touch(mode=0o600)
    path.symlink_to(real)
    write_ort(path, *read_model(small), ExportOptions())
    assert path.is_symlink()
    assert real.read_bytes()[4:8] == b"ORTM"
    assert real.stat().st_mode & 0o777 == 0o600


def test_an_optimized_graph_that_cannot_be_saved_is_an_error_that_names_no_draft(small: Path, tmp_path: Path) -> None:
    graph, target = tmp_path / "m.onnx", tmp_path / "gone" / "m.ort"
    write_onnx(graph, *read_model(small), ExportOptions())
    with pytest.raises(EngineError, match=r"Failed to save .*; free some space on the disk") as error:
        ort_file.convert(graph, target)
    assert str(target) not in str(error.value)


def test_a_missing_directory_is_an_output_error(small: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write_ort(tmp_path / "nowhere" / "model.ort", *read_model(small), ExportOptions())


def test_an_error_of_the_runtime_without_a_text_is_named_by_its_type(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(EngineError, match="own format: found MemoryError; write"):
        ort_file.convert(tmp_path / "m.onnx", tmp_path / "m.ort")
    with pytest.raises(EngineError, match=r"what it wrote: .*: found MemoryError"):
        ort_file.run(tmp_path / "m.ort", {}, [])
