"""Images in, detections out, whatever holds the image and whatever runs the model."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.detections import Detections
from detr_onnx.engines import Engine
from detr_onnx.errors import DetrError, EngineError, HubError, ImageError, ModelFileError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import OpenModel
from detr_onnx.read_ahead import MOST_AT_ONCE
from tests.parity.seeded import huggingface_config, write_checkpoint
from tests.small_model import (
    CONFIG,
    LABELS,
    LONGEST_PX,
    SHORTEST_PX,
    sample_image,
    write_config,
    write_foreign_onnx,
)
from tests.standin_hub import StandInHub

pytest.importorskip("onnxruntime")

SCORE_TOLERANCE = 1e-4  # logits agree to 1e-3 of their deviation; softmax flattens that
BOX_TOLERANCE_PX = 2e-3  # 1e-5 of images that are at most 131 pixels wide, and float32
THEIR_SCORES = 1e-3  # ours against torch's, through preprocessing, network and softmax
THEIR_BOXES_PX = 1e-2
SIZES_WH = [(64, 48), (131, 60), (40, 90)]
DETECT = """
import sys
from detr_onnx.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def detector(graph) -> Detector:
    return Detector(graph, engine="onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def images():
    return [sample_image(width, height, seed) for seed, (width, height) in enumerate(SIZES_WH)]


def png(image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def assert_same(found: Detections, expected: Detections) -> None:
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)


def assert_close(found: Detections, expected: Detections, score=SCORE_TOLERANCE, box_px=BOX_TOLERANCE_PX) -> None:
    """All queries of both, so that no threshold is between them; a tie of two classes may fall either way."""
    assert len(found) == len(expected) == CONFIG.queries
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=score)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=box_px)


def lambda_detector(monkeypatch, network, **facts) -> Detector:
    """A Detector around a function."""
    from detr_onnx.image.processor_config import Preprocessing

    opened = OpenModel(Engine("a test", network, **facts), LABELS, Preprocessing(SHORTEST_PX, LONGEST_PX), "any")
    monkeypatch.setattr("detr_onnx.detector.open_model", lambda *arguments, **options: opened)
    return Detector("any")


# Images


def test_an_empty_batch_gives_an_empty_list(detector):
    assert detector.batch([]) == []
    assert detector.batch(iter(())) == []


def test_every_kind_of_image_source_gives_the_same_detections(detector, images, tmp_path):
    image = images[0]
    expected = detector(image, 0.0)
    (tmp_path / "image.png").write_bytes(png(image))
    assert len(expected) == CONFIG.queries
    with (tmp_path / "image.png").open("rb") as file:
        for source in (tmp_path / "image.png", str(tmp_path / "image.png"), png(image), file, np.asarray(image)):
            assert_same(detector(source, 0.0), expected)


def test_detections_are_in_pixels_of_the_image_as_it_came(detector, images):
    once = detector(images[0], 0.0)
    twice = detector(images[0].resize((128, 96), 0), 0.0)
    assert once.xyxy.max() < 2 * 64
    assert once.class_names == LABELS
    assert twice.xyxy.max() > once.xyxy.max()


def test_a_batch_one_by_one_equals_single_calls(detector, images):
    for found, image in zip(detector.batch(images, 0.0), images, strict=True):
        assert_same(found, detector(image, 0.0))


def test_images_of_one_size_batched_equal_single_calls(detector):
    images = [sample_image(64, 48, seed) for seed in range(3)]
    for found, image in zip(detector.batch(images, 0.0, batch_size=3), images, strict=True):
        assert_close(found, detector(image, 0.0))


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_images_of_different_sizes_are_batched_with_a_mask(detector, images, batch_size):
    found = detector.batch(images, 0.0, batch_size=batch_size)
    pixels, mask, sizes_hw = detector.preprocess(images[:batch_size])
    logits, boxes = detector.network(pixels, mask)
    assert not mask.all()
    assert sizes_hw.tolist() == [[height, width] for width, height in SIZES_WH[:batch_size]]
    centres = (found[0].xyxy[:, :2] + found[0].xyxy[:, 2:]) / 2 / SIZES_WH[0]
    np.testing.assert_allclose(centres, boxes[0, :, :2], atol=1e-6)  # a few roundings of float32
    assert found[0].class_ids.tolist() == logits[0, :, :-1].argmax(-1).tolist()


