"""No file is removed or replaced while this process has it open or mapped, which Windows refuses."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from detr_onnx import Detector, atomic, locks
from detr_onnx.cli.main import main
from tests.platforms.open_files import refuse_what_windows_refuses

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="imitates Windows with what /proc tells")

SCENE = str(Path(__file__).parents[2] / "examples" / "demo-scene.jpg")


@pytest.fixture
def refused(monkeypatch) -> Iterator[list[str]]:
    """What Windows would have refused. Nothing is freed by chance: the garbage collector is off."""
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(atomic, "sys", SimpleNamespace(platform="win32"))
    gc.collect()
    gc.disable()
    yield refuse_what_windows_refuses(monkeypatch)
    gc.enable()


def test_the_imitation_refuses_what_is_open_or_mapped_or_a_directory(refused, tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"1")
    with path.open("rb"), pytest.raises(PermissionError):
        path.unlink()
    with path.open("rb"), pytest.raises(PermissionError):
        path.replace(other)
    other.mkdir()
    (tmp_path / "third").mkdir()
    with pytest.raises(PermissionError):
        other.rename(tmp_path / "third")
    assert len(refused) == 3
    path.unlink()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_are_cached(engine, precision, refused, small, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip(engine)
    options = {"engine": engine, "cache_dir": tmp_path}
    if engine == "openvino":
        from detr_onnx.engines.openvino_package import has_bfloat16

        if precision == "bf16" and not has_bfloat16():
            pytest.skip("the processor has no bfloat16 for OpenVINO")
        options["precision"] = precision
    elif precision != "fp32":
        pytest.skip("ONNX Runtime has no bfloat16 on processors")
    for _ in range(2):  # the second opens what the first wrote
        Detector(small, **options)(SCENE)
    assert refused == []


@pytest.mark.parametrize("name", ["graph.onnx", "graph.ort"])
@pytest.mark.parametrize("option", [[], ["--external-data"], ["--precision", "fp16"]])
def test_files_are_exported_over_older_ones(name, option, refused, small, tmp_path):
    pytest.importorskip("onnx")
    if name.endswith(".ort"):
        pytest.importorskip("flatbuffers")
        option = [o for o in option if o != "--external-data"]
    for _ in range(2):
        assert main(["export", str(small), "-o", str(tmp_path / name), *option]) == 0
    assert refused == []


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_jobs_go_on_and_are_collected(form, refused, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "bad.jpg").write_bytes(b"")
    job = ["detect", SCENE, str(tmp_path / "bad.jpg"), "-m", "demo", "--engine", "numpy", "--format", form]
    for extra in ([], ["--retry"]):
        assert main([*job, "-o", str(tmp_path / "job"), *extra]) == 0
    for kind in ("yolo", "coco"):
        output = tmp_path / f"labels-{kind}"
        if kind == "yolo":
            output.mkdir()
        assert main(["collect", str(tmp_path / "job"), "--as", kind, "-o", str(output)]) == 0
    assert (tmp_path / "labels-yolo" / "data.yaml").is_file()
    assert refused == []


def test_annotated_images_replace_older_ones(refused, tmp_path):
    for _ in range(2):
        assert main(["detect", SCENE, "-m", "demo", "--engine", "numpy", "--save", str(tmp_path / "a.jpg")]) == 0
    assert refused == []
