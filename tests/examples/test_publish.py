"""examples/browser/publish.py: what it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from tests.examples.sites import ROOT, publish


def stand_in_runtime(folder: Path) -> Path:
    """A directory that looks like onnxruntime-web's."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"version": "0.0.0"}')
    for stem in ("ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"):
        for ending in ("mjs", "wasm"):
            (folder / "dist" / f"{stem}.{ending}").write_text(stem)
    for module in ("ort.wasm.min.mjs", "ort.webgpu.min.mjs"):
        (folder / "dist" / module).write_text(module)
    return folder


def test_a_site_is_written_again_with_a_new_version_only_if_something_changed(tmp_path: Path, graph: Path) -> None:
    runtime = stand_in_runtime(tmp_path / "runtime")
    versions = []
    for name in ("one", "one", "two"):
        assert publish(tmp_path / "site", f"--model={name}={graph}", "--runtime", runtime).stderr == ""
        versions.append(json.loads((tmp_path / "site" / "site.json").read_text())["version"])
    assert versions[0] == versions[1] != versions[2]
    assert f'"{versions[2]}"' in (tmp_path / "site" / "service-worker.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--shape", "320x320", "--batch", "1"], "takes one image size only, or pads; export it without --shape"),
        (
            ["--fused-attention"],
            "has fused attention, which onnxruntime-web@1.30.0 gets wrong on WebGPU; export it without",
        ),
        (["--end-to-end"], "end-to-end"),
    ],
)
def test_a_model_that_the_page_cannot_run_is_refused(
    tmp_path: Path, small: Path, option: list[str], sentence: str
) -> None:
    command = [sys.executable, "-m", "detr_onnx", "export", str(small), "-o", str(tmp_path / "m.onnx"), *option]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "pip install" in done.stderr:
        pytest.skip("needs onnx")
    assert done.returncode == 0, done.stderr
    refused = publish(tmp_path / "site", f"--model=m={tmp_path / 'm.onnx'}", "--runtime", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("publish.py: error: ")
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_both_pages_have_the_same_elements_for_the_scripts_that_they_share() -> None:
    server = ROOT / "detr_onnx" / "server" / "page" / "index.html"
    pages = [page.read_text(encoding="utf-8") for page in (server, ROOT / "examples" / "browser" / "index.html")]
    shared = [page.partition('<section id="drop"')[2].partition('<div id="empty">')[0] for page in pages]
    assert shared[0] == shared[1] != ""


def test_a_directory_that_is_not_a_site_is_kept(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    refused = publish(tmp_path, "--runtime", tmp_path)
    assert "exists and is not a site of this script; name another directory" in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_a_runtime_that_is_incomplete_is_refused(tmp_path: Path, graph: Path) -> None:
    runtime = stand_in_runtime(tmp_path / "runtime")
    (runtime / "dist" / "ort.webgpu.min.mjs").unlink()
    refused = publish(tmp_path / "site", f"--model=m={graph}", "--runtime", runtime)
    assert "does not have the files of onnxruntime-web@1.30.0" in refused.stderr
