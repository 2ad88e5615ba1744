"""Precision bf16 of ONNX Runtime: where an ARM64 processor has it, refused elsewhere.

The processors here are imitated; `.ci/arm64` runs the products themselves in an emulated one.
"""

from __future__ import annotations

import dataclasses
import platform
import subprocess

import numpy as np
import pytest

from detr_onnx.engines import arm_bfloat16, cpu, onnxruntime
from detr_onnx.engines.cpu import bfloat16_flag
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import EngineError
from detr_onnx.models.open import demo_directory, open_model

PI_5 = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"
NEOVERSE_N2 = "processor\t: 0\nFeatures\t: fp asimd asimddp sve i8mm bf16\n"
SHIPPED = demo_directory() / "model.onnx"


def imitate(monkeypatch, machine: str, cpuinfo: str = "", system: str = "Linux") -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: cpuinfo)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "has"),
    [
        ("aarch64", NEOVERSE_N2, True),
        ("aarch64", PI_5, False),
        ("aarch64", "", False),
        ("x86_64", "flags\t: avx2 avx512_bf16\n", False),
        ("x86_64", NEOVERSE_N2, False),
    ],
)
def test_on_linux_the_flag_of_proc_cpuinfo_decides(monkeypatch, machine, cpuinfo, has):
    imitate(monkeypatch, machine, cpuinfo)
    assert bfloat16_flag()[1] is has


@pytest.mark.parametrize(("printed", "has"), [("1\n", True), ("0\n", False), ("", False)])
def test_on_macos_sysctl_decides(monkeypatch, printed, has):
    imitate(monkeypatch, "arm64", system="Darwin")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, printed, ""))
    assert bfloat16_flag() == ("hw.optional.arm.FEAT_BF16 of sysctl", has)


def test_a_mac_without_sysctl_has_no_bfloat16(monkeypatch):
    imitate(monkeypatch, "arm64", system="Darwin")
    monkeypatch.setattr(cpu, "SYSCTL", ("/nowhere/sysctl",))
    assert not bfloat16_flag()[1]


@pytest.mark.parametrize(
    ("machine", "words"),
    [("aarch64", "the flag bf16 in /proc/cpuinfo"), ("x86_64", "the flag bf16 of ARM64, on Linux x86_64")],
)
def test_bf16_is_refused_without_the_processors_flag_which_is_named(monkeypatch, machine, words):
    imitate(monkeypatch, machine, PI_5)
    with pytest.raises(EngineError, match=f"no bfloat16 products .*: found not set: {words}; use precision fp32"):
        open_model("demo", EngineOptions("onnxruntime", precision="bf16"))


def test_bf16_is_refused_on_other_providers(monkeypatch):
    imitate(monkeypatch, "aarch64", NEOVERSE_N2)
    wanted = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    monkeypatch.setattr(onnxruntime, "resolve_providers", lambda *_: wanted)
    with pytest.raises(EngineError, match="bf16 on the CPU only: found CUDAExecutionProvider"):
        open_model("demo", EngineOptions("onnxruntime", ["CUDA"], "bf16"))


@pytest.fixture
def entries(monkeypatch) -> list[tuple[str, str]]:
    """The configuration entries of the sessions that are made."""
    found, package = list[tuple[str, str]](), onnxruntime.import_onnxruntime()

    class Options(package.SessionOptions):
        def add_session_config_entry(self, key, value):
            found.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(package, "SessionOptions", Options)
    return found


def test_bf16_sets_onnx_runtimes_option_and_is_in_the_title(monkeypatch, entries):
    imitate(monkeypatch, "aarch64", NEOVERSE_N2)
    engine = open_model("demo", EngineOptions("onnxruntime", precision="bf16")).engine
    assert ("mlas.enable_gemm_fastmath_arm64_bfloat16", "1") in entries
    assert engine.title.endswith(", bf16")


@pytest.mark.parametrize("wrong", [1.0, np.nan])
def test_wrong_results_are_refused(monkeypatch, wrong):
    imitate(monkeypatch, "aarch64", NEOVERSE_N2)
    run = onnxruntime.graph_engine

    def with_wrong_logits(path, title, *rest):
        engine = run(path, title, *rest)
        added = wrong if title.endswith("bf16") else 0.0

        def network(pixels, mask):
            logits, boxes = engine.network(pixels, mask)
            return logits + added * logits.std(), boxes

        return dataclasses.replace(engine, network=network)

    monkeypatch.setattr(onnxruntime, "graph_engine", with_wrong_logits)
    with pytest.raises(
        EngineError, match=r"bf16 computes .*model.onnx wrongly: found logits that differ .* by (1|nan) of"
    ):
        open_model("demo", EngineOptions("onnxruntime", precision="bf16"))


@pytest.mark.parametrize("precision", [None, "fp32"])
def test_bf16_is_never_the_default(monkeypatch, entries, precision):
    imitate(monkeypatch, "aarch64", NEOVERSE_N2)
    engine = open_model(SHIPPED, EngineOptions("onnxruntime", precision=precision)).engine
    assert arm_bfloat16.SESSION_ENTRY not in entries
    assert engine.title.endswith(", fp32")


def test_a_graph_in_another_precision_is_refused(monkeypatch, tmp_path):
    onnx = pytest.importorskip("onnx")
    imitate(monkeypatch, "aarch64", NEOVERSE_N2)
    model = onnx.load(SHIPPED)
    next(entry for entry in model.metadata_props if entry.key == "detr_onnx.precision").value = "int8-weights"
    onnx.save(model, tmp_path / "weights.onnx")
    with pytest.raises(EngineError, match="does not have precision fp32: found int8-weights"):
        open_model(tmp_path / "weights.onnx", EngineOptions("onnxruntime", precision="bf16"))