def test_images_are_read_as_they_are_needed(detector, images):
    read = []

    def one_by_one() -> Iterator:
        for number, image in enumerate(images):
            read.append(number)
            yield image
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.batch(one_by_one())
    assert read == [0, 1, 2]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_out_of_range_is_refused_before_any_image_is_read(detector, threshold):
    with pytest.raises(UsageError, match="the threshold is out of range"):
        detector("gone.jpg", threshold)


def test_the_default_threshold_is_a_half(detector, images):
    assert_same(detector(images[0]), detector(images[0], 0.5))
    assert len(detector(images[0], 1.0)) == 0


@pytest.mark.parametrize("batch_size", [0, -1, "2", 1.5, None])
def test_a_wrong_batch_size_is_refused(detector, batch_size):
    with pytest.raises(UsageError, match="the batch size is wrong"):
        detector.batch([], batch_size=batch_size)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (300, 1), (5000, 1)])
@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_the_thinnest_images_are_detected(small, engine, width, height):
    found = Detector(small, engine=engine)(sample_image(width, height), 0.0)
    assert len(found) == CONFIG.queries
    assert np.isfinite(found.xyxy).all()


def test_a_source_that_is_not_an_image_is_an_image_error(detector, tmp_path):
    with pytest.raises(ImageError, match=r"cannot read 'gone\.jpg'"):
        detector("gone.jpg")
    with pytest.raises(ImageError, match="is not an image"):
        detector(b"not an image")


# Preprocessing


def test_preprocess_gives_pixels_mask_and_sizes(detector, images):
    pixels, mask, sizes_hw = detector.preprocess(images)
    assert pixels.dtype == np.float32
    assert pixels.shape == (3, 3, *mask.shape[1:])
    assert sizes_hw.tolist() == [[48, 64], [60, 131], [90, 40]]
    assert not pixels[~np.broadcast_to(mask[:, None], pixels.shape)].any()


@pytest.mark.parametrize("size", [16, 100])
def test_shortest_edge_is_the_short_side(graph, images, size):
    pixels, _, _ = Detector(graph, shortest_edge=size).preprocess(images[:1])
    assert min(pixels.shape[2:]) == size


def test_shortest_edge_resizes_also_for_models_that_do_not(small, tmp_path):
    still = shutil.copytree(small, tmp_path / "still")
    (still / "preprocessor_config.json").write_text('{"do_resize": false}')
    assert Detector(still, engine="numpy").preprocess([sample_image(50, 40)])[0].shape == (1, 3, 40, 50)
    assert Detector(still, engine="numpy", shortest_edge=20).preprocess([sample_image(50, 40)])[0].shape == (
        1,
        3,
        20,
        25,
    )


@pytest.mark.parametrize("size", [0, -1, 8193, "32", 32.5, float("nan"), True])
def test_a_wrong_shortest_edge_is_refused(graph, size):
    with pytest.raises(UsageError, match="shortest_edge is wrong"):
        Detector(graph, shortest_edge=size)


# Streams


def test_a_stream_of_nothing_is_empty(detector):
    assert list(detector.stream([])) == []


def test_a_stream_equals_single_calls_in_order(detector, images):
    several = [images[i % len(images)] for i in range(7)]
    for found, image in zip(detector.stream(several, 0.0), several, strict=True):
        assert_same(found, detector(image, 0.0))


