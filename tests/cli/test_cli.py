"""The command line: results on stdout, one line of trouble on stderr, the right exit status, never a traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from detr_onnx import Detector, __version__
from detr_onnx.cache import list_entries
from detr_onnx.cli import console
from detr_onnx.cli import main as cli
from detr_onnx.exporter.onnx_file import ExportOptions
from detr_onnx.image import draw, files, preprocess
from tests.cli.command_line import complaint, outcome
from tests.small_model import CONFIG, LABELS, sample_image, write_foreign_onnx

pytest.importorskip("onnxruntime")

SCORE_TOLERANCE = 1e-4  # the cached graph has attention as one node, the exported one in its parts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """A directory to stand in, with three images."""
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for seed, (name, size) in enumerate([("a.png", (64, 48)), ("b.jpg", (90, 40)), ("deep/c.png", (40, 40))]):
        Path(name).parent.mkdir(exist_ok=True)
        sample_image(*size, seed).save(name)
    return tmp_path


@pytest.fixture
def run(album, graph, capsys):
    """Runs a command line on the small graph; its exit status, stdout and stderr."""

    def run(*arguments: str, model: object = graph) -> tuple[int, str, str]:
        chosen = ["-m", model] if arguments[0] == "detect" and model is not None else []
        return outcome([*arguments, *chosen], capsys)

    return run


@pytest.fixture
def refused(run):
    """The one line that a command line ends with."""

    def refused(*arguments: object, status: int = 1, **options: object) -> str:
        return complaint(run(*arguments, **options), status)

    return refused


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that gets as far as a detection."""

    def called(*arguments, **options):
        raise AssertionError("a detection was begun")

    monkeypatch.setattr(Detector, "__call__", called)


