"""`detr-onnx verify`: what is right passes; damaged files, wrong precisions and lying engines are found and named."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.cli import main as cli_main
from detr_onnx.engines import PanopticOutputs
from detr_onnx.engines.table import ENGINES
from detr_onnx.errors import OutputError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory
from detr_onnx.paths import without_directories
from detr_onnx.verify.checks import FAILED
from detr_onnx.verify.compare import Outputs, difference
from detr_onnx.verify.golden import close
from detr_onnx.verify.images import Case
from tests.cli.command_line import PREFIX, in_a_process
from tests.small_model import sample_image, write_small_checkpoint
from tests.verify.stubs import liar, stub_row

pytest.importorskip("onnxruntime")


def lines_of(out: str, outcome: str) -> dict[str, str]:
    """The rest of each line with this outcome, by the check's name."""
    found = re.findall(rf"^  (\S.*?)\s+{outcome}\s*(.*)$", out, re.MULTILINE)
    return dict(found)


def test_a_sound_checkpoint_agrees_on_every_engine(verify, small):
    pytest.importorskip("onnx")
    status, out, err = verify(small)
    assert (status, err) == (0, ""), out
    assert lines_of(out, "FAILED") == {}
    assert {"onnxruntime fp32", "onnxruntime fp16", "model.safetensors"} <= lines_of(out, "ok").keys()
    assert "numpy fp32" in lines_of(out, "reference")
    assert "calibration" in lines_of(out, "not tried")["onnxruntime int8"]
    assert out.splitlines()[-1].startswith("everything agrees; ")


def test_the_shipped_model_agrees_with_its_checkpoint(verify):
    status, out, _ = verify("demo")
    assert status == 0, out
    assert {"weights of model.onnx", "onnxruntime fp32"} <= lines_of(out, "ok").keys()


def test_the_report_can_be_printed_in_place_of_the_table(verify, small):
    pytest.importorskip("onnx")
    status, out, _ = verify(small, "--json", "-")
    assert (status, json.loads(out)["agrees"]) == (0, True)
    assert not Path("-").exists()


def test_a_panoptic_model_is_compared_with_its_masks(verify, tmp_path):
    pytest.importorskip("onnx")
    from tests.parity.seeded import CONFIGS, write_checkpoint

    model = write_checkpoint(tmp_path / "panoptic", CONFIGS["small-panoptic"], 1)
    (model / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 64, "longest_edge": 107}}')
    status, out, _ = verify(model, "--json", "r.json")
    assert status == 0, out
    figures = {check["name"]: check["figures"] for check in json.loads(Path("r.json").read_text())["checks"]}
    assert 0 <= figures["onnxruntime fp32"]["masks_mean"] < 1e-3


@pytest.fixture(scope="module")
def small_panoptic(tmp_path_factory):
    pytest.importorskip("onnx")
    from tests.parity.seeded import CONFIGS, write_checkpoint

    model = write_checkpoint(tmp_path_factory.mktemp("model") / "panoptic", CONFIGS["small-panoptic"], 1)
    (model / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 64, "longest_edge": 107}}')
    return model


@pytest.mark.parametrize(("options", "words"), [
    (ExportOptions(batch=2), "images, 2 at a time"),
    (ExportOptions(batch=3), "images, 3 at a time"),
    (ExportOptions(shape_hw=(64, 96), batch=1), "images, 1 at a time, of 64x96"),
    (ExportOptions(shape_hw=(64, 96), batch=4, mask=False), "images, 4 at a time, of 64x96, without a mask"),
    (ExportOptions(mask=False), "images, without a mask"),
    (ExportOptions(), None),
])  # fmt: skip
def test_what_a_graph_takes_is_told_and_each_image_counts_once(verify, small_panoptic, tmp_path, options, words):
    model = read_model(small_panoptic)
    write_onnx(tmp_path / "m.onnx", *model, options)
    write_onnx(tmp_path / "any.onnx", *model, replace(options, batch=None))
    figures = {}
    for name in ("m", "any"):
        status, out, _ = verify(f"{name}.onnx", "--reference", small_panoptic, "--json", f"{name}.json")
        assert status == 0, out
        if name == "m":
            assert lines_of(out, "shown").get("input of m.onnx") == words
        checks = json.loads(Path(f"{name}.json").read_text())["checks"]
        figures[name] = next(check["figures"] for check in checks if check["name"] == "onnxruntime fp32")
    assert 0 < figures["m"]["masks_mean"] < 1e-3
    assert options.batch == 1 or figures["m"]["detections"] == figures["any"]["detections"]


def test_an_image_that_fills_a_batch_is_not_counted_again():
    outputs = Outputs(np.tile(np.float32([[9, 0, 0]]), (8, 20, 1)), np.full((8, 20, 4), 0.5, np.float32))
    image = sample_image(20, 10)
    sizes_hw = np.tile([[10, 20]], (8, 1))
    row = (Case("an image", (image,)), outputs, outputs, sizes_hw)
    assert difference([row], ("a", "b")).detections == 20