def test_a_stream_reads_only_a_few_images_ahead(detector, images):
    taken = []

    def endless() -> Iterator:
        while True:
            taken.append(len(taken))
            yield images[0]

    stream = detector.stream(endless(), 0.0)
    for count in range(1, 6):
        next(stream)
        assert len(taken) < count + MOST_AT_ONCE
    stream.close()


def test_a_stream_decodes_ahead_while_the_network_runs(monkeypatch, images):
    decoded, seen_by_network = threading.Event(), []

    def network(pixels, mask):
        seen_by_network.append(decoded.wait(timeout=30))
        return np.zeros((1, 2, 8), np.float32), np.zeros((1, 2, 4), np.float32)

    class Second:
        """A file object that tells when it is read."""

        def read(self, *size) -> bytes:
            decoded.set()
            return png(images[1])

    list(lambda_detector(monkeypatch, network).stream([images[0], Second()]))
    assert seen_by_network == [True, True]


def test_a_stream_raises_when_it_reaches_the_bad_image(detector, images):
    stream = detector.stream([images[0], b"not an image", images[1]], 0.0)
    assert_same(next(stream), detector(images[0], 0.0))
    with pytest.raises(ImageError, match="not an image"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    "images",
    [
        *("a.jpg", b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), Path("a.jpg"), io.BytesIO(), None, 5),
        *(sample_image(2, 2), np.zeros((4, 4, 3), np.uint8)),
    ],
)
@pytest.mark.parametrize("method", ["batch", "stream", "preprocess"])
def test_batch_and_stream_refuse_a_single_image(detector, method, images):
    with pytest.raises(UsageError, match=r"a list of images is expected: found .*; use detector\(image\)"):
        getattr(detector, method)(images)


def test_an_array_of_several_images_is_a_batch(detector):
    assert len(detector.batch(np.zeros((2, 32, 32, 3), np.uint8))) == 2


def test_a_generator_of_images_is_a_batch_too(detector):
    with pytest.raises(UsageError, match=r"takes one image: found a generator; use detector.batch"):
        detector(name for name in ("a.jpg", "b.jpg"))


@pytest.mark.parametrize("several", [["a.jpg", "b.jpg"], ("a.jpg",), []])
def test_a_call_with_several_images_is_refused(detector, several):
    with pytest.raises(UsageError, match=rf"takes one image: found a \w+ of {len(several)}; use detector.batch"):
        detector(several)


# What a Detector says of itself


def test_the_repr_names_the_model_and_the_runtime(graph):
    detector = Detector(graph, engine="onnxruntime")
    assert repr(detector) == f"<Detector {graph}: {detector.runtime}>"
    assert detector.runtime.startswith("onnxruntime ")
    assert detector.runtime.endswith("CPUExecutionProvider, fp32")


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_a_pickled_detector_opens_again_with_its_own_arguments(small, images, engine):
    detector = Detector(small, engine=engine, shortest_edge=40, labels=list("abcdefg"))
    copy = pickle.loads(pickle.dumps(detector))
    assert (copy.engine, copy.class_names, copy.preprocessing) == (engine, tuple("abcdefg"), detector.preprocessing)
    assert_same(copy(images[0], 0.0), detector(images[0], 0.0))
    assert len(pickle.dumps(detector)) < 2000  # arguments, not weights


def test_detections_know_the_path_of_their_image(detector, images, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(images[0]))
    for found in (detector(path), detector.batch([path])[0], next(detector.stream([path]))):
        assert found.path == str(path)
    assert detector(images[0]).path is None
    assert [found.path for found in detector.batch([images[0], path, png(images[0])])] == [None, str(path), None]


# Engines


@pytest.mark.parametrize("size", SIZES_WH)
def test_the_engines_agree(small, size):
    image = sample_image(*size)
    by_numpy, by_onnxruntime = (Detector(small, engine=engine) for engine in ("numpy", "onnxruntime"))
    assert by_numpy.engine == "numpy"
    assert by_onnxruntime.engine == "onnxruntime"
    assert_close(by_onnxruntime(image, 0.0), by_numpy(image, 0.0))


