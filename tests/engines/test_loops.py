"""Graphs that never end are refused before an engine sees them, whatever the format."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detr_onnx.checkpoint.files import LFS_POINTER
from detr_onnx.engines import loops
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.loops import find_loop
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.engines.openvino import openvino_engine
from detr_onnx.errors import ModelFileError
from detr_onnx.models.open import demo_directory
from tests.cli.command_line import PREFIX, ROOT
from tests.engines import slow_graphs
from tests.engines.slow_graphs import write
from tests.small_model import sample_image

pytest.importorskip("onnx")

AT_ONCE_S = 30  # of a whole process, most of it imports
ENDLESS = {
    slow_graphs.constant_loop: "the operator Loop",
    slow_graphs.loop: "the operator Loop",
    slow_graphs.loop_in_branches: "the operator Loop",
    slow_graphs.loop_in_a_function: "the operator Loop",
    slow_graphs.functions_that_multiply: "more than 100000 nodes",
    slow_graphs.function_that_calls_itself: "functions that call themselves",
}


def named(graphs: dict[Callable[[], Any], str]) -> list[Any]:
    return [pytest.param(make, found, id=make.__name__) for make, found in graphs.items()]


@pytest.mark.parametrize(("make", "found"), named(ENDLESS))
def test_an_onnx_graph_that_does_not_end_is_refused(tmp_path, make, found):
    with pytest.raises(ModelFileError, match=f"may run without end: found {found}"):
        check_graph_file(write(tmp_path / "a.onnx", make()))


def test_branches_in_branches_are_followed_to_a_limit(tmp_path):
    path = write(tmp_path / "a.onnx", slow_graphs.loop_in_branches(loops.MOST_DEPTH))
    assert find_loop(path) == "the operator Loop"
    path = write(tmp_path / "a.onnx", slow_graphs.loop_in_branches(loops.MOST_DEPTH + 1))
    assert find_loop(path) == "more than 20 branches in branches"


def test_the_number_of_parts_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "MOST_FIELDS", 100)
    assert find_loop(demo_directory() / "model.onnx") == "more than 100 parts"


def test_a_branch_is_not_a_loop(tmp_path):
    pytest.importorskip("onnxruntime")
    path = write(tmp_path / "a.onnx", slow_graphs.branch())
    assert find_loop(path) is None
    assert onnxruntime_engine(path).classes == 2


def test_functions_that_end_are_accepted(tmp_path):
    assert find_loop(write(tmp_path / "a.onnx", slow_graphs.functions_that_multiply(4))) is None


def as_ort(model: Any, path: Path) -> Path:
    """ONNX Runtime's own format, without optimizations, which would run the loop."""
    onnxruntime = pytest.importorskip("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.optimized_model_filepath = str(path)
    settings.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return path


@pytest.mark.parametrize("make", [slow_graphs.loop, slow_graphs.loop_in_branches])
def test_an_ort_file_with_a_loop_is_refused(tmp_path, make):
    with pytest.raises(ModelFileError, match="found the operator Loop"):
        check_graph_file(as_ort(make(), tmp_path / "a.ort"))


def test_an_ort_file_with_a_branch_is_accepted(tmp_path):
    check_graph_file(as_ort(slow_graphs.branch(), tmp_path / "a.ort"))


@pytest.mark.parametrize("cut", range(8, 400, 40))
def test_a_damaged_ort_file_is_named(tmp_path, cut):
    path = as_ort(slow_graphs.branch(), tmp_path / "a.ort")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match="is not a file of ONNX Runtime's own format: found a damaged table"):
        check_graph_file(path)


def layer(kind: str) -> str:
    return f'<net name="a" version="11"><layers><layer id="0" name="a" type={kind} version="opset5"/></layers></net>'


