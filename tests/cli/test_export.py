"""`detr-onnx export`: the graph that the options describe, and errors before any work."""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from detr_onnx import atomic
from detr_onnx.cli import export

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ([], [["batch", 3, "height", "width"], ["batch", "mask_height", "mask_width"]]),
        (["--no-mask"], [["batch", 3, "height", "width"]]),
        (["--batch", "2"], [[2, 3, "height", "width"], [2, "mask_height", "mask_width"]]),
        (["--shape", "64x96"], [[1, 3, 64, 96], [1, 64, 96]]),
        (["--shape", "64x96", "--batch", "3", "--no-mask"], [[3, 3, 64, 96]]),
        (
            ["--external-data", "--precision", "fp32"],
            [["batch", 3, "height", "width"], ["batch", "mask_height", "mask_width"]],
        ),
    ],
)
def test_the_exported_graph_has_the_requested_inputs(run, small, options, inputs):
    import onnxruntime

    assert run("export", small, "-o", "m.onnx", *options) == (0, "", "")
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    assert [value.shape for value in session.get_inputs()] == inputs
    assert Path("m.onnx.data").exists() == ("--external-data" in options)
    assert run("detect", "a.png", model="m.onnx")[0] == 0


@pytest.mark.parametrize(
    "shape", ["", "800", "0x5", "800x", "800X1066", "-1x5", "8e2x3", "800x1066x3", "٣x٣", "9999999x1"]
)
def test_a_malformed_shape_is_refused(refused, small, shape):
    says = refused("export", small, "-o", "m.onnx", f"--shape={shape}", status=2)
    assert says == f"the shape is wrong: found {shape!r}, expected height x width in pixels, such as 800x1066"


def test_a_shape_that_would_fill_the_memory_is_refused(refused, small):
    says = refused("export", small, "-o", "m.onnx", "--shape", "99999x99999", status=2)
    assert says.startswith("the shape is too large: found 99999x99999, expected at most 89,478,485 pixels in all")


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_below_one_is_refused(refused, small, batch):
    assert refused("export", small, "-o", "m.onnx", f"--batch={batch}", status=2).startswith("the batch is wrong")


def test_an_image_in_place_of_a_graph_is_named_for_what_it_is(refused, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "x.onnx", "JPEG")
    says = refused("export", tmp_path / "x.onnx", "-o", "m.onnx")
    assert says.endswith("x.onnx is not an ONNX file: found a JPEG image; export or fetch the file again")


def test_a_model_that_cannot_be_exported_is_an_error(refused, small, graph):
    assert "small.onnx is a graph already" in refused("export", graph, "-o", "m.onnx", status=2)
    says = refused("export", "gone.onnx", "-o", "m.onnx")
    assert says == "cannot read gone.onnx: found no such file; check the path"
    assert "there is no model 'gone'" in refused("export", "gone", "-o", "m.onnx", status=2)
    assert "holds no checkpoint" in refused("export", "deep", "-o", "m.onnx")
    assert "let its name end in .onnx" in refused("export", small, "-o", "m", status=2)


def test_an_output_that_cannot_be_written_is_an_error_and_leaves_no_file(refused, small, monkeypatch):
    assert refused("export", small, "-o", "nowhere/m.onnx") == (
        "cannot write nowhere/m.onnx: found no directory nowhere; create it first"
    )
    Path("m.onnx").mkdir()
    assert "found a directory" in refused("export", small, "-o", "m.onnx")

    def fails(descriptor):
        raise OSError(errno.ENOSPC, "No space")

    monkeypatch.setattr(atomic.os, "fsync", fails)
    assert "found No space" in refused("export", small, "-o", "full.onnx")
    monkeypatch.setattr(export.os, "access", lambda path, mode: False)
    assert "found no permission" in refused("export", small, "-o", "p.onnx")
    assert {path.name for path in Path().iterdir() if path.suffix in (".onnx", ".part")} == {"m.onnx"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize(
    ("link", "target", "options"),
    [
        ("m.onnx", "model.safetensors", []),
        ("m.onnx", "config.json", []),
        ("m.onnx.data", "model.safetensors", ["--external-data"]),
        ("m.ort", "model.safetensors", []),
        ("m.required_operators.config", "model.safetensors", ["-o", "m.ort"]),
        ("m.onnx", "photos/a.png", ["--precision", "int8", "--calibrate", "checkpoint/photos", "--force"]),
    ],
)
def test_a_link_to_a_file_that_is_read_is_not_written_through(refused, small, link, target, options):
    shutil.copytree(small, "checkpoint")
    Path("checkpoint/photos").mkdir()
    shutil.copy("a.png", "checkpoint/photos")
    Path(link).symlink_to(Path("checkpoint", target))
    before = Path(link).read_bytes()
    output = link.removesuffix(".data")
    says = refused("export", "checkpoint", "-o", output, *options)
    assert says == f"-o would overwrite {link}, which is also an input; choose another file"
    assert (Path(link).is_symlink(), Path(link).read_bytes()) == (True, before)


def test_a_graph_beside_its_checkpoint_can_be_written_again(run, small):
    shutil.copytree(small, "checkpoint")
    for _ in range(2):
        assert run("export", "checkpoint", "-o", "checkpoint/model.onnx") == (0, "", "")


def test_exporting_without_the_package_onnx_says_how_to_install_it(refused, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused("export", small, "-o", "m.onnx").endswith("run pip install 'detr-onnx[export]', or use engine numpy")