def test_the_engines_agree_on_a_padded_batch(small, images):
    by_numpy, by_onnxruntime = (
        Detector(small, engine=engine).batch(images, 0.0, batch_size=3) for engine in ("numpy", "onnxruntime")
    )
    for found, expected in zip(by_onnxruntime, by_numpy, strict=True):
        assert_close(found, expected)


def test_an_engine_may_be_any_function(monkeypatch):
    def network(pixels, mask):
        logits = np.zeros((len(pixels), 2, len(LABELS) + 1), np.float32)
        logits[:, 0, 1] = 9
        return logits, np.full((len(pixels), 2, 4), 0.5, np.float32)

    (dog,) = lambda_detector(monkeypatch, network)(sample_image(40, 20))
    assert (dog.label, dog.box.xmin, dog.box.ymin, dog.box.xmax, dog.box.ymax) == ("dog", 10, 5, 30, 15)


@pytest.mark.parametrize("place", ["logits", "boxes"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error_not_an_empty_answer(monkeypatch, place, value):
    def network(pixels, mask):
        logits = np.full((1, 2, len(LABELS) + 1), value if place == "logits" else 0, np.float32)
        return logits, np.full((1, 2, 4), value if place == "boxes" else 0, np.float32)

    with pytest.raises(EngineError, match="a test computed numbers that are not finite"):
        lambda_detector(monkeypatch, network)(sample_image(40, 20))


def test_a_number_of_classes_known_only_from_the_outputs_is_checked(monkeypatch):
    def network(pixels, mask):
        return np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 4), np.float32)

    with pytest.raises(ModelFileError, match="found 7 names for 3 classes"):
        lambda_detector(monkeypatch, network)(sample_image(40, 20))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"engine": "tensorflow"}, "no such engine"),
        ({"providers": ["Quantum"]}, "no provider 'Quantum'"),
        ({"precision": "fp7"}, "no such precision"),
        ({"labels": "cat"}, "labels is not a list of names"),
        ({"labels": ["cat"]}, "1 names for 7 classes"),
    ],
)
def test_a_requested_engine_or_precision_is_never_replaced(graph, options, error):
    with pytest.raises(DetrError, match=error):
        Detector(graph, **options)


def test_labels_can_be_renamed(graph):
    assert Detector(graph, labels=list("abcdefg")).class_names == tuple("abcdefg")
    assert {d.label for d in Detector(graph, labels=list("abcdefg"))(sample_image(64, 48), 0.0)} <= set("abcdefg")


def test_warming_up_runs_an_image_of_that_size(monkeypatch):
    seen = []

    def network(pixels, mask):
        seen.append(pixels.shape)
        return np.zeros((1, 2, len(LABELS) + 1), np.float32), np.full((1, 2, 4), 0.5, np.float32)

    detector = lambda_detector(monkeypatch, network)
    assert detector.warm_up() is None
    detector.warm_up(100, 50)
    assert seen == [(1, 3, *detector.preprocessing.resized_hw(*hw)) for hw in ((480, 640), (50, 100))]
    with pytest.raises(UsageError, match="the size is wrong: found 0x50"):
        detector.warm_up(0, 50)


def test_a_faulty_model_fails_in_warm_up(monkeypatch):
    def network(pixels, mask):
        return np.full((1, 2, len(LABELS) + 1), np.nan, np.float32), np.full((1, 2, 4), 0.5, np.float32)

    with pytest.raises(EngineError, match="not finite"):
        lambda_detector(monkeypatch, network).warm_up()


def test_the_number_of_threads_can_be_set(graph, detector):
    assert_close(
        Detector(graph, engine="onnxruntime", threads=1)(sample_image(64, 48), 0.0), detector(sample_image(64, 48), 0.0)
    )


# Graphs of one shape, and of other exporters


