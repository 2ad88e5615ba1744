"""`detr-onnx verify --coco`: the twelve figures, their standard error, and data that cannot be used."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from detr_onnx import Detector
from detr_onnx.evaluation.average_precision import FIGURES
from detr_onnx.evaluation.coco import read_annotations
from detr_onnx.verify import coco
from detr_onnx.verify.published import PUBLISHED, Published
from tests.cli.command_line import ROOT, outcome
from tests.small_model import LABELS, sample_image
from tests.verify.test_verify import lines_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("pycocotools")
pytest.importorskip("tqdm")

TRUTH = Path("coco", coco.ANNOTATIONS)
IMAGES = 8


@pytest.fixture(scope="module")
def objects(small, tmp_path_factory):
    """The four best detections in each image, and in every other image at half their width."""
    detector, rows = Detector(small, engine="numpy"), []
    for number in range(IMAGES):
        best = sorted(detector(sample_image(90, 60, number), 0.0).to_coco(number), key=lambda row: -row["score"])
        for row in best[:4]:
            x, y, width, height = row["bbox"]
            rows.append({**row, "bbox": [x, y, width / (1 + number % 2), height]})
    return rows


@pytest.fixture
def dataset(objects, few_images) -> Path:
    """The directory `coco`, as val2017 is unpacked."""
    write_dataset(objects, range(IMAGES))
    return Path("coco")


def write_dataset(objects, seeds) -> None:
    """Images of these seeds, with the objects of each."""
    for path in (TRUTH.parent, Path("coco", coco.IMAGES)):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        sample_image(90, 60, seed).save(Path("coco", coco.IMAGES, f"{number}.png"))
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(len(seeds))]
    rows = [{**row, "image_id": n} for n, seed in enumerate(seeds) for row in objects if row["image_id"] == seed]
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS)]
    TRUTH.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


@pytest.fixture
def verify_coco(verify, small, dataset):
    """Runs `verify --coco` on the small model; exit status, stdout, and the checks of the figures by name."""

    def verify_coco(*arguments: object) -> tuple[int, str, dict[str, dict]]:
        status, out, err = verify(small, "--coco", "coco", "--json", "r.json", *arguments)
        assert err == ""
        checks = json.loads(Path("r.json").read_text(encoding="utf-8"))["checks"]
        return status, out, {check["name"]: check for check in checks if check["section"] == "COCO"}

    return verify_coco


def test_the_twelve_figures_are_those_of_evaluate(verify_coco, small, capsys):
    status, out, checks = verify_coco()
    assert (status, tuple(checks)) == (0, FIGURES), out
    command = ["evaluate", "-m", small, "--images", "coco/val2017", "--annotations", TRUTH, "--format", "json"]
    expected = json.loads(outcome(command, capsys)[1])["figures"]
    assert {name: check["figures"]["value"] for name, check in checks.items()} == expected
    assert 0.2 < expected["AP"] < 0.9
    assert lines_of(out, "shown").keys() == {*FIGURES}


def test_ap_of_enough_images_is_judged_beside_the_published_one(verify_coco, monkeypatch):
    monkeypatch.setattr(coco, "FEWEST_IMAGES", IMAGES)
    ap, error = (verify_coco()[2]["AP"]["figures"][name] for name in ("value", "standard_error"))
    assert error > 0.01
    allowed = coco.AT_MOST + coco.STANDARD_ERRORS * error
    for offset, expected in ((0.99 * allowed, 0), (1.01 * allowed, 1), (-1.01 * allowed, 1)):
        monkeypatch.setitem(PUBLISHED, "owner/own", Published(coco={"AP": ap + offset, "AP50": 0.111}))
        status, out, checks = verify_coco("--published", "owner/own")
        assert (status, checks["AP"]["outcome"]) == (expected, ("ok", "FAILED")[expected])
        assert f"published {100 * (ap + offset):.1f} ± {100 * allowed:.1f}" in checks["AP"]["expected"]
        assert (checks["AP50"]["outcome"], checks["AP50"]["expected"]) == ("shown", "published 11.1")
        assert out.splitlines()[-1].startswith(("everything agrees; ", "1 FAILED (COCO: AP); ")[expected])


def test_the_whole_set_is_judged_without_the_standard_error(verify_coco, monkeypatch):
    for name in ("FEWEST_IMAGES", "WHOLE"):
        monkeypatch.setattr(coco, name, IMAGES)
    ap = verify_coco()[2]["AP"]["figures"]["value"]
    for offset, expected in ((0.002, "ok"), (0.004, "FAILED")):
        monkeypatch.setitem(PUBLISHED, "owner/own", Published(coco={"AP": ap + offset}))
        assert verify_coco("--published", "owner/own")[2]["AP"]["outcome"] == expected


def test_ap_of_few_images_is_shown_and_not_judged(verify_coco, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "owner/own", Published(coco={"AP": 0.999}))
    status, _, checks = verify_coco("--published", "owner/own")
    assert (status, checks["AP"]["outcome"], checks["AP"]["expected"]) == (0, "shown", "published 99.9")
    assert f"± {100 * checks['AP']['figures']['standard_error']:.1f} ({IMAGES} images, " in checks["AP"]["found"]


def test_the_standard_error_tells_how_far_images_differ(objects, few_images, small):
    errors = []
    for seeds in ([3] * 6, [2, 3] * 3, [2, 3] * 12):
        write_dataset(objects, seeds)
        truth = read_annotations(TRUTH)
        images = truth.images(Path("coco", coco.IMAGES))
        (ap,) = [c for c in coco.check_coco(lambda: Detector(small), truth, images, {}) if c.name == "AP"]
        errors.append(ap.figures["standard_error"])
    assert errors[0] == pytest.approx(0, abs=1e-12)  # every resample of equal images is the same set
    assert errors[1] == pytest.approx(2 * errors[2], rel=0.35)  # it falls with the root of the number of images


def test_an_image_that_cannot_be_read_fails_in_the_table(verify_coco):
    Path("coco", coco.IMAGES, "2.png").write_bytes(b"no image")
    status, out, checks = verify_coco()
    assert (status, [*checks]) == (1, ["figures"])
    assert "2.png" in lines_of(out, "FAILED")["figures"]
    assert "onnxruntime fp32" in lines_of(out, "ok")


def test_categories_that_the_model_does_not_know_fail_in_the_table(verify_coco):
    content = json.loads(TRUTH.read_text())
    content["categories"] = [{**row, "name": f"{row['name']} of another"} for row in content["categories"]]
    TRUTH.write_text(json.dumps(content))
    status, out, _ = verify_coco()
    assert (status, lines_of(out, "FAILED").keys()) == (1, {"figures"})
    assert "has categories that the model does not know" in out


def test_unusable_data_is_refused_before_anything_runs(refused, small, dataset, monkeypatch):
    monkeypatch.setattr("detr_onnx.verify.run.locate", None)
    content = TRUTH.read_text()
    for text, words in (
        ("{", "instances_val2017.json"),
        ("{}", "is not a COCO annotation file: found no list of images, annotations, categories"),
        (content.replace('"bbox": [', '"bbox": ["x", '), "has errors"),
        (content.replace("2.png", "away.png"), "names images that are not in coco/val2017: found 7 of 8, without away"),
        (content.replace("2.png", "../2.png"), "names files outside of coco/val2017"),
    ):
        TRUTH.write_text(text)
        complaint = refused(small, "--coco", "coco")
        assert words in complaint
        assert "--images" not in complaint
    TRUTH.write_text(content)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    assert refused(small, "--coco", "coco").endswith("; run pip install 'detr-onnx[eval]'")


def test_the_documentation_has_the_limits_of_the_code():
    text = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"must be within {100 * coco.AT_MOST:.1f} of the published one" in text
    assert f"a part of the images, at least {coco.FEWEST_IMAGES}," in text