@pytest.mark.parametrize(
    "text",
    [
        layer('"Loop"').encode(),
        layer('"TensorIterator"').encode(),
        layer("'L&#x6f;op'").encode(),
        layer('"Loop"').encode("utf-16"),
    ],
)
def test_an_openvino_model_with_a_loop_is_refused(tmp_path, text):
    (tmp_path / "a.xml").write_bytes(text if text.startswith(b"<") else b"<?xml" + text)
    with pytest.raises(ModelFileError, match=r"found the operator (Loop|TensorIterator)|is not a model of OpenVINO's"):
        check_graph_file(tmp_path / "a.xml")


def test_an_openvino_model_that_only_mentions_loops_is_accepted(tmp_path):
    (tmp_path / "a.xml").write_text(layer('"Add"').replace('name="a"', 'name="/Loop/Add"'))
    check_graph_file(tmp_path / "a.xml")


def test_an_openvino_model_with_entities_of_its_own_is_refused(tmp_path):
    text = f'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "Loop">]>{layer("&a;")}'
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ModelFileError, match="found a document type"):
        check_graph_file(tmp_path / "a.xml")


def test_openvinos_own_files_with_loops_are_refused(tmp_path):
    openvino = pytest.importorskip("openvino")
    write(tmp_path / "a.onnx", slow_graphs.loop())
    openvino.save_model(openvino.Core().read_model(tmp_path / "a.onnx"), tmp_path / "a.xml")
    with pytest.raises(ModelFileError, match="found the operator Loop"):
        check_graph_file(tmp_path / "a.xml")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("make", [slow_graphs.constant_loop, slow_graphs.loop])
def test_a_loop_is_one_line_at_once_in_every_engine(tmp_path, engine, make):
    pytest.importorskip(engine)
    path = write(tmp_path / "a.onnx", make())
    sample_image(40, 30).save(tmp_path / "a.png")
    begun = time.monotonic()
    command = [sys.executable, "-m", "detr_onnx", "detect", tmp_path / "a.png", "-m", path, "--engine", engine]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, timeout=AT_ONCE_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"{PREFIX}{path} may run without end: found the operator Loop")
    assert ended.stderr.count("\n") == 1
    assert time.monotonic() - begun < AT_ONCE_S


# Sizes


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "shape", [(1, 3, 10**6, 10**6), (10**9, 3, 32, 32), (1, 3, 2**62, 2**62), (1, 3, 0, 32), (1, 3, 10_000, 10_000)]
)
def test_inputs_that_would_fill_the_memory_are_refused(tmp_path, engine, shape):
    pytest.importorskip(engine)
    path = write(tmp_path / "a.onnx", slow_graphs.with_input(*shape))
    with pytest.raises(ModelFileError, match=rf"a\.onnx is not a DETR: found pixel_values float32 \[{shape[0]},3,"):
        (onnxruntime_engine if engine == "onnxruntime" else openvino_engine)(path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_input_of_one_fixed_size_is_accepted(tmp_path, engine):
    pytest.importorskip(engine)
    path = write(tmp_path / "a.onnx", slow_graphs.with_input(2, 3, 64, 96))
    opened = (onnxruntime_engine if engine == "onnxruntime" else openvino_engine)(path)
    assert (opened.batch, opened.canvas_hw) == (2, (64, 96))


# Pointers of git-lfs

POINTER = LFS_POINTER + b"v1\noid sha256:" + b"0" * 64 + b"\nsize 166587896\n"


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".ort"])
def test_a_git_lfs_pointer_is_named_with_the_command_that_helps(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(POINTER)
    expected = f"model{suffix} is a git-lfs pointer, not the model: found {len(POINTER)} bytes.*; run git lfs pull"
    with pytest.raises(ModelFileError, match=expected):
        check_graph_file(path)


def test_weights_of_openvinos_format_that_are_a_git_lfs_pointer_are_named(tmp_path):
    (tmp_path / "m.xml").write_text(layer('"Add"'))
    (tmp_path / "m.bin").write_bytes(POINTER)
    with pytest.raises(ModelFileError, match=r"m\.bin is a git-lfs pointer, not its weights.*; run git lfs pull"):
        check_graph_file(tmp_path / "m.xml")