def export(small: Path, tmp_path: Path, form: ExportOptions) -> Detector:
    write_onnx(tmp_path / "form.onnx", *read_model(small), form)
    return Detector(tmp_path / "form.onnx", engine="onnxruntime")  # in float32 on every processor


def test_a_fixed_shape_with_a_mask_pads(small, tmp_path, detector, images):
    fixed = export(small, tmp_path, ExportOptions((64, 107), batch=1))
    pixels, mask, _ = fixed.preprocess(images[:1])
    assert pixels.shape == (1, 3, 64, 107)
    assert mask.sum() == 64 * 85  # 48x64 scaled to a short side of 64
    logits, _ = detector.network(pixels, mask)
    found = fixed(images[0], 0.0)
    assert found.class_ids.tolist() == logits[0, :, :-1].argmax(-1).tolist()
    assert len(fixed.batch(images, 0.0, batch_size=5)) == 3


def test_a_fixed_shape_of_the_images_own_size_is_the_dynamic_graph(small, tmp_path, detector):
    image = sample_image(107, 64)
    assert_close(export(small, tmp_path, ExportOptions((64, 107), batch=1))(image, 0.0), detector(image, 0.0))


def test_an_image_that_does_not_fit_is_scaled_until_it_does(small, tmp_path):
    pixels, mask, _ = export(small, tmp_path, ExportOptions((32, 32), batch=1)).preprocess([sample_image(100, 50)])
    assert pixels.shape == (1, 3, 32, 32)
    assert mask.sum() == 16 * 32


def test_a_fixed_shape_without_a_mask_stretches(small, tmp_path, images):
    fixed = export(small, tmp_path, ExportOptions((48, 96), mask=False, batch=1))
    pixels, mask, _ = fixed.preprocess(images[:1])
    assert pixels.shape == (1, 3, 48, 96)
    assert mask.all()
    assert pixels[0, :, :, -1].any()
    assert len(fixed.batch(images, 0.0)) == 3


