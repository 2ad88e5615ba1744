"""Calibration: what passes the gate, which layers stay in float, the report, and the errors."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.cli.step_progress import step_line, step_progress
from detr_onnx.errors import OutputError
from detr_onnx.evaluation.agreement import Agreement
from detr_onnx.exporter import calibrate, trial
from detr_onnx.exporter.calibrate import FLOATS_AT_MOST
from detr_onnx.exporter.observation import SUBSET
from detr_onnx.exporter.ranges import METHODS
from detr_onnx.exporter.trial import FEWEST_DETECTIONS, IDENTICAL_AT_LEAST, SCORES_AT_MOST, EarlyStop, Trial
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import demo_directory, demo_image
from tests.cli.command_line import complaint, outcome
from tests.demo_views import write_views
from tests.small_model import sample_image

MOSTLY = 0.9  # of a dozen views of one scene; the bound itself is for real calibration images
SCENES = 12


def trial_with(reference: int = 100, identical: float | None = 1.0, scores: float | None = 0.0, noise=0.1) -> Trial:
    return Trial("minmax", (), False, Agreement(9, reference, 100, 1.0, 1.0, scores, identical), noise)


def no_progress(step, items):
    return items


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A directory of the demo scene, mirrored, cropped and in other lights."""
    directory = tmp_path_factory.mktemp("scenes")
    write_views(directory, SCENES)
    return directory


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with `images`, `grey` (of one colour) and `empty`."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "grey", "empty"):
        Path(name).mkdir()
    for seed in range(3):
        sample_image(64, 48, seed).save(f"images/{seed}.png")
        Image.new("RGB", (30, 20), (seed * 60,) * 3).save(f"grey/{seed}.png")
    return tmp_path


@pytest.fixture
def refused(album, capsys):
    def refused(*arguments: object, status: int) -> str:
        exit_status, out, err = outcome(["export", *arguments, "-o", "m.onnx"], capsys)
        *steps, last = err.splitlines(keepends=True)
        assert all(step.startswith("detr-onnx: ") and "error" not in step for step in steps)
        return complaint((exit_status, out, last), status)

    return refused


# The gate


def test_a_trial_at_the_bounds_passes():
    assert trial_with(FEWEST_DETECTIONS, 1.0, SCORES_AT_MOST).refusal() is None
    error = math.sqrt(IDENTICAL_AT_LEAST * (1 - IDENTICAL_AT_LEAST) / 10_000)
    assert trial_with(10_000, IDENTICAL_AT_LEAST + 2 * error, SCORES_AT_MOST).refusal() is None
    assert trial_with(10_000, IDENTICAL_AT_LEAST + 1.9 * error, SCORES_AT_MOST).refusal() is not None


@pytest.mark.parametrize(
    ("failed", "message"),
    [
        (trial_with(FEWEST_DETECTIONS - 1), "49 detections of fp32 in 9 images, too few to judge by"),
        (trial_with(0, None, None), "0 detections of fp32 in 9 images, too few to judge by"),
        (trial_with(identical=0.97), "97.0% identical detections"),
        (trial_with(scores=0.2), "scores differing by 0.2000"),
    ],
)
def test_a_failed_trial_tells_what_was_found_and_what_is_expected(failed, message):
    found, expected = failed.refusal()
    assert message in found
    assert expected.startswith("at least")


def test_a_network_that_detects_nothing_does_not_pass():
    assert trial_with(100, 0.0, None).refusal() is not None


@pytest.mark.parametrize(
    ("reference", "tested", "matched", "lost"),
    [
        (0, 0, 0, False),
        (500, 500, 500, False),
        (500, 500, 497, False),  # 3 of 1000 are only in the one, and 3 only in the other
        (500, 500, 490, True),
        (500, 520, 500, True),
        (100, 80, 80, True),
    ],
)
def test_a_trial_ends_when_it_cannot_pass_even_if_all_the_rest_agrees(reference, tested, matched, lost):
    assert EarlyStop(1000, reference, tested, matched).is_due() == lost
    rest = 1000 - reference
    identical = (matched + rest) / (reference + tested - matched + rest)
    assert (trial_with(1000, identical).refusal() is not None) == lost


def test_a_trial_with_few_detections_goes_on_to_the_end():
    assert not EarlyStop(FEWEST_DETECTIONS - 1, 10, 10, 0).is_due()


# The search