def test_one_flipped_byte_in_a_checkpoint_with_a_graph_is_named(verify, tmp_path, monkeypatch):
    damaged = Path(shutil.copytree(demo_directory(), tmp_path / "demo"))
    weights = damaged / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)
    monkeypatch.setattr("detr_onnx.models.open.demo_directory", lambda: damaged)
    status, out, _ = verify("demo")
    assert status == 1
    assert "weights of model.onnx" in lines_of(out, "FAILED")
    assert " FAILED (files: weights of model.onnx" in out.splitlines()[-1]


def test_an_fp16_graph_that_claims_fp32_is_found_with_its_checkpoint(verify, small, tmp_path):
    graph, metadata = tmp_path / "claims.onnx", {"detr_onnx.precision": "fp32"}
    write_onnx(graph, *read_model(small), ExportOptions(precision="fp16", metadata=metadata))
    status, out, _ = verify(graph, "--reference", small)
    wrong = lines_of(out, "FAILED")["onnxruntime fp32"]
    assert status == 1
    assert re.search(r"logits, largest \S+ > 1.0e-03.*; it agrees as fp16(-weights)? would", wrong)


def test_an_exported_graph_agrees_with_its_checkpoint_and_not_with_another(verify, small, graph, tmp_path):
    status, out, _ = verify(graph, "--reference", small)
    assert status == 0, out
    assert "weights of small.onnx" in lines_of(out, "ok")
    status, out, _ = verify(graph, "--reference", write_small_checkpoint(tmp_path / "other", seed=8))
    assert status == 1
    assert {"weights of small.onnx", "onnxruntime fp32"} <= lines_of(out, "FAILED").keys()
    assert "it computes something else" in out


@pytest.mark.parametrize("offset", [0.05, 30.0, np.nan])
def test_an_engine_that_lies_is_named(verify, small, monkeypatch, offset):
    monkeypatch.setitem(ENGINES, "liar", liar(offset))
    status, out, _ = verify(small)
    assert status == 1
    assert lines_of(out, "FAILED").keys() == {"liar fp32"}
    assert out.splitlines()[-1].startswith("1 FAILED (engines: liar fp32); ")
    assert not np.isnan(offset) or "not finite for image 90x60" in out


def test_an_engine_that_cannot_open_the_model_fails_with_its_words(verify, small, monkeypatch):
    def refuse(checkpoint):
        from detr_onnx.errors import EngineError

        raise EngineError("its kernels are broken", found="a fault")

    monkeypatch.setitem(ENGINES, "broken", stub_row("broken", checkpoint=refuse))
    status, out, _ = verify(small)
    assert (status, [*lines_of(out, "FAILED")]) == (1, ["broken fp32"])
    assert "its kernels are broken: found a fault" in out


def test_an_engine_that_is_not_installed_is_listed_and_not_a_failure(verify, small, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(ENGINES, "other", stub_row("other", package="a_package_of_nobody"))
    status, out, _ = verify(small)
    assert status == 0, out
    assert lines_of(out, "not tried")["other fp32"] == "not installed: a_package_of_nobody"


def test_with_numpy_alone_there_is_nothing_to_compare(refused, small, monkeypatch):
    monkeypatch.setattr("detr_onnx.engines.table.ENGINES", {"numpy": ENGINES["numpy"]})
    monkeypatch.setattr("detr_onnx.verify.engines.ENGINES", {"numpy": ENGINES["numpy"]})
    assert refused(small).startswith("there is no second engine to compare with")


def test_no_directory_of_the_user_is_told_whether_it_is_in_the_current_one_or_beside_it(tmp_path, monkeypatch):
    home = tmp_path / "Jane Doe"
    project = home / "project"
    project.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(project)
    for directory in (home, project, home / "a-client", project / "a-client", home / "a" / "b", Path("/opt/a-client")):
        assert without_directories(f"cannot read {directory / 'm.onnx'}: no") == "cannot read m.onnx: no"
    assert without_directories(f"no model in {project}") == "no model in …"


@pytest.mark.parametrize(
    "path", ["clients/Acme Corp/m.onnx", "/data/Acme Corp/m.onnx", "../Acme Corp/m.onnx", "m.onnx"]
)
def test_the_directories_of_a_path_that_the_user_named_are_not_told(path):
    told = without_directories(f"{path}: {Path(path).absolute()} is not {path}", [path])
    assert told == "m.onnx: m.onnx is not m.onnx"


def test_a_report_that_cannot_be_written_is_still_printed(verify, small, tmp_path, monkeypatch):
    pytest.importorskip("onnx")

    def full(path: Path, text: str) -> None:
        raise OutputError(f"cannot write {path}", found="No space left on device")

    monkeypatch.setattr("detr_onnx.cli.results.write_file", full)
    status, out, err = verify(small, "--json", "r.json")
    assert (status, "everything agrees" in out) == (1, True)
    assert err == f"{PREFIX}cannot write r.json: found No space left on device\n"


def test_the_report_does_not_replace_the_model(refused, small, graph, tmp_path):
    file, directory = tmp_path / "m.onnx", tmp_path / "small"
    shutil.copy(graph, file)
    shutil.copytree(small, directory)
    for arguments, target in (
        ((file,), file), ((directory,), directory / "model.safetensors"), ((directory,), directory / "config.json"),
        ((file, "--reference", directory), directory / "model.safetensors"),
    ):  # fmt: skip
        before = target.read_bytes()
        assert refused(*arguments, "--json", target).startswith(f"--json would overwrite {target}, which is also an ")
        assert target.read_bytes() == before


def test_masks_that_are_not_numbers_are_not_finite_outputs():
    logits, boxes = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32)
    masks = PanopticOutputs(logits, boxes, np.zeros((1, 2), np.int64), np.full((1, 5, 5), np.nan, np.float32))
    assert Outputs(logits, boxes).finite
    assert not Outputs(logits, boxes, masks).finite


