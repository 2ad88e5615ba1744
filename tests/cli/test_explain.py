"""`detr-onnx explain`: a figure or arrays, chosen objects and points, and one line for everything that is wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.models.open import demo_directory, demo_image
from tests.cli.command_line import complaint, outcome
from tests.small_model import sample_image

SCENE = demo_image()


@pytest.fixture(scope="module")
def maps():
    return Detector("demo", engine="numpy").attention(SCENE)


@pytest.fixture
def explain(tmp_path, capsys):
    """Runs the command on the demo scene, or another image, with the numpy engine."""

    def explain(*arguments, image=SCENE, output="maps.png", model="demo"):
        out = tmp_path / output
        return outcome(["explain", image, "-m", model, "--engine", "numpy", "-o", out, *arguments], capsys), out

    return explain


def drawn(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_figure_shows_all_objects(explain, maps):
    ended, out = explain()
    assert ended == (0, "", "")
    assert np.array_equal(drawn(out), np.asarray(maps.draw()))


def test_an_object_is_counted_from_the_best(explain, maps):
    assert explain("--object", 1)[0] == (0, "", "")
    _, out = explain("--object", len(maps), "--layer", 0, "--head", 3)
    assert np.array_equal(drawn(out), np.asarray(maps.draw(maps.best_first()[-1], layer=0, head=3)))


def test_points_are_what_is_drawn_if_there_are_any(explain):
    points = [(100, 100), (400.5, 300)]
    _, out = explain("--point", "100,100", "--point", "400.5,300", "--layer", "mean")
    expected = Detector("demo", engine="numpy").attention(SCENE, points=points)
    assert np.array_equal(drawn(out), np.asarray(expected.draw(layer=None)))


def test_arrays_are_written_for_npz(explain, maps):
    ended, out = explain("--point", "1,2", output="maps.npz")
    assert ended == (0, "", "")
    with np.load(out) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            "scores": (7,),
            "labels": (7,),
            "xyxy": (7, 4),
            "queries": (7,),
            "decoder": (7, 3, 8, 24, 32),
            "points": (1, 2),
            "encoder": (1, 3, 8, 24, 32),
        }
        np.testing.assert_allclose(arrays["decoder"], maps.decoder, atol=1e-6)
        assert arrays["labels"].tolist() == maps.detections.labels


def test_an_image_from_stdin(explain, monkeypatch, maps):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SCENE.read_bytes())))
    ended, out = explain("--object", 1, image="-")
    assert ended[0] == 0
    assert drawn(out).shape == np.asarray(maps.draw(0)).shape


def test_images_of_one_pixel_and_of_one_column_have_figures(explain, small, tmp_path):
    for size in ((1, 1), (1, 5000)):
        image = tmp_path / "odd.png"
        sample_image(*size).save(image)
        for more in (["--threshold", 0], ["--point", "0,0"]):
            ended, out = explain(*more, image=image, model=small)
            assert ended == (0, "", "")
            assert min(drawn(out).shape[:2]) > 100


@pytest.mark.parametrize(("arguments", "message"), [
    (["--object", "8"], "no such object: found 8, expected 1 to 7"),
    (["--object", "0"], "no such object: found 0, expected 1 to 7"),
    (["--object", "-1"], "no such object: found -1"),
    (["--object", "1", "--threshold", "1"], "no object is above the threshold: found --object 1; lower --threshold"),
    (["--layer", "3"], "no such layer: found 3, expected 0 to 2"),
    (["--layer", "last"], "the layer is wrong: found 'last', expected a number or mean"),
    (["--head", "8"], "no such head: found 8, expected 0 to 7"),
    (["--head", "1.5"], "the head is wrong"),
    (["--point", "640,3"], "the point is outside the image: found 640,3, expected x from 0 to 639 and y from 0 to 479"),
    (["--point", "3,-1"], "the point is outside the image: found 3,-1"),
    (["--point", "3"], "the point is wrong: found '3', expected X,Y in pixels"),
    (["--point", "1,2,3"], "the point is wrong"),
    (["--point", "nan,1"], "the point is wrong"),
    (["--threshold", "2"], "the threshold is out of range"),
])  # fmt: skip
def test_a_wrong_choice_is_one_line(explain, arguments, message):
    ended, out = explain(*arguments)
    assert message in complaint(ended, 2)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments", [["--object", 1], ["--layer", "mean"], ["--head", 0], ["--layer", -1, "--head", 0]]
)
def test_arrays_have_all_maps_so_none_can_be_chosen(explain, arguments):
    ended, out = explain(*arguments, output="maps.NPZ")
    found = " and ".join(arguments[::2])
    remedy = "leave it out, or write a figure such as maps.png"
    assert complaint(ended, 2) == f"an .npz file has all maps: found {found}; {remedy}"
    assert not out.exists()


def test_an_object_and_a_point_exclude_each_other(explain):
    (status, _, err), _ = explain("--object", 1, "--point", "1,1")
    assert status == 2
    assert "not allowed with argument" in err


def test_nothing_detected_is_one_line_and_no_file(explain):
    ended, out = explain("--threshold", 1)
    assert "nothing to draw: found no object above the threshold; lower the threshold" in complaint(ended, 1)
    assert not out.exists()
    ended, out = explain("--threshold", 1, output="maps.npz")
    assert ended == (0, "", "")
    assert np.load(out)["decoder"].shape == (0, 3, 8, 24, 32)


def test_a_graph_file_without_maps_says_what_to_do(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    graph = demo_directory() / "model.onnx"
    ended = outcome(["explain", SCENE, "-m", graph, "-o", tmp_path / "x.png"], capsys)
    assert f"no attention maps: found {graph}; use the checkpoint, or export it with --attention" in complaint(ended, 2)


def test_an_exported_graph_with_maps_is_explained(explain, small, tmp_path, capsys):
    pytest.importorskip("onnx")
    graph = tmp_path / "m.onnx"
    assert outcome(["export", small, "-o", graph, "--attention"], capsys)[0] == 0
    image = tmp_path / "image.png"
    sample_image(90, 61).save(image)
    arguments = ["-o", tmp_path / "x.npz", "--threshold", 0.4, "--point", "3,4"]
    assert outcome(["explain", image, "-m", graph, *arguments], capsys) == (0, "", "")
    assert explain("--threshold", 0.4, "--point", "3,4", image=image, model=small, output="y.npz")[0][0] == 0
    found, expected = (np.load(tmp_path / name) for name in ("x.npz", "y.npz"))
    for name in ("decoder", "encoder"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)


def test_end_to_end_graphs_have_no_maps(small, tmp_path, capsys):
    ended = outcome(["export", small, "-o", tmp_path / "m.onnx", "--attention", "--end-to-end"], capsys)
    assert "--end-to-end writes detections alone: found --attention; leave one of them out" in complaint(ended, 2)


@pytest.mark.parametrize(("output", "message", "status"), [
    ("no/x.png", "no directory", 1),
    ("no/x.npz", "no directory", 1),
    ("x.xyz", "cannot save an image as", 2),
])  # fmt: skip
def test_an_output_that_cannot_be_written_is_found_before_the_work(explain, monkeypatch, output, message, status):
    monkeypatch.setattr("detr_onnx.cli.explain.open_detector", lambda arguments: pytest.fail("it opened the model"))
    assert message in complaint(explain(output=output)[0], status)


def test_the_image_itself_is_never_overwritten(tmp_path, capsys):
    image = tmp_path / "image.png"
    sample_image(9, 9).save(image)
    before = image.read_bytes()
    ended = outcome(["explain", image, "-m", "demo", "-o", image], capsys)
    assert complaint(ended, 1).startswith(f"-o {image} would overwrite the image")
    assert image.read_bytes() == before


def test_one_image_is_explained_at_a_time(explain, small, tmp_path):
    for name in "ab":
        sample_image(9, 9).save(tmp_path / f"{name}.png")
    assert "explain takes one image: found 2 in" in complaint(explain(image=tmp_path)[0], 2)
    assert "no such file" in complaint(explain(image=tmp_path / "c.png")[0], 1)
    (tmp_path / "text.png").write_text("not an image")
    assert "text.png" in complaint(explain(image=tmp_path / "text.png", model=small)[0], 1)


@pytest.mark.parametrize("model", ["demo", "demo-panoptic"])
def test_both_demo_models_say_that_they_are_not_for_photographs(tmp_path, explain, model):
    sample_image(40, 30).save(tmp_path / "photo.png")
    (status, _, err), _ = explain("--threshold", 0, image=tmp_path / "photo.png", model=model)
    assert status == 0
    assert "the demo model recognises drawings only" in err


def test_the_image_is_not_replaced_by_its_arrays(tmp_path, explain):
    image = tmp_path / "a.npz"
    sample_image(40, 30).save(image, "PNG")
    before = image.read_bytes()
    assert complaint(explain(image=image, output="a.npz")[0], 1).startswith("-o would overwrite")
    assert image.read_bytes() == before