def in_a_process(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """The command line as a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {})
    command = [sys.executable, "-m", "detr_onnx", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    )


# Usage


@pytest.mark.parametrize(
    "arguments",
    [[], ["detect"], ["nonsense"], ["detect", "a.png", "--threshold", "abc"], ["detect", "a.png", "--format", "xml"],
     ["export", "x"], ["detect", "a.png", "--threads", "many"], ["export", "x", "-o", "y.onnx", "--batch", "two"]],
)  # fmt: skip
def test_wrong_usage_ends_with_status_2_and_says_how_it_goes(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith("usage: detr-onnx")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["detect", "--help"], ["demo", "-h"], ["export", "-h"], ["info", "-h"]]
)
def test_help_is_a_result(run, arguments):
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert out.startswith("usage: detr-onnx")


def test_the_version_is_a_result(run):
    assert run("--version") == (0, f"detr-onnx {__version__}\n", "")


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
        (["--size", "0"], "the size is wrong: found 0"),
        (["--providers", ""], "--providers cannot be read: found '', expected NAME or NAME:option=value"),
        (["--providers", "CPU:a"], "--providers cannot be read: found 'CPU:a', expected NAME"),
        (["--providers", "CPU:a=1"], "provider CPU has no options: found a"),
        (["--engine", "gpu"], "no such engine: found 'gpu', expected one of auto, numpy, onnxruntime"),
        (["--precision", "int4"], "no such precision: found 'int4'"),
        (["--config", "gone"], "there is no config gone"),
        (["--save", "out.xyz"], "no image can be saved as out.xyz: found the suffix '.xyz'"),
    ],
)
def test_a_wrong_value_ends_with_status_2_before_any_detection(refused, no_network, arguments, says):
    assert refused("detect", "a.png", *arguments, status=2).startswith(says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--providers", "Quantum"], "this ONNX Runtime has no provider 'Quantum': found"),
        (["--engine", "numpy"], "engine numpy runs checkpoints: found the graph"),
    ],
)
def test_what_is_not_to_be_had_ends_with_status_1(refused, no_network, arguments, says):
    assert refused("detect", "a.png", *arguments).startswith(says)


# Answers


def test_one_image_is_answered_exactly_as_the_api_does(run, graph):
    status, out, err = run("detect", "a.png", "--threshold", "0.1")
    assert (status, err) == (0, "")
    assert out == json.dumps(Detector(graph)("a.png", 0.1).to_api()) + "\n"
    assert len(json.loads(out)) > 1


def test_no_detection_is_an_empty_array(run):
    assert run("detect", "a.png", "--threshold", "1") == (0, "[]\n", "")


def test_several_images_are_a_json_object_a_line(run, graph):
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
def test_directories_and_patterns_are_answered_by_name(run, arguments, files):
    status, out, _ = run("detect", *arguments)
    assert status == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == files


def stdin_of(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_stdin_is_an_image_too(run, monkeypatch):
    stdin_of(monkeypatch, Path("a.png").read_bytes())
    assert run("detect", "-", "--threshold", "0") == run("detect", "a.png", "--threshold", "0")
    stdin_of(monkeypatch, Path("a.png").read_bytes())
    out = run("detect", "-", "b.jpg")[1]
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["-", "b.jpg"]


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_stdin_without_an_image_is_told(refused, monkeypatch, content):
    stdin_of(monkeypatch, content)
    assert "is not an image: found" in refused("detect", "-")


@pytest.mark.parametrize("form", ["json", "ndjson", "coco", "table"])
@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.jpg"]])
def test_every_form_has_every_detection(run, form, names):
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


def test_only_the_labels_asked_for_are_answered(run):
    labels = lambda out: [row["label"] for row in json.loads(out)]  # noqa: E731 - said once
    every = labels(run("detect", "a.png", "--threshold", "0")[1])
    for wanted in ({"cat"}, {"cat", "dog"}, {"salt, pepper"}, set(LABELS)):
        options = [option for label in wanted for option in ("--labels", label)]
        assert labels(run("detect", "a.png", "--threshold", "0", *options)[1]) == [x for x in every if x in wanted]
    assert labels(run("detect", "a.png", "--threshold", "0", "--labels", "dog, cat")[1]) == [
        x for x in every if x in ("cat", "dog")
    ]


def test_a_directory_of_weights_is_built_once_and_gives_the_same(run, small):
    one, again = (run("detect", "a.png", "--threshold", "0", "--engine", "onnxruntime", model=small) for _ in range(2))
    assert one == again
    assert len(list_entries()) == 1
    (status, out, _), (_, exported, _) = one, run("detect", "a.png", "--threshold", "0", "--engine", "onnxruntime")
    scores, expected = ([row["score"] for row in json.loads(text)] for text in (out, exported))
    assert status == 0
    np.testing.assert_allclose(scores, expected, rtol=0, atol=SCORE_TOLERANCE)
    assert run("detect", "a.png", "--engine", "numpy", model=small)[0] == 0


# Images that fail


def test_a_missing_image_is_told_without_opening_the_model(refused):
    says = refused("detect", "gone.png", model="no-such-model")
    assert says == "cannot read 'gone.png': found no such file; check the path"


def test_a_directory_without_images_is_told(refused):
    Path("empty").mkdir()
    assert refused("detect", "empty").startswith("no images in empty: expected files that end in .jpg")
    assert refused("detect", "*.gif").startswith("no image matches *.gif")


def test_one_bad_image_is_told_and_the_others_go_on(run):
    Path("bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    Path("empty").mkdir()
    status, out, err = run("detect", "a.png", "gone.png", "bad.jpg", "empty", "b.jpg")
    assert status == 1
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["a.png", "b.jpg"]
    assert [line.split(":")[2].split()[0] for line in err.splitlines()] == ["cannot", "no", "bad.jpg"]


@pytest.mark.parametrize("form", ["json", "coco"])
def test_an_array_stays_whole_when_an_image_fails(run, form):
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
def test_what_is_no_image_is_one_line(refused, content, says):
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
def test_the_thinnest_images_are_answered(run, width, height):
    sample_image(width, height).save("thin.png")
    status, out, err = run("detect", "thin.png", "--threshold", "0", "--save", "out")
    assert (status, err, len(json.loads(out))) == (0, "", CONFIG.queries)
    assert preprocess.read_rgb("out/thin.png").size == (width, height)


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
def test_random_bytes_for_an_image_are_answered_or_one_line(run, beginning, seed):
    random = np.random.default_rng(seed)
    Path("x.jpg").write_bytes(beginning + random.bytes(int(random.integers(0, 400))))
    status, out, err = run("detect", "x.jpg")
    assert (status, bool(out), err.count("\n")) in [(0, True, 0), (1, False, 1)]


def test_notes_of_pillow_do_not_clutter_stderr(run):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0"  # a tag that points past the end
    sample_image(40, 30).save("exif.jpg", exif=exif)
    status, _, err = run("detect", "exif.jpg")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("bad allocation")])
def test_an_image_that_memory_does_not_hold_is_told_and_the_others_go_on(run, monkeypatch, error):
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
def test_a_file_name_that_is_no_text_is_answered(run, form):
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


def test_a_model_that_is_nowhere_is_one_line(refused):
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


def test_an_annotated_image_is_saved_beside_the_answer(run):
    status, out, err = run("detect", "a.png", "--threshold", "0", "--save", "out.jpg")
    assert (status, err, len(json.loads(out))) == (0, "", CONFIG.queries)
    assert Path("out.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    saved, original = (np.asarray(preprocess.read_rgb(name), int) for name in ("out.jpg", "a.png"))
    assert saved.shape == original.shape
    assert np.abs(saved - original).max() > 50


def test_annotated_images_go_into_a_directory_each_under_its_name(run):
    sample_image(30, 30).save("deep/a.png")
    assert run("detect", ".", "--save", "out")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-2.png", "a.png", "b.jpg", "c.png"]


def test_several_images_for_one_file_are_refused(refused, no_network):
    assert refused("detect", ".", "--save", "out.jpg", status=2).endswith("name a directory")


def test_an_image_is_never_written_over_itself(refused, no_network):
    before = Path("a.png").read_bytes()
    for save in ("a.png", "."):
        assert "would write over the image a.png" in refused("detect", "a.png", "--save", save)
    assert Path("a.png").read_bytes() == before


def test_a_place_that_is_not_there_is_refused_before_any_detection(refused, no_network):
    assert refused("detect", "a.png", "--save", "nowhere/out.png").endswith("create it first")
    assert "found a file of that name" in refused("detect", "a.png", "--save", "b.jpg/")


@pytest.mark.parametrize(
    ("error", "says"),
    [(PermissionError(errno.EACCES, "no"), "no permission"), (OSError(errno.ENOSPC, "No space"), "No space")],
)
def test_an_image_that_cannot_be_saved_costs_no_answer(run, monkeypatch, error, says):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(draw.Image.Image, "save", fails)
    status, out, err = run("detect", "a.png", "--threshold", "0", "--save", "out")
    assert (status, len(json.loads(out))) == (1, CONFIG.queries)
    assert err.startswith(f"detr-onnx: error: cannot write out/a.png: found {says}")
    assert list(Path("out").iterdir()) == []


def test_a_directory_without_permission_is_refused_before_any_detection(refused, no_network, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    assert "no permission" in refused("detect", "a.png", "--save", "out")


# Export


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
def test_a_model_is_exported_in_the_form_asked_for(run, small, options, inputs):
    import onnxruntime

    assert run("export", small, "-o", "m.onnx", *options) == (0, "", "")
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    assert [value.shape for value in session.get_inputs()] == inputs
    assert Path("m.onnx.data").exists() == ("--external-data" in options)
    assert run("detect", "a.png", model="m.onnx")[0] == 0


@pytest.mark.parametrize(
    "shape", ["", "800", "0x5", "800x", "800X1066", "-1x5", "8e2x3", "800x1066x3", "٣x٣", "9999999x1"]
)
def test_a_shape_that_is_none_is_refused(refused, small, shape):
    says = refused("export", small, "-o", "m.onnx", f"--shape={shape}", status=2)
    assert says == f"the shape is wrong: found {shape!r}, expected height x width in pixels, such as 800x1066"


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_below_one_is_refused(refused, small, batch):
    assert refused("export", small, "-o", "m.onnx", f"--batch={batch}", status=2).startswith("the batch is wrong")


def test_what_cannot_be_exported_is_told(refused, small, graph):
    assert "small.onnx is a graph already" in refused("export", graph, "-o", "m.onnx", status=2)
    assert "there is no model 'gone'" in refused("export", "gone", "-o", "m.onnx", status=2)
    assert "holds no checkpoint" in refused("export", "deep", "-o", "m.onnx")
    assert "let its name end in .onnx" in refused("export", small, "-o", "m", status=2)


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(refused, small, monkeypatch):
    assert refused("export", small, "-o", "nowhere/m.onnx") == (
        "cannot write nowhere/m.onnx: found no directory nowhere; create it first"
    )
    Path("m.onnx").mkdir()
    assert "found a directory" in refused("export", small, "-o", "m.onnx")
    monkeypatch.setattr(
        Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space"))
    )
    assert "found No space" in refused("export", small, "-o", "full.onnx")
    monkeypatch.setattr(cli.os, "access", lambda path, mode: False)
    assert "found no permission" in refused("export", small, "-o", "p.onnx")
    assert [path.name for path in Path().iterdir() if "full" in path.name or path.name.startswith("p.")] == []


def test_exporting_without_the_package_onnx_says_what_to_install(refused, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused("export", small, "-o", "m.onnx").endswith("run pip install 'detr-onnx[export]', or use engine numpy")


# Info, and what is told on the way


def test_info_tells_versions_and_cache(run):
    status, out, err = run("info")
    assert (status, err) == (0, "")
    assert f"detr-onnx: {__version__}" in out
    assert "engines: numpy, onnxruntime" in out


def test_verbose_tells_what_runs_and_quiet_does_not(run):
    assert run("detect", "a.png")[2] == ""
    assert run("detect", "a.png", "-v", "--engine", "onnxruntime")[2].startswith("detr-onnx: running on onnxruntime ")
    assert run("detect", "a.png")[2] == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_when_it_takes_long(run, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    run("detect", ".")
    assert "1/3" not in screen.getvalue()
    monkeypatch.setattr(console, "PROGRESS_AFTER_S", -1)
    Path("b.jpg").write_bytes(b"")
    status, out, _ = run("detect", ".")
    assert (status, len(out.splitlines())) == (1, 2)
    told = screen.getvalue()
    assert "1/3" in told
    assert "3/3  " in told
    assert f"{console.CLEAR_LINE}detr-onnx: error: b.jpg" in told
    assert told.endswith(console.CLEAR_LINE)


# Ends of all kinds


def test_ctrl_c_is_quiet(run, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "__call__", interrupted)
    assert run("detect", "a.png") == (130, "", "")


def test_what_should_not_happen_is_one_line_and_a_traceback_only_when_asked_for(
    refused, run, monkeypatch, capsys, graph
):
    def fails(*arguments, **options):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(Detector, "__call__", fails)
    says = refused("detect", "a.png")
    assert (
        says == "this should not have happened: found ZeroDivisionError: by nought; report it with what --verbose says"
    )
    assert cli.main(["detect", "a.png", "-v", "-m", str(graph)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_elsewhere_is_one_line(refused, monkeypatch):
    def fails(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(preprocess.Preprocessing, "from_json", fails)
    assert refused("detect", "a.png").startswith("there is not enough memory; try a smaller --size")


def test_a_full_disk_behind_stdout_is_one_line(album, graph):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full, in_a_process("detect", "a.png", "-m", graph, stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == (
        b"detr-onnx: error: the results cannot be written: found No space left on device; send stdout elsewhere\n"
    )


def test_a_reader_that_leaves_early_ends_the_run_quietly(album, graph):
    with in_a_process("detect", ".", "-m", graph, "--format", "table") as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of Unix")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("info >&-", "found a closed stdout"),
        ("detect gone.png 2>&-", ""),
        ("detect - -m '{}' <&-", "there is no stdin"),
    ],
)
def test_closed_streams_are_no_catastrophe(album, graph, command, says):
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m detr_onnx {command.format(graph)}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says)


def test_an_encoding_that_lacks_letters_gets_them_spelt_out(album, graph):
    sample_image(40, 30).save("straße.png")
    arguments = ["detect", "straße.png", "a.png", "-m", graph, "--format", "table", "--threshold", "1"]
    with in_a_process(*arguments, env={"PYTHONIOENCODING": "ascii"}) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out == b"stra\\xdfe.png: 0 found\na.png: 0 found\n"
