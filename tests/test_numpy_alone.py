"""The package works without ONNX Runtime, as after pip install --no-deps detr-onnx numpy pillow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from detr_onnx.engines import onnxruntime
from detr_onnx.engines.onnxruntime import NO_32_BITS, import_onnxruntime
from detr_onnx.errors import EngineError
from detr_onnx.models.open import demo_image

HIDDEN = ("onnxruntime", "openvino", "onnx")
COMMAND = f"""
import sys
for name in {HIDDEN}: sys.modules[name] = None
from detr_onnx.__main__ import main
sys.argv[0] = "detr-onnx"
sys.exit(main())
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("engine", ["auto", "numpy"])
def test_numpy_detects_and_auto_takes_it(engine):
    done = run("detect", str(demo_image()), "-m", "demo", "--engine", engine, "--size", "128", "-v")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 0
    assert "running on numpy" in done.stderr


def test_the_other_engine_says_what_to_install():
    done = run("detect", str(demo_image()), "-m", "demo", "--engine", "onnxruntime")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("detr-onnx: error: engine onnxruntime needs the package onnxruntime")
    assert "run pip install onnxruntime, or use engine numpy" in done.stderr
    assert done.stderr.count("\n") == 1


def test_info_and_version_work():
    assert run("--version").returncode == 0
    assert run("info").returncode == 0


def test_a_32_bit_system_is_told_to_install_a_64_bit_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnxruntime.sys, "maxsize", 2**31 - 1)
    with pytest.raises(EngineError, match=NO_32_BITS):
        import_onnxruntime()