def test_a_fixed_shape_without_a_mask_takes_no_other_size(small, tmp_path):
    write_onnx(tmp_path / "form.onnx", *read_model(small), ExportOptions((48, 96), mask=False, batch=1))
    with pytest.raises(UsageError, match="the model takes images of 48x96 only: found shortest_edge 32"):
        Detector(tmp_path / "form.onnx", shortest_edge=32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_fixed_batch_is_filled_up(small, tmp_path, detector, count):
    images = [sample_image(64, 48, seed) for seed in range(count)]
    fixed = export(small, tmp_path, ExportOptions(batch=2))
    for found in (fixed.batch(images, 0.0), list(fixed.stream(images, 0.0))):
        assert len(found) == count
        for one, image in zip(found, images, strict=True):
            assert_close(one, detector(image, 0.0))


def test_the_methods_for_single_steps_fill_up_a_fixed_batch(small, tmp_path, detector, images):
    fixed = export(small, tmp_path, ExportOptions(batch=2))
    pixels, mask, sizes_hw = fixed.preprocess(images[:1])
    assert [len(array) for array in fixed.network(pixels)] == [1, 1]
    (found,) = fixed.postprocess(*fixed.network(pixels, mask), sizes_hw, 0.0)
    assert_close(found, detector(images[0], 0.0))


FOREIGN = {
    "optimum": (ExportOptions(mask=False), {}),
    "one image at a time": (ExportOptions(mask=False), {"pixel_values": [1, 3]}),
    "transformers.js": (ExportOptions(), {"pixel_mask": ["batch", 64, 64]}),
}


@pytest.mark.parametrize("exporter", FOREIGN)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_files_of_other_exporters_give_the_same_detections_in_a_batch(
    small, graph, tmp_path, images, exporter, batch_size
):
    form, axes = FOREIGN[exporter]
    path, config = write_foreign_onnx(tmp_path / "foreign.onnx", small, form, **axes), write_config(tmp_path / "config")
    ours, foreign = Detector(graph, engine="onnxruntime"), Detector(path, engine="onnxruntime", config=config)
    assert foreign.class_names == LABELS
    assert foreign.runtime.endswith("as exported")
    several = [images[0], images[0], *images]
    for found, image in zip(foreign.batch(several, 0.0, batch_size=batch_size), several, strict=True):
        assert_close(found, ours(image, 0.0))


# Names of the hub


@pytest.fixture
def standin(tmp_path, monkeypatch) -> Iterator[StandInHub]:
    """The hub, empty, as the environment's endpoint, and no trace of anybody's own settings."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with StandInHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_name_of_the_hub_is_fetched_once_and_works_offline_from_then_on(standin, small):
    standin.add("owner/name", {file.name: file for file in small.iterdir()})
    expected = Detector(small)(sample_image(64, 48), 0.0)
    assert_close(Detector("owner/name")(sample_image(64, 48), 0.0), expected)
    asked = len(standin.bodies())
    assert_close(Detector("owner/name", offline=True)(sample_image(64, 48), 0.0), expected)
    assert asked == len(standin.bodies()) >= 2


def test_a_name_that_is_not_cached_and_cannot_be_fetched_is_one_error(standin):
    standin.status = 503
    with pytest.raises(HubError, match="could not serve owner/name"):
        Detector("owner/name")
    with pytest.raises(HubError, match="owner/name is not cached and requests are switched off"):
        Detector("owner/name", offline=True)


@pytest.mark.slow
def test_a_full_size_model_is_downloaded_and_run_by_the_command_line(standin, tmp_path):
    from tests.parity.seeded import CONFIGS

    full = write_checkpoint(tmp_path / "full", CONFIGS["detr-resnet-50"], 1)
    standin.add("owner/full", {file.name: file for file in full.iterdir()})
    sample_image(640, 480).save(tmp_path / "street.png")
    command = [sys.executable, "-c", DETECT, "detect", str(tmp_path / "street.png"), "-m", "owner/full"]
    command += ["--threshold", "0", "--size", "256", "--save", str(tmp_path / "out.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert len(rows) == 100
    assert (tmp_path / "out.png").exists()
    shutil.rmtree(os.environ["DETR_ONNX_CACHE"])  # half a gigabyte that nobody needs any more
    shutil.rmtree(full)


# Against transformers


@pytest.mark.oracle
@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_of_mixed_sizes_come_out_as_from_transformers(small, images, batch_size):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    processors = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    model = transformers.DetrForObjectDetection.from_pretrained(small).eval()
    processor = processors.DetrImageProcessorPil(size={"shortest_edge": SHORTEST_PX, "longest_edge": LONGEST_PX})
    for engine in ("numpy", "onnxruntime"):
        found = Detector(small, engine=engine).batch(images, 0.0, batch_size=batch_size)
        expected = []
        for start in range(0, len(images), batch_size):
            group = images[start : start + batch_size]
            with torch.no_grad():
                outputs = model(**processor(group, return_tensors="pt"))
            sizes = torch.tensor([(image.height, image.width) for image in group])
            expected += processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.scores, theirs["scores"].numpy(), rtol=0, atol=THEIR_SCORES)
            np.testing.assert_allclose(ours.xyxy, theirs["boxes"].numpy(), rtol=0, atol=THEIR_BOXES_PX)


def test_outputs_of_the_small_model_differ_by_query_and_by_image(detector, images):
    """Its queries differ, its scores spread and its images matter; else the tests above would show little."""
    found = detector.batch(images, 0.0)
    assert np.ptp(found[0].scores) > 0.05
    assert len({hashlib.sha256(one.scores.tobytes()).digest() for one in found}) == 3
    assert huggingface_config(CONFIG)["num_queries"] == CONFIG.queries


@pytest.mark.parametrize("threads", [1, None])
def test_detections_of_the_images_before_come_first_if_the_images_fail(graph, images, threads):
    def failing():
        yield from images[:3]
        raise OSError("the network share is gone")

    detector = Detector(graph, engine="onnxruntime", threads=threads)
    stream, found = detector.stream(failing()), []
    with pytest.raises(OSError, match="the network share is gone"):
        found.extend(stream)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("threads", "cores", "leaves"), [(None, 4, False), (4, 4, False), (8, 4, False), (3, 4, True), (1, 1, False)]
)
def test_leaves_cores_is_true_on_gpus_and_with_few_threads(monkeypatch, graph, threads, cores, leaves):
    monkeypatch.setattr("detr_onnx.detector.usable_cores", lambda: cores)
    assert Detector(graph, engine="onnxruntime", threads=threads).leaves_cores is leaves


# Arguments of other kinds


class Index:
    """An integer of another library."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


@pytest.mark.parametrize("threshold", ["0.5", None, [0.5], np.array([0.5, 0.6]), 1j, float("nan"), 1.5])
@pytest.mark.parametrize("method", ["__call__", "batch", "stream", "attention"])
def test_a_threshold_that_is_not_a_number_is_refused(detector, images, method, threshold):
    with pytest.raises(UsageError, match=r"the threshold is out of range: found .*, expected a number from 0 to 1"):
        getattr(detector, method)(images[:1], threshold)


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.array, Index], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_has_an_index_is_an_integer(graph, images, engine, number):
    pytest.importorskip(engine)
    detector = Detector(graph, engine=engine, threads=number(1), shortest_edge=number(32))
    assert len(detector.batch(images, batch_size=number(2))) == len(images)
    detector.warm_up(number(20), number(10))
    assert detector(images[0], 0.0)[number(1)].label in LABELS
    assert pickle.loads(pickle.dumps(detector)).runtime == detector.runtime