def test_every_method_is_weighed_on_a_few_images_and_the_one_with_least_noise_alone_on_all(scenes):
    steps = []

    def record(step, items):
        steps.append((step, len(items)))
        return items

    found = calibrate.calibrate(read_model(demo_directory()), sorted(scenes.iterdir()), record)
    assert steps[:2] == [(f"fp32 on {SCENES} images", SCENES), (f"4 methods on {SUBSET} images", len(METHODS))]
    others = ("each layer", f"int8 by {found.chosen.method}")
    assert all(step.startswith(others) for step, _ in steps[2:])
    assert found.methods.keys() == METHODS.keys()
    assert {t.method for t in found.trials} == {min(found.methods, key=found.methods.get)}
    assert found.chosen == found.trials[-1]
    assert found.chosen.agreement.identical > MOSTLY
    assert found.chosen.agreement.images == SCENES
    assert set(found.chosen.float_layers).isdisjoint(found.quant_params)


def test_the_worst_layers_stay_in_float_until_the_gate_passes(small, album, monkeypatch):
    """A gate that never passes: every query is a detection, and scores would have to differ by less than 0."""
    monkeypatch.setattr(trial, "THRESHOLD", 0.0)
    monkeypatch.setattr(trial, "FEWEST_DETECTIONS", 1)
    monkeypatch.setattr(calibrate, "FEWEST_DETECTIONS", 1)
    monkeypatch.setattr(trial, "SCORES_AT_MOST", -1.0)
    found = calibrate.calibrate(read_model(small), sorted(Path("images").iterdir()), no_progress)
    worst = sorted(found.layers, key=lambda layer: -found.layers[layer])
    tried = [t for t in found.trials if t.fp16_feed_forward]
    counts = [len(t.float_layers) for t in tried]
    assert counts == sorted(set(counts))
    assert counts[:4] == [0, 1, 2, 3]
    assert len(worst) / 2 < counts[-1] <= FLOATS_AT_MOST * len(worst)
    assert [t.float_layers for t in tried] == [tuple(worst[:count]) for count in counts]
    assert found.chosen.refusal() is not None
    assert found.report()["passed"] is False


def test_a_trial_that_cannot_pass_ends_early_and_the_last_one_does_not(small, album, monkeypatch):
    monkeypatch.setattr(trial, "THRESHOLD", 0.0)
    monkeypatch.setattr(trial, "FEWEST_DETECTIONS", 1)
    monkeypatch.setattr(calibrate, "FEWEST_DETECTIONS", 1)
    monkeypatch.setattr(trial, "required_share", lambda detections: 1.1)
    found = calibrate.calibrate(read_model(small), sorted(Path("images").iterdir()), no_progress)
    *earlier, last = (t.agreement.images for t in found.trials)
    assert set(earlier) == {1}
    assert last == 3
    assert found.chosen.refusal() is not None


def test_an_interrupt_leaves_nothing_behind(small, album, monkeypatch):
    Path("tmp").mkdir()
    monkeypatch.setattr(calibrate.tempfile, "gettempdir", lambda: "tmp")

    def until_int8(step, items):
        if step.startswith("int8"):
            raise KeyboardInterrupt
        return items

    with pytest.raises(KeyboardInterrupt):
        calibrate.calibrate(read_model(small), sorted(Path("images").iterdir()), until_int8)
    assert not list(Path("tmp").iterdir())


@pytest.mark.parametrize("writer", ["calibrate.write_backbone", "observation.write_graph"])
def test_a_full_disk_for_temporary_files_is_told_from_one_for_the_output(small, album, monkeypatch, writer):
    def refuse(path: Path, *_: object, **__: object) -> None:
        if writer == "calibrate.write_backbone":
            raise OSError(28, "No space left on device")
        raise OutputError(f"{path} cannot be written", found="No space left on device", remedy="choose another file")

    monkeypatch.setattr(f"detr_onnx.exporter.{writer}", refuse)
    message = "the temporary files of the calibration cannot be written: found No space left on device; free some space"
    with pytest.raises(OutputError, match=message):
        calibrate.calibrate(read_model(small), sorted(Path("images").iterdir()), no_progress)


def test_layers_are_measured_on_as_many_images_as_give_enough_values():
    images = [(Path(name), np.zeros(3, np.float32)) for name in "abcd"]
    for values, expected in ((1, "a"), (3, "a"), (4, "ab"), (100, "abcd")):
        assert [str(path) for path, _ in calibrate._first_with(values, images)] == [*expected]


def test_images_of_one_colour_are_skipped(small, album):
    images = [*sorted(Path("images").iterdir()), *sorted(Path("grey").iterdir())]
    found = calibrate.calibrate(read_model(small), images, no_progress)
    assert found.chosen.agreement.images == 3


