"""`detr-onnx info`."""

from __future__ import annotations

import shutil
import sys

import pytest

from detr_onnx import __version__
from detr_onnx.cache import cached
from detr_onnx.cli import info
from detr_onnx.engines import cpu
from detr_onnx.models.open import demo_directory


def lines_by_name(cache_dir) -> dict[str, str]:
    """The lines as names and values."""
    return dict(line.split(": ", 1) for line in info.describe(cache_dir) if not line.startswith("  "))


def test_an_empty_cache_has_no_entries(tmp_path):
    lines = list(info.describe(tmp_path / "none"))
    assert lines[-2:] == [f"models: {tmp_path / 'none' / 'hub'}", f"cache: {tmp_path / 'none'}"]
    assert not (tmp_path / "none").exists()


def test_versions_engines_and_processor_are_shown(tmp_path):
    lines = lines_by_name(tmp_path)
    assert lines["detr-onnx"] == __version__
    assert lines["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert lines["numpy"] == sys.modules["numpy"].__version__
    assert "numpy" in lines["engines"]
    assert "cores" in lines["processor"]


def test_graphs_in_the_cache_are_listed_with_their_size(tmp_path):
    cached("abc-0.1.0", lambda directory: (directory / "model.onnx").write_bytes(b"x" * 2_000_000), cache_dir=tmp_path)
    assert [line for line in info.describe(tmp_path) if line.startswith("  graph abc-0.1.0  2.0 MB")]


def test_models_are_listed_below_the_directory_that_they_are_in(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "own"))
    snapshot = tmp_path / "hf" / "models--someone--drawings" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(demo_directory(), snapshot)
    *_, directory, model, cache = info.describe()
    assert (directory, cache) == (f"models: {tmp_path / 'hf'}", f"cache: {tmp_path / 'own'}")
    assert model.startswith(f"  model someone/drawings@{'a' * 7}  ")


def test_a_missing_package_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "version_of", lambda package: None)
    assert lines_by_name(tmp_path)["onnxruntime"] == "not installed"
    assert "onnxruntime-gpu" not in lines_by_name(tmp_path)


@pytest.mark.parametrize(
    ("absent", "engines"),
    [
        (["openvino"], ["numpy", "onnxruntime"]),
        (["openvino", "onnxruntime"], ["numpy"]),
        (["openvino", "onnx"], ["numpy", "onnxruntime (only .onnx files; pip install 'detr-onnx[export]')"]),
    ],
)
def test_engines_are_those_that_can_run(monkeypatch, absent, engines):
    for package in ("onnxruntime", "onnx"):
        pytest.importorskip(package)
    for package in absent:
        monkeypatch.setitem(sys.modules, package, None)
    assert info.installed_engines() == engines


def test_providers_are_those_of_onnx_runtime_or_the_reason_for_none(monkeypatch):
    assert "CPUExecutionProvider" in info.installed_providers()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert info.installed_providers().startswith("none (")


@pytest.mark.parametrize(
    ("cpuinfo", "name", "features"),
    [
        ("", "", []),
        ("model name\t: Xeon\nflags\t\t: fpu avx2 amx_int8 avx512f\n", "Xeon", ["avx2", "avx512f", "amx_int8"]),
        ("Features\t: fp asimd sve\n", "", ["asimd", "sve"]),
    ],
)
def test_the_processor_is_read_from_cpuinfo(monkeypatch, cpuinfo, name, features):
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: cpuinfo)
    assert cpu.cpu_features() == features
    assert cpu.processor().startswith(name)