@pytest.mark.parametrize("number", [True, np.True_, np.array(True), 1.0, np.float32(1), "1", np.array([1]), [1]])
@pytest.mark.parametrize("argument", ["threads", "shortest_edge"])
def test_what_is_no_integer_is_refused(graph, argument, number):
    with pytest.raises(UsageError, match=f"{argument} is wrong: found "):
        Detector(graph, engine="onnxruntime", **{argument: number})


def test_numbers_of_numpy_are_numbers(graph, images):
    detector = Detector(graph, engine="onnxruntime", shortest_edge=np.int64(32))
    assert json.dumps(detector.preprocessing.to_json())
    assert_same(detector(images[0], np.float32(0)), detector(images[0], 0.0))
    assert len(detector.batch(images, np.float64(0.5), batch_size=np.int64(2))) == len(images)
    detector.warm_up(np.int64(20), np.int64(10))


@pytest.mark.parametrize("size", [("20", 10), (20.5, 10), (None, 10)])
def test_a_size_to_warm_up_that_is_not_whole_is_refused(detector, size):
    with pytest.raises(UsageError, match="the size is wrong"):
        detector.warm_up(*size)


@pytest.mark.parametrize("labels", [5, "cat", [1]])
def test_labels_that_are_not_names_are_refused(graph, labels):
    with pytest.raises(UsageError, match="labels is not a list of names"):
        Detector(graph, labels=labels)


def test_labels_may_come_from_a_generator_also_in_another_process(graph):
    detector = Detector(graph, labels=(name.upper() for name in LABELS))
    assert pickle.loads(pickle.dumps(detector)).class_names == tuple(name.upper() for name in LABELS)


def test_the_path_of_an_entry_of_a_directory_in_bytes_is_a_text(detector, tmp_path):
    sample_image(20, 10).save(tmp_path / "a.png")
    (entry,) = [entry for entry in os.scandir(os.fsencode(tmp_path)) if entry.name == b"a.png"]
    found = detector(entry, 0.0)
    assert found.path == str(tmp_path / "a.png")
    assert found.draw().size == (20, 10)