def test_outputs_that_are_not_numbers_fail_and_are_still_json():
    check = close("logits", [float("nan")], [1.0], 1e-3)
    assert (check.outcome, check.found) == (FAILED, "off by nan")
    assert json.loads(json.dumps(check.figures, allow_nan=False)) == {"off": None, "at_most": 1e-3}


def test_the_json_has_versions_and_results_and_no_directory(verify, small, tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "liar", liar(1.0))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    status, _, _ = verify(small, "--json", tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    report = json.loads(text)
    assert (status, report["agrees"], report["model"]) == (1, False, "small")
    assert report["packages"].keys() >= {"numpy", "onnxruntime"}
    assert {check["outcome"] for check in report["checks"]} <= {"ok", "FAILED", "not tried", "reference"}
    assert not {str(tmp_path), str(small.parent), str(Path.home()), "hf_secret"} & {*re.findall(r"[^\s\"']+", text)}
    assert str(small.parent) not in text
    assert "hf_secret" not in text


# Wrong input


def test_a_golden_image_that_the_environment_names_and_that_is_missing_is_said_to_come_from_there(refused, monkeypatch):
    monkeypatch.setenv("DETR_ONNX_GOLDEN_IMAGE", "nowhere.png")
    assert refused("demo", status=2) == (
        "there is no image nowhere.png; let the environment variable DETR_ONNX_GOLDEN_IMAGE name 000000039769.png, "
        "or leave it out"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nowhere"], 2, "there is no model 'nowhere'"),
        (["demo", "--coco", "nowhere"], 1, "nowhere is not COCO's val2017: found no instances_val2017.json"),
        (["demo", "--golden-image", "nowhere.png"], 2, "there is no image nowhere.png"),
        (["demo", "--published", "somebody/else"], 2, "no values are published for that model"),
        (["demo", "--json", "no/where.json"], 1, "cannot write no/where.json"),
        (["facebook/detr-resnet-50", "--offline", "--cache-dir", "empty"], 1, "facebook/detr-resnet-50 is not cached"),
        (["facebook/detr-resnet-50", "--offline", "--published", "a/b"], 2, "no values are published for that model"),
        (["demo", "--reference", "nowhere"], 2, "there is no model 'nowhere'"),
    ],
)
def test_wrong_input_is_one_line(refused, arguments, status, words):
    if "--coco" in arguments:
        pytest.importorskip("pycocotools")
    assert words in refused(*arguments, status=status)


def test_a_directory_of_coco_without_annotations_is_refused_before_anything_runs(refused, tmp_path):
    pytest.importorskip("pycocotools")
    (tmp_path / "val2017").mkdir()
    assert "found no instances_val2017.json" in refused("demo", "--coco", ".")


def test_a_checkpoint_that_is_cut_off_is_one_line(refused, small, tmp_path):
    cut = Path(shutil.copytree(small, tmp_path / "cut"))
    (cut / "model.safetensors").write_bytes((small / "model.safetensors").read_bytes()[:-100])
    assert "model.safetensors" in refused(cut)


def test_ctrl_c_ends_it_quietly(small, tmp_path):
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # also in the background of a script
    for delay_s in (1.0, 0.7, 0.5, 0.35):  # shorter where it had ended before
        process = in_a_process("verify", "demo", "--json", tmp_path / "r.json", cwd=tmp_path, **heeding)
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        if process.returncode:
            break
        (tmp_path / "r.json").unlink()
    assert (process.returncode, out, err) == (130, b"", b"")
    assert not (tmp_path / "r.json").exists()


def test_a_terminal_shows_what_comes_next(small, monkeypatch, capsys):
    pytest.importorskip("onnx")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert cli_main.main(["verify", str(small)]) == 0
    assert re.search(r"step 1  0 s  the files", capsys.readouterr().err)
