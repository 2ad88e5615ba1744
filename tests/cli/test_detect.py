"""`detr-onnx detect`: results on stdout, one line on stderr for each error, and the right exit status."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detr_onnx import Detector
from detr_onnx.cache import list_entries
from detr_onnx.cli import save_paths
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.exporter.onnx_file import ExportOptions
from detr_onnx.image import decode, draw
from detr_onnx.models.open import demo_image
from tests.cli.command_line import PREFIX
from tests.small_model import CONFIG, LABELS, sample_image, write_foreign_onnx

pytest.importorskip("onnxruntime")

SCORE_TOLERANCE = 1e-4  # the cached graph has attention as one node, the exported one in its parts


# Options


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--threshold", "1.5"], "the threshold is out of range: found 1.5, expected a number from 0 to 1"),
        (["--threshold", "nan"], "the threshold is out of range: found nan"),
        (["--threshold=-0.1"], "the threshold is out of range: found -0.1"),
        (["--labels", "cat,do"], "the model has no label 'do'; did you mean 'dog'?"),
        (["--labels", "Remote"], "the model has no label 'Remote'; did you mean 'remote'?"),
        (["--labels", "qqq"], "the model has no label 'qqq': expected some of cat, dog, remote, traffic light, salt, "),
        (["--labels", ""], "--labels names no label: expected some of cat, dog"),
        (["--labels", " , "], "--labels names no label"),
        (["--threads", "0"], "the number of threads is wrong: found 0"),
        (["--size", "0"], "--size is wrong: found 0, expected a number of pixels from 1 to 8192"),
        (["--size", "8193"], "--size is wrong: found 8193, expected a number of pixels from 1 to 8192"),
        (["--save", "-"], "--save needs a file or a directory: found '-'; name one, such as ./boxes/"),
        (["--save", ""], "--save needs a file or a directory: found ''; name one, such as ./boxes/"),
        (["--providers", ""], "--providers cannot be read: found '', expected NAME or NAME:option=value"),
        (["--providers", "CPU:a"], "--providers cannot be read: found 'CPU:a', expected NAME"),
        (["--providers", "CPU:a=1"], "provider CPU has no options: found a"),
        (["--engine", "gpu"], "no such engine: found 'gpu', expected one of auto, openvino, onnxruntime"),
        (["--precision", "int4"], "no such precision: found 'int4'"),
        (["--config", "gone"], "there is no config gone"),
        (["--save", "out.xyz"], "cannot save an image as out.xyz: found the suffix '.xyz'"),
    ],
)
def test_a_wrong_value_ends_with_status_2_before_any_detection(refused, no_detection, arguments, says):
    assert refused("detect", "a.png", *arguments, status=2).startswith(says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--providers", "Quantum"], "this ONNX Runtime has no provider 'Quantum': found"),
        (["--engine", "numpy"], "engine numpy runs checkpoints: found the graph"),
    ],
)
def test_an_unavailable_engine_or_provider_ends_with_status_1(refused, no_detection, arguments, says):
    assert refused("detect", "a.png", *arguments).startswith(says)


# Results


def test_one_image_gives_exactly_the_hosted_apis_json(run, graph):
    status, out, err = run("detect", "a.png", "--threshold", "0.1")
    assert (status, err) == (0, "")
    assert out == json.dumps(Detector(graph)("a.png", 0.1).to_api()) + "\n"
    assert len(json.loads(out)) > 1


def test_no_detections_are_an_empty_array(run):
    assert run("detect", "a.png", "--threshold", "1") == (0, "[]\n", "")


def test_several_images_give_one_json_object_per_line(run, graph):
    status, out, err = run("detect", "a.png", "b.jpg", "--threshold", "0.1")
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"file": name, "detections": Detector(graph)(name, 0.1).to_api()} for name in ("a.png", "b.jpg")
    ]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [(["."], ["a.png", "b.jpg", "deep/c.png"]), (["*.png"], ["a.png"]), (["deep"], ["deep/c.png"]),
     (["**/*.png"], ["a.png", "deep/c.png"]), (["b.jpg", "b.jpg"], ["b.jpg"])],
)  # fmt: skip
def test_directories_and_patterns_give_results_by_file_name(run, arguments, files):
    status, out, _ = run("detect", *arguments)
    assert status == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == files


def stdin_of(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_stdin_can_be_an_image(run, monkeypatch):
    stdin_of(monkeypatch, Path("a.png").read_bytes())
    assert run("detect", "-", "--threshold", "0") == run("detect", "a.png", "--threshold", "0")
    stdin_of(monkeypatch, Path("a.png").read_bytes())
    out = run("detect", "-", "b.jpg")[1]
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["-", "b.jpg"]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_stdin_without_an_image_is_an_error(refused, monkeypatch, content):
    stdin_of(monkeypatch, content)
    assert "is not an image: found" in refused("detect", "-")


@pytest.mark.parametrize("form", ["json", "ndjson", "coco", "table"])
@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.jpg"]])
def test_every_format_has_every_detection(run, form, names):
    status, out, err = run("detect", *names, "--format", form, "--threshold", "0")
    assert (status, err) == (0, "")
    assert out.endswith("\n")
    count = CONFIG.queries * len(names)
    if form == "table":
        assert len(out.splitlines()) == count + len(names)
    elif form == "ndjson":
        assert sum(len(json.loads(line)["detections"]) for line in out.splitlines()) == count
    elif form == "coco":
        assert [row["image_id"] for row in json.loads(out)] == [i + 1 for i in range(len(names)) for _ in range(13)]
    else:
        rows = json.loads(out)
        assert (len(rows) if len(names) == 1 else sum(len(row["detections"]) for row in rows)) == count


def test_only_the_requested_labels_are_printed(run):
    labels = lambda out: [row["label"] for row in json.loads(out)]  # noqa: E731
    every = labels(run("detect", "a.png", "--threshold", "0")[1])
    for wanted in ({"cat"}, {"cat", "dog"}, {"salt, pepper"}, set(LABELS)):
        options = [option for label in wanted for option in ("--labels", label)]
        assert labels(run("detect", "a.png", "--threshold", "0", *options)[1]) == [x for x in every if x in wanted]
    assert labels(run("detect", "a.png", "--threshold", "0", "--labels", "dog, cat")[1]) == [
        x for x in every if x in ("cat", "dog")
    ]


def test_the_graph_of_a_checkpoint_is_built_once_and_gives_the_same(run, small):
    one, again = (run("detect", "a.png", "--threshold", "0", "--engine", "onnxruntime", model=small) for _ in range(2))
    assert one == again
    assert len(list_entries()) == 1
    (status, out, _), (_, exported, _) = one, run("detect", "a.png", "--threshold", "0", "--engine", "onnxruntime")
    scores, expected = ([row["score"] for row in json.loads(text)] for text in (out, exported))
    assert status == 0
    np.testing.assert_allclose(scores, expected, rtol=0, atol=SCORE_TOLERANCE)
    assert run("detect", "a.png", "--engine", "numpy", model=small)[0] == 0


# Images that fail


def test_a_missing_image_is_reported_before_the_model_is_opened(refused):
    says = refused("detect", "gone.png", model="no-such-model")
    assert says == "cannot read 'gone.png': found no such file; check the path"


def test_a_url_is_not_fetched(refused):
    says = refused("detect", "https://example.com/a.jpg", model="no-such-model")
    assert says == "cannot read 'https://example.com/a.jpg': found a URL; download it, and pass its path or its bytes"


def test_a_directory_without_images_is_an_error(refused):
    Path("empty").mkdir()
    assert refused("detect", "empty").startswith("no images in empty: expected files that end in .jpg")
    assert refused("detect", "*.gif").startswith("no image matches *.gif")


def test_a_bad_image_is_reported_and_the_others_are_processed(run):
    Path("bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    Path("empty").mkdir()
    status, out, err = run("detect", "a.png", "gone.png", "bad.jpg", "empty", "b.jpg")
    assert status == 1
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["a.png", "b.jpg"]
    assert [line.split(":")[2].split()[0] for line in err.splitlines()] == ["cannot", "no", "bad.jpg"]


@pytest.mark.parametrize("form", ["json", "coco"])
def test_a_json_array_stays_well_formed_when_an_image_fails(run, form):
    Path("bad.jpg").write_bytes(b"")
    status, out, err = run("detect", "bad.jpg", "a.png", "--format", form, "--threshold", "0")
    assert status == 1
    assert len(json.loads(out)) >= 1
    assert err.count("\n") == 1


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises an image of this size and holds a hundred bytes of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an image: found 0 bytes"),
        (b"hello", "is not an image: found 5 bytes of text"),
        (png_header(60_000, 60_000), "is too large: found 60000 x 60000 pixels"),
        (png_header(100, 100), "is damaged or cut short"),
        (b"%PDF-1.7", "is not an image: found a PDF document"),
    ],
)
def test_a_file_that_is_not_an_image_is_one_line(refused, content, says):
    Path("x.png").write_bytes(content)
    assert refused("detect", "x.png").startswith(f"x.png {says}")


def test_a_truncated_image_is_one_line(refused):
    for name in ("a.png", "b.jpg"):
        whole = Path(name).read_bytes()
        Path(f"cut-{name}").write_bytes(whole[: len(whole) // 2])
        assert "is damaged or cut short" in refused("detect", f"cut-{name}")


def test_a_directory_named_like_an_image_is_searched(refused):
    Path("folder.jpg").mkdir()
    assert refused("detect", "folder.jpg").startswith("no images in folder.jpg")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1)])
def test_the_thinnest_images_have_detections(run, width, height):
    sample_image(width, height).save("thin.png")
    status, out, err = run("detect", "thin.png", "--threshold", "0", "--save", "out")
    assert (status, err, len(json.loads(out))) == (0, "", CONFIG.queries)
    assert decode.read_rgb("out/thin.png").size == (width, height)


BEGINNINGS = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0",
    b"P6 9 9 255\n",
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_for_an_image_are_a_result_or_one_line(run, beginning, seed):
    random = np.random.default_rng(seed)
    Path("x.jpg").write_bytes(beginning + random.bytes(int(random.integers(0, 400))))
    status, out, err = run("detect", "x.jpg")
    assert (status, bool(out), err.count("\n")) in [(0, True, 0), (1, False, 1)]


def test_warnings_of_pillow_are_not_shown(run):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"  # a tag that points past the end
    sample_image(40, 30).save("exif.jpg", exif=exif)
    status, _, err = run("detect", "exif.jpg")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("bad allocation")])
def test_an_image_too_large_for_memory_is_reported_and_the_others_are_processed(run, monkeypatch, error):
    real = Detector.__call__

    def hungry(self, image, threshold=0.5):
        if image.width == 64:
            raise error
        return real(self, image, threshold)

    monkeypatch.setattr(Detector, "__call__", hungry)
    status, out, err = run("detect", "a.png", "b.jpg")
    assert (status, json.loads(out)["file"]) == (1, "b.jpg")
    assert err == "detr-onnx: error: not enough memory for a.png; try a smaller --size\n"


@pytest.mark.skipif(sys.platform == "win32", reason="names there are text")
@pytest.mark.parametrize("form", ["ndjson", "table"])
def test_a_file_name_that_is_not_text_is_escaped(run, form):
    name = os.fsdecode(b"na\xefve\n\x1b[31m.png")
    sample_image(40, 30).save(name)
    status, out, err = run("detect", name, "a.png", "--format", form)
    assert (status, err) == (0, "")
    out.encode("utf-8")
    assert (
        json.loads(out.splitlines()[0])["file"] == name
        if form == "ndjson"
        else out.startswith(r"na\udcefve\n\x1b[31m.png: ")
    )


ERRORS = [
    (EngineError("the engine failed", found="x", remedy="try another"), "the engine failed: found x; try another"),
    (UsageError("the array is wrong"), "the array is wrong"),
    (ValueError("odd"), "this is a bug in detr-onnx: found ValueError: odd; report it with the output of --verbose"),
    (RecursionError("deep"), "this is a bug in detr-onnx: found RecursionError: deep; report it with the output of"),
]


@pytest.mark.parametrize(("error", "says"), ERRORS)
@pytest.mark.parametrize("form", ["json", "ndjson", "coco", "table"])
def test_any_error_of_one_image_is_reported_and_the_others_are_processed(run, monkeypatch, error, says, form):
    real = Detector.__call__

    def fails(self, image, threshold=0.5):
        if image.width == 64:
            raise error
        return real(self, image, threshold)

    monkeypatch.setattr(Detector, "__call__", fails)
    status, out, err = run("detect", "a.png", "b.jpg", "deep/c.png", "--threshold", "0", "--format", form)
    assert status == 1
    assert err.startswith(f"{PREFIX}a.png: {says}")
    assert err.count("\n") == 1
    if form == "coco":
        assert {row["image_id"] for row in json.loads(out)} == {2, 3}
    elif form == "table":
        assert [line for line in out.splitlines() if "found" in line] == ["b.jpg: 13 found", "deep/c.png: 13 found"]
    else:
        rows = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert [row["file"] for row in rows] == ["b.jpg", "deep/c.png"]


@pytest.mark.parametrize("form", ["json", "coco"])
def test_a_json_array_is_well_formed_when_every_image_fails(run, monkeypatch, form):
    def fails(self, image, threshold=0.5):
        raise EngineError("the engine failed")

    monkeypatch.setattr(Detector, "__call__", fails)
    status, out, err = run("detect", "a.png", "b.jpg", "--format", form)
    assert (status, json.loads(out), err.count("\n")) == (1, [], 2)


def test_an_error_while_drawing_leaves_the_detections(run, monkeypatch):
    def fails(image, detections):
        raise ZeroDivisionError("no room")

    monkeypatch.setattr(draw, "annotate", fails)
    status, out, err = run("detect", "a.png", "b.jpg", "--threshold", "0", "--save", "out")
    assert (status, len(out.splitlines()), err.count("\n")) == (1, 2, 2)
    assert "a.png: this is a bug in detr-onnx: found ZeroDivisionError: no room" in err


# Image ids of COCO


def write_image_ids(**ids: int) -> None:
    rows = [{"id": number, "file_name": f"{stem}.{'jpg' if stem == 'b' else 'png'}"} for stem, number in ids.items()]
    Path("truth.json").write_text(json.dumps({"images": rows}))


def coco_ids(out: str) -> list[int]:
    return list(dict.fromkeys(row["image_id"] for row in json.loads(out)))


WITH_IDS = ("--format", "coco", "--threshold", "0", "--annotations", "truth.json")


def test_coco_results_take_the_image_ids_of_an_annotation_file(run):
    write_image_ids(a=581, b=17, c=0, unused=3)
    status, out, err = run("detect", ".", *WITH_IDS)
    assert (status, err.count("\n")) == (0, 1)  # truth.json is skipped
    assert coco_ids(out) == [581, 17, 0]
    assert coco_ids(run("detect", "deep/c.png", *WITH_IDS)[1]) == [0]


def test_files_without_an_annotated_id_get_a_new_one_and_a_warning(run):
    write_image_ids(b=2)
    status, out, err = run("detect", "a.png", "b.jpg", "deep/c.png", *WITH_IDS)
    assert status == 0
    assert coco_ids(out) == [3, 2, 4]
    assert err == "detr-onnx: truth.json has no image id for 2 of 3 files: a.png, deep/c.png\n"


def test_two_files_for_one_annotated_image_are_an_error(refused, no_detection):
    write_image_ids(a=1)
    Path("other").mkdir()
    Path("other/a.png").write_bytes(Path("a.png").read_bytes())
    line = refused("detect", "a.png", "other/a.png", *WITH_IDS)
    assert line.startswith("truth.json has one image for two files: found a.png and other/a.png")


def test_an_unusable_annotation_file_is_an_error(refused, no_detection):
    assert "truth.json cannot be read" in refused("detect", "a.png", *WITH_IDS)
    Path("truth.json").write_text("[]")
    assert refused("detect", "a.png", *WITH_IDS).startswith("truth.json is not a COCO annotation file: expected")
    only_coco = refused("detect", "a.png", "--annotations", "truth.json", status=2)
    assert only_coco == "--annotations can be used only with --format coco or panoptic"


# The demo model


WARNING = "detr-onnx: the demo model recognises drawings only; for photographs, run detr-onnx detect -m "


def test_the_demo_model_warns_once_of_other_images_than_its_scene(run, monkeypatch):
    status, _, err = run("detect", "a.png", "b.jpg", model="demo")
    assert (status, err) == (0, f"{WARNING}facebook/detr-resnet-50 IMAGE\n")
    stdin_of(monkeypatch, Path("a.png").read_bytes())
    assert run("detect", "-", model="demo")[2].startswith(WARNING)


def test_the_demo_model_does_not_warn_of_its_scene(run):
    Path("copy.jpg").write_bytes(demo_image().read_bytes())
    assert run("detect", demo_image(), "copy.jpg", model="demo")[::2] == (0, "")
    assert run("demo")[::2] == (0, "")


def test_other_models_do_not_warn(run):
    assert run("detect", "a.png")[2] == ""


# Models that fail


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["m.onnx", "m.safetensors"])
def test_random_bytes_for_a_model_are_one_line(refused, seed, name):
    Path(name).write_bytes(np.random.default_rng(seed).bytes(seed * 300))
    assert name in refused("detect", "a.png", model=name)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_for_a_config_are_one_line(refused, small, seed):
    Path("config.json").write_bytes(np.random.default_rng(seed).bytes(seed * 50))
    Path("model.safetensors").symlink_to(small / "model.safetensors")
    assert "config.json" in refused("detect", "a.png", model=".")


def test_a_truncated_checkpoint_is_one_line(refused, small):
    whole = (small / "model.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cut.safetensors" in refused("detect", "a.png", model="cut.safetensors")


def test_a_model_that_does_not_exist_is_one_line(refused):
    assert refused("detect", "a.png", status=2, model="detr-resnet50").endswith("did you mean facebook/detr-resnet-50?")
    assert refused("detect", "a.png", model="gone.onnx") == "cannot read gone.onnx: found no such file; check the path"
    Path("x.pth").write_bytes(b"")
    assert "is a pickle" in refused("detect", "a.png", model="x.pth")


def test_a_name_of_the_hub_without_network_and_cache_is_one_line(refused, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HOME", "hf-home")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the port where nobody listens
    monkeypatch.setenv("NO_PROXY", "*")
    for offline in ([], ["--offline"]):
        says = refused("detect", "a.png", *offline, model=None)
        assert says.startswith("facebook/detr-resnet-50 is not cached and ")
        assert "; connect once (the model is then kept in" in says


def test_a_graph_that_does_not_describe_itself_takes_a_config(run, refused, small):
    write_foreign_onnx(Path("foreign.onnx"), small, ExportOptions(mask=False))
    assert "--config" in refused("detect", "a.png", model="foreign.onnx")
    out = run("detect", "a.png", "--config", small, "--threshold", "0", model="foreign.onnx")[1]
    ours = run("detect", "a.png", "--threshold", "0")[1]
    assert [row["label"] for row in json.loads(out)] == [row["label"] for row in json.loads(ours)]


# Saving


def test_an_annotated_image_is_saved_and_the_results_are_printed(run):
    status, out, err = run("detect", "a.png", "--threshold", "0", "--save", "out.jpg")
    assert (status, err, len(json.loads(out))) == (0, "", CONFIG.queries)
    assert Path("out.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    saved, original = (np.asarray(decode.read_rgb(name), int) for name in ("out.jpg", "a.png"))
    assert saved.shape == original.shape
    assert np.abs(saved - original).max() > 50


def test_annotated_images_keep_their_names_in_a_directory(run):
    sample_image(30, 30).save("deep/a.png")
    assert run("detect", ".", "--save", "out")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-2.png", "a.png", "b.jpg", "c.png"]


def test_saving_several_images_to_one_file_is_refused(refused, no_detection):
    assert refused("detect", ".", "--save", "out.jpg", status=2).endswith("name a directory")


def test_an_input_image_is_never_overwritten(refused, no_detection):
    before = Path("a.png").read_bytes()
    for save in ("a.png", "."):
        assert "would overwrite the image a.png" in refused("detect", "a.png", "--save", save)
    assert Path("a.png").read_bytes() == before


def test_a_missing_directory_is_reported_before_any_detection(refused, no_detection):
    assert refused("detect", "a.png", "--save", "nowhere/out.png").endswith("create it first")
    assert "found a file of that name" in refused("detect", "a.png", "--save", "b.jpg/")


@pytest.mark.parametrize(
    ("error", "says"),
    [(PermissionError(errno.EACCES, "no"), "no permission"), (OSError(errno.ENOSPC, "No space"), "No space")],
)
def test_detections_are_printed_even_if_the_image_cannot_be_saved(run, monkeypatch, error, says):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(draw.Image.Image, "save", fails)
    status, out, err = run("detect", "a.png", "--threshold", "0", "--save", "out")
    assert (status, len(json.loads(out))) == (1, CONFIG.queries)
    assert err.startswith(f"detr-onnx: error: cannot write out/a.png: found {says}")
    assert list(Path("out").iterdir()) == []


def test_a_directory_without_permission_is_reported_before_any_detection(refused, no_detection, monkeypatch):
    monkeypatch.setattr(save_paths.os, "access", lambda path, mode: False)
    assert "no permission" in refused("detect", "a.png", "--save", "out")