# The command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_with_the_name_of_the_step(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(step_progress("int8 by mse", [1, 2, 3])) == [1, 2, 3]
    assert "2/3  0:00 left  int8 by mse" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().startswith("\r\x1b[Kdetr-onnx: int8 by mse\n")
    assert sys.stdout.getvalue() == ""


def test_elsewhere_a_step_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(step_progress("int8 by mse", [1, 2, 3])) == [1, 2, 3]
    assert sys.stderr.getvalue() == "detr-onnx: int8 by mse\n"


def test_the_bar_tells_the_share_and_the_time_left():
    assert step_line("fp32", 0, 64, 0.1) == "--------------------  0/64  fp32"
    assert step_line("fp32", 16, 64, 20.0) == "#####---------------  16/64  1:00 left  fp32"


def test_the_command_writes_the_report_and_the_metadata(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    int8 = ("--precision", "int8", "--calibrate", scenes, "--report", "-", "--force")
    status, out, err = outcome(["export", "demo", "-o", "m.onnx", *int8], capsys)
    assert status == 0, err
    report = json.loads(out)
    assert report.keys() == {"passed", "bounds", "methods", "chosen", "trials", "layers"}
    assert report["methods"].keys() == METHODS.keys()
    convolutions = [layer["layer"] for layer in report["layers"]]
    assert "backbone.conv1" in convolutions
    assert [layer["noise"] for layer in report["layers"]] == sorted(
        (layer["noise"] for layer in report["layers"]), reverse=True
    )
    metadata = {entry.key: entry.value for entry in onnx.load("m.onnx").metadata_props}
    assert metadata["detr_onnx.precision"] == "int8"
    assert json.loads(metadata["detr_onnx.int8"]) == report["chosen"]
    fp32, found = (Detector(model, engine="onnxruntime")(demo_image()) for model in ("demo", "m.onnx"))
    assert np.mean(found.scores) == pytest.approx(np.mean(fp32.scores), abs=0.1)


def test_a_network_that_detects_nothing_is_not_written_unless_forced(small, refused, album, capsys):
    int8 = ("--precision", "int8", "--calibrate", "images")
    message = refused(small, *int8, "--report", "r.json", status=1)
    assert message.startswith("int8 does not agree with fp32 on the images in images: found ")
    assert "too few to judge by, expected at least 50" in message
    assert message.endswith("--force")
    assert not Path("m.onnx").exists()
    assert json.loads(Path("r.json").read_text())["passed"] is False
    status, out, err = outcome(["export", small, "-o", "m.onnx", *int8, "--force"], capsys)
    assert (status, out) == (0, "")
    assert "int8 was forced: " in err
    assert Path("m.onnx").exists()


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--precision", "int8"], 2, "int8 has to be calibrated with images: found no --calibrate; add"),
        (["--calibrate", "images"], 2, "--calibrate can be used only with int8: found fp32; add --precision int8"),
        (["--precision", "fp16", "--report", "-"], 2, "--report can be used only with int8: found fp16"),
        (["--precision", "int8", "--calibrate", "gone"], 2, "cannot calibrate with gone: found no such directory"),
        (["--precision", "int8", "--calibrate", "images/0.png"], 2, "cannot calibrate with images/0.png: found a"),
        (["--precision", "int8", "--calibrate", "empty"], 1, "no images in empty: expected files that end in .jpg"),
        (["--precision", "int8", "--calibrate", "grey"], 1, "the images to calibrate with are blank: found one"),
        (["--precision", "int8", "--calibrate", "images", "--report", "no/r"], 1, "cannot write no/r: found no"),
        (["--precision", "int8", "--calibrate", "images", "--report", "m.onnx"], 1, "--report would overwrite m.onnx"),
        (["--precision", "int8", "--calibrate", "images", "--report", "images/0.png"], 1, "--report would overwrite"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_run_is_one_line(options, status, message, small, refused):
    assert refused(small, *options, status=status).startswith(message)
    assert not Path("m.onnx").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_that_cannot_be_written_does_not_lose_the_model(small, album, capsys):
    int8 = ("--precision", "int8", "--calibrate", "images", "--force", "--report", "/dev/full")
    status, _, err = outcome(["export", small, "-o", "m.onnx", *int8], capsys)
    assert status == 1
    assert "cannot write /dev/full: found No space left on device" in err
    assert Path("m.onnx").exists()


def test_an_image_that_cannot_be_read_is_named(small, refused):
    Path("images/1.png").write_bytes(b"no image")
    message = refused(small, "--precision", "int8", "--calibrate", "images", status=1)
    assert "1.png" in message
