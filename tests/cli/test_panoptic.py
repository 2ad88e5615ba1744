"""Panoptic models on the command line: COCO's masks, COCO's panoptic files, panoptic quality, and masks in jobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector, rle
from detr_onnx.evaluation.panoptic_files import ids_to_rgb, rgb_to_ids
from detr_onnx.json_input import MAX_BYTES as LARGEST_CONFIG
from tests.cli.command_line import PREFIX, complaint, outcome
from tests.panoptic_stand_in import CAT, DOG, SKY, panoptic_stand_in

SIZES = {"a.png": (64, 48), "b.png": (40, 60)}
TRUTH, PNGS = Path("truth.json"), Path("truth")
NO_MASKS = "the model has no mask head: found"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command line on the stand-in in a directory with bright images, and a dark one elsewhere."""
    panoptic_stand_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size, "white").save(f"images/{name}")
    Image.new("RGB", (30, 20)).save("dark.png")
    return lambda *arguments: outcome(arguments, capsys)


@pytest.fixture
def refused(run):
    """The one line that a command line ends with."""
    return lambda *arguments, status=1: complaint(run(*arguments), status)


def quarters(size_hw: tuple[int, int], ids: tuple[int, int, int, int]) -> np.ndarray:
    """A map with an id in each quarter."""
    height, width = size_hw
    found = np.zeros(size_hw, np.int32)
    for k, segment in enumerate(ids):
        row, column = divmod(k, 2)
        found[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = segment
    return found


def ids_of(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return rgb_to_ids(np.asarray(image))


# COCO results with masks


def test_coco_results_have_the_masks(run):
    status, out, _ = run("detect", "images", "--format", "coco")
    rows = json.loads(out)
    assert status == 0
    assert [row["category_id"] for row in rows] == [CAT, SKY, SKY, DOG] * 2
    masks = Detector("stand-in")("images/a.png").masks
    assert all(0.2 < mask.mean() < 0.25 for mask in masks)
    for row, mask in zip(rows, masks, strict=False):
        assert [*row] == ["image_id", "category_id", "bbox", "score", "segmentation"]
        assert np.array_equal(rle.decode(row["segmentation"]), mask)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with numpy 2
def test_pycocotools_evaluates_the_masks(run):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = json.loads(run("detect", "images", "--format", "coco")[1])
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": k, "width": w, "height": h} for k, (w, h) in enumerate(SIZES.values(), start=1)],
        "categories": [{"id": k} for k in (CAT, DOG, SKY)],
        "annotations": [
            {**row, "id": k, "iscrowd": 0, "area": rle.area(row["segmentation"])} for k, row in enumerate(rows, start=1)
        ],
    }
    truth.createIndex()
    masks = COCOeval(truth, truth.loadRes(rows), "segm")
    masks.evaluate()
    masks.accumulate()
    masks.summarize()
    assert masks.stats[0] == 1.0


def test_nothing_found_is_an_empty_list(run):
    assert run("detect", "dark.png", "--format", "coco") == (0, "[]\n", "")


# COCO's panoptic files


def test_panoptic_files_have_the_segments(run):
    assert run("detect", "images", "dark.png", "--format", "panoptic", "-o", "found.json") == (0, "", "")
    content = json.loads(Path("found.json").read_text())
    assert content["categories"] == [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}, {"id": SKY, "name": "sky"}]
    assert content["images"][0] == {"id": 1, "file_name": "images/a.png", "width": 64, "height": 48}
    row = content["annotations"][0]
    assert (row["image_id"], row["file_name"]) == (1, "a.png")
    assert np.array_equal(ids_of("found/a.png"), quarters((48, 64), (1, 2, 3, 4)))
    fields = {"area": 32 * 24, "iscrowd": 0}
    boxes = ([0, 0, 32, 24], [32, 0, 32, 24], [0, 24, 32, 24], [32, 24, 32, 24])
    for k, (segment, category, box) in enumerate(zip(row["segments_info"], (CAT, SKY, SKY, DOG), boxes, strict=True)):
        assert 0.9 < segment.pop("score") < 1
        assert segment == {"id": k + 1, "category_id": category, "bbox": box, **fields}
    empty = content["annotations"][2]
    assert (empty["file_name"], empty["segments_info"]) == ("dark.png", [])
    assert not ids_of("found/dark.png").any()
    assert sorted(path.name for path in Path("found").iterdir()) == ["a.png", "b.png", "dark.png"]


@pytest.mark.parametrize("how", ["option", "annotations"])
def test_segments_of_a_fused_class_are_one(run, how):
    write_truth()
    options = ["--fuse", "sky"] if how == "option" else ["--annotations", "truth.json"]
    assert run("detect", "images", "--format", "panoptic", "-o", "found.json", *options)[0] == 0
    assert np.array_equal(ids_of("found/a.png"), quarters((48, 64), (1, 2, 2, 3)))
    rows = json.loads(Path("found.json").read_text())["annotations"]
    assert [segment["category_id"] for segment in rows[0]["segments_info"]] == [CAT, SKY, DOG]
    assert [row["image_id"] for row in rows] == ([11, 12] if how == "annotations" else [1, 2])


def test_images_of_one_name_have_pngs_of_their_own(run):
    shutil.copytree("images", "more")
    run("detect", "images", "more", "--format", "panoptic", "-o", "found.json")
    names = [row["file_name"] for row in json.loads(Path("found.json").read_text())["annotations"]]
    assert names == ["a.png", "b.png", "a-2.png", "b-2.png"]


def test_a_bad_image_is_reported_and_the_others_are_written(run):
    Path("images/bad.png").write_bytes(b"no image")
    status, out, err = run("detect", "images", "--format", "panoptic", "-o", "found.json")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{PREFIX}images/bad.png")
    assert len(json.loads(Path("found.json").read_text())["annotations"]) == 2


def test_segments_never_replace_the_annotations(refused):
    Path("boxes.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}]}))
    arguments = ("detect", "images", "--format", "panoptic", "--annotations", "boxes.json", "-o", "boxes.json")
    assert refused(*arguments).startswith("-o would overwrite boxes.json")
    assert json.loads(Path("boxes.json").read_text())["images"]


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_path_without_a_name_is_a_directory(refused, name):
    assert "found a directory" in refused("detect", "images", "--format", "panoptic", "-o", name)
    message = refused("evaluate", "--panoptic", "--images", "images", "--annotations", name)
    assert message.startswith(f"{Path(name)} cannot be read: found not a file")


def test_an_interrupt_leaves_nothing(run, monkeypatch):
    monkeypatch.setattr(Detector, "panoptic", interrupted)
    assert run("detect", "images", "--format", "panoptic", "-o", "found.json")[0] == 130
    assert sorted(path.name for path in Path().iterdir()) == ["dark.png", "images"]


def interrupted(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--format", "panoptic"], 2, "--format panoptic needs a file to write; add -o FILE.json"),
        (["--format", "panoptic", "-o", "f.json", "--save", "x"], 2, "--save cannot be used with --format panoptic"),
        (
            ["--format", "panoptic", "-o", "f.json", "--shard", "0/2"],
            2,
            "--shard cannot be used with --format panoptic",
        ),
        (
            ["--format", "panoptic", "-o", "f.json", "--fuse", "sk"],
            2,
            "the model has no label 'sk'; did you mean 'sky'?",
        ),
        (["--format", "panoptic", "-o", "f.json", "--fuse", ","], 2, "--fuse names no label"),
        (["--format", "panoptic", "-o", "f.json", "--threshold", "2"], 2, "the threshold is out of range"),
        (["--fuse", "sky"], 2, "--fuse can be used only with --format panoptic"),
        (["--format", "panoptic", "-o", "images"], 1, "cannot write images: found a directory"),
        (["--format", "panoptic", "-o", "found"], 1, "cannot write found: found a name without a suffix"),
        (["--format", "panoptic", "-o", "no/f.json"], 1, "cannot write no/f.json: found no directory no"),
        (
            ["--format", "panoptic", "-o", "images.json"],
            1,
            "cannot write the PNGs of images.json into images: found a dire",
        ),
    ],
)
def test_a_wrong_value_is_one_line(refused, arguments, status, says):
    assert refused("detect", "images", *arguments, status=status).startswith(says)
    assert sorted(path.name for path in Path().iterdir()) == ["dark.png", "images"]


# Panoptic quality


def write_truth(**changes: Any) -> None:
    """truth.json and its PNGs: what the stand-in finds, but that its dog is a cat in the second image."""
    PNGS.mkdir(exist_ok=True)
    annotations = []
    for number, (name, (width, height)) in enumerate(SIZES.items(), start=11):
        Image.fromarray(ids_to_rgb(quarters((height, width), (7, 70000, 70000, 300)))).save(PNGS / name)
        categories = {7: CAT, 70000: SKY, 300: DOG if number == 11 else CAT}
        segments = [{"id": k, "category_id": category, "iscrowd": 0} for k, category in categories.items()]
        annotations.append({"image_id": number, "file_name": name, "segments_info": segments})
    truth = {
        "images": [{"id": k, "file_name": name} for k, name in enumerate(SIZES, start=11)],
        "categories": [
            {"id": CAT, "name": "Cat", "isthing": 1},
            {"id": DOG, "name": "dog", "isthing": 1},
            {"id": SKY, "name": "sky", "isthing": 0},
        ],
        "annotations": annotations,
    }
    TRUTH.write_text(json.dumps({**truth, **changes}))


EVALUATE = ("evaluate", "--panoptic", "--images", "images", "--annotations", "truth.json")
CAT_RQ, DOG_RQ = 2 / 2.5, 1 / 1.5  # a cat is missed, and a dog is false


def test_the_quality_of_a_model(run):
    write_truth()
    status, out, err = run(*EVALUATE, "--format", "json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["images"], found["segments"], found["threshold"]) == (2, 6, "0.5")
    assert found["figures"] == pytest.approx(
        {
            "PQ": (CAT_RQ + DOG_RQ + 1) / 3, "SQ": 1, "RQ": (CAT_RQ + DOG_RQ + 1) / 3,
            "PQ_things": (CAT_RQ + DOG_RQ) / 2, "SQ_things": 1, "RQ_things": (CAT_RQ + DOG_RQ) / 2,
            "PQ_stuff": 1, "SQ_stuff": 1, "RQ_stuff": 1,
        }
    )  # fmt: skip
    table = run(*EVALUATE)[1]
    assert "things  0.7333  1.0000  0.7333" in table
    assert table.splitlines()[-1].split() == ["dog", "1", "0.6667", "1.0000", "0.6667"]


def test_saved_results_have_the_same_quality_without_the_model(run):
    write_truth()
    first = json.loads(run(*EVALUATE, "--format", "json", "--save-results", "saved.json")[1])
    results = ("evaluate", "--panoptic", "--results", "saved.json", "--annotations", "truth.json", "--format", "json")
    second = json.loads(run(*results)[1])
    assert second["results"] == "saved.json"
    assert (first["figures"], first["classes"]) == (second["figures"], second["classes"])
    run("detect", "images", "--format", "panoptic", "--annotations", "truth.json", "-o", "found.json")
    third = json.loads(run(*[part.replace("saved", "found") for part in results])[1])
    assert third["figures"] == first["figures"]


def test_pngs_may_be_elsewhere(run, refused):
    write_truth()
    PNGS.rename("elsewhere")
    assert refused(*EVALUATE).startswith(
        "truth.json names PNGs that are not in truth: found 0 of 2, without a.png, b.png"
    )
    assert run(*EVALUATE, "--masks", "elsewhere")[0] == 0


def test_nothing_found_misses_every_segment(run):
    write_truth()
    for name, size in SIZES.items():
        Image.new("RGB", size).save(f"images/{name}")
    found = json.loads(run(*EVALUATE, "--format", "json")[1])
    assert set(found["figures"].values()) == {0.0}


def test_classes_without_names_are_categories_by_their_number(run, monkeypatch):
    write_truth()
    panoptic_stand_in(monkeypatch, tuple(f"LABEL_{k}" for k in range(4)))
    assert json.loads(run(*EVALUATE, "--format", "json")[1])["figures"]["PQ_stuff"] == 1.0


def changed_segment(**fields: Any) -> list[dict[str, Any]]:
    """The annotations with another first segment."""
    write_truth()
    rows = json.loads(TRUTH.read_text())["annotations"]
    rows[0]["segments_info"][0] |= fields
    return rows


def doubled(name: str) -> list[Any]:
    """A list of the truth with its first row twice."""
    write_truth()
    rows = json.loads(TRUTH.read_text())[name]
    return [*rows, rows[0]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: {"annotations": changed_segment(category_id=9)}, "image 11 has a segment of category 9, which is"),
        (lambda: {"annotations": changed_segment(id=300)}, "image 11 has the segment id 300 twice"),
        (lambda: {"annotations": changed_segment(id=1 << 24)}, "image 11 has a segment without id and category_id"),
        (lambda: {"annotations": changed_segment(iscrowd=2)}, "image 11 has a segment with an invalid iscrowd"),
        (lambda: {"annotations": doubled("annotations")}, "image 11 has two annotations"),
        (lambda: {"images": doubled("images")}, "image id 11 twice"),
        (lambda: {"categories": doubled("categories")}, f"category id {CAT} twice"),
        (lambda: {"categories": [{"id": CAT, "name": "cat"}]}, "category 0 without an isthing of 0 or 1"),
        (lambda: {"images": []}, "an annotation of image 11, which is not listed"),
    ],
)  # fmt: skip
def test_an_error_in_the_annotations_is_one_line(refused, change, says):
    write_truth(**change())
    line = refused(*EVALUATE)
    assert line.startswith("truth.json has errors: found ")
    assert says in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "truth.json is not a panoptic annotation file: found no list of images, categories, annotations"),
        (
            '{"images": [], "categories": [], "annotations": [{"bbox": []}]}',
            "truth.json is not a panoptic annotation fi",
        ),
        ("{", "truth.json cannot be read as JSON"),
    ],
)
def test_another_file_is_one_line(refused, content, says):
    TRUTH.write_text(content)
    assert refused(*EVALUATE).startswith(says)


def test_a_png_of_another_size_is_one_line(refused):
    write_truth()
    Image.fromarray(ids_to_rgb(quarters((24, 32), (7, 70000, 70000, 300)))).save("truth/a.png")
    says = "truth.json has a PNG of another size than its image: truth/a.png: found 32x24 pixels, expected 64x48"
    assert refused(*EVALUATE).startswith(says)


def test_a_png_of_other_segments_is_one_line(refused):
    write_truth()
    Image.fromarray(ids_to_rgb(quarters((48, 64), (7, 70000, 70000, 8)))).save("truth/a.png")
    says = "truth/a.png does not belong to truth.json: found pixels of segments that the JSON does not list: 8"
    assert refused(*EVALUATE).startswith(says)
    Image.fromarray(ids_to_rgb(quarters((48, 64), (7, 70000, 70000, 70000)))).save("truth/a.png")
    assert "found no pixel of listed segments: 300" in refused(*EVALUATE)
    ids = quarters((48, 64), (7, 70000, 70000, 300))
    ids[0, 0] = 8
    Image.fromarray(ids_to_rgb(ids)).save("truth/a.png")
    assert refused(*EVALUATE).startswith(says)


def test_a_png_that_cannot_be_read_is_one_line(refused):
    write_truth()
    Path("truth/b.png").write_bytes(b"no png")
    assert "truth/b.png" in refused(*EVALUATE)


def test_names_outside_of_the_directory_are_refused(refused):
    write_truth()
    rows = json.loads(TRUTH.read_text())["annotations"]
    rows[0]["file_name"] = "../a.png"
    write_truth(annotations=rows)
    assert refused(*EVALUATE).startswith("truth.json names files outside of truth: found ../a.png")


def test_categories_that_the_model_does_not_know_are_refused(refused):
    write_truth()
    categories = json.loads(TRUTH.read_text())["categories"]
    write_truth(categories=[*categories[:2], {"id": SKY, "name": "sea", "isthing": 0}])
    says = "truth.json has categories that the model does not know: found 'sea', expected the model's labels, such as"
    assert refused(*EVALUATE).startswith(says)


def test_categories_that_the_model_does_not_know_may_be_listed_if_they_have_no_segments(run):
    """Nor has a crowd to be found. The file is larger than any config: panoptic_val2017.json has 10 MB."""
    write_truth()
    truth = json.loads(TRUTH.read_text())
    truth["annotations"][1]["segments_info"][2] |= {"category_id": 200, "iscrowd": 1}
    more = [{"id": k, "name": name, "isthing": 0} for k, name in ((200, "sea"), (-1, "LABEL_-1"), (0, "road"))]
    TRUTH.write_text(json.dumps({**truth, "categories": [*truth["categories"], *more]}) + " " * LARGEST_CONFIG)
    status, out, err = run(*EVALUATE, "--format", "json")
    assert (status, err, json.loads(out)["segments"]) == (0, "", 5)


def test_results_of_other_images_or_categories_are_refused(run, refused):
    write_truth()
    results = ("evaluate", "--panoptic", "--results", "found.json", "--annotations", "truth.json")
    run("detect", "images/a.png", "--format", "panoptic", "-o", "found.json", "--annotations", "truth.json")
    assert "found 1 of 2 images without, such as 12" in refused(*results)
    run("detect", "images", "--format", "panoptic", "-o", "all.json", "--annotations", "truth.json")
    results = tuple(part.replace("found", "all") for part in results)
    content = Path("all.json").read_text()
    Path("all.json").write_text(content.replace(f'"category_id": {DOG}', '"category_id": 9'))
    says = "all.json has segments of other categories than truth.json: found ids 9, expected some of 1, 2, 3"
    assert refused(*results) == says
    Path("all.json").write_text(content)
    Path("all/b.png").unlink()
    assert refused(*results).startswith("all.json names PNGs that are not in all: found 1 of 2, without b.png")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*EVALUATE, "--batch", "2"], "--batch cannot be used with --panoptic"),
        ([*EVALUATE, "--threshold", "7"], "the threshold is out of range"),
        (["evaluate", "--images", "x", "--annotations", "y", "--masks", "z"], "--masks can be used only with"),
        (["evaluate", "--images", "x", "--annotations", "y", "--threshold", "0"], "--threshold can be used only with"),
        (["evaluate", "--panoptic", "--results", "x", "--annotations", "y", "--save-results", "z.json"],
         "--save-results cannot be used with --results"),
    ],
)  # fmt: skip
def test_options_that_do_not_belong_together_are_refused(refused, arguments, says):
    assert refused(*arguments, status=2).startswith(says)


def test_panoptic_annotations_without_the_option_say_so(refused):
    pytest.importorskip("pycocotools")
    write_truth()
    says = "truth.json has panoptic annotations; add --panoptic, or use those with boxes"
    assert refused("evaluate", "--images", "images", "--annotations", "truth.json") == says


# A detection model


def test_a_detection_model_has_no_segments(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size, "white").save(f"images/{name}")
    write_truth()
    model = ("-m", str(small), "--engine", "numpy")
    detect = outcome(("detect", "images", "--format", "panoptic", "-o", "found.json", *model), capsys)
    assert complaint(detect, 2).startswith(f"{NO_MASKS} {small}; use a panoptic model, such as facebook/")
    assert not Path("found.json").exists()
    assert complaint(outcome((*EVALUATE, *model), capsys), 2).startswith(NO_MASKS)
    rows = json.loads(outcome(("detect", "images", "--format", "coco", "--threshold", "0", *model), capsys)[1])
    assert rows
    assert not any("segmentation" in row for row in rows)


# Jobs


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_rows_of_a_job_have_the_masks_and_so_has_the_coco_dataset(run, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    assert run("detect", "images", "dark.png", "-o", "out", "--format", form)[0] == 0
    assert run("collect", "out", "-o", "coco.json")[0] == 0
    assert run("collect", "out", "-o", f"all.{form}")[0] == 0
    content = json.loads(Path("coco.json").read_text())
    assert [row["category_id"] for row in content["annotations"]] == [CAT, SKY, SKY, DOG] * 2
    for row, mask in zip(content["annotations"], Detector("stand-in")("images/a.png").masks, strict=False):
        assert row["area"] == mask.sum()
        assert np.array_equal(rle.decode(row["segmentation"]), mask)
    for other in ("csv", "label-studio", "yolo", "voc"):
        assert run("collect", "out", "-o", f"all-{other}", "--as", other)[0] == 0


def test_supervision_imports_the_masks(run):
    supervision = pytest.importorskip("supervision")
    run("detect", "images", "-o", "out")
    run("collect", "out", "-o", "coco.json", "--relative-to", "images")
    loaded = {
        Path(path).name: found for path, _, found in supervision.DetectionDataset.from_coco("images", "coco.json")
    }
    assert sorted(loaded) == [*SIZES]
    for name, found in loaded.items():
        assert np.array_equal(found.mask, Detector("stand-in")(f"images/{name}").masks)


DAMAGED = [
    ('"counts": "', '"counts": "2'),
    ('"counts": "', '"counts": 3, "x": "'),
    ('"mask": {', '"mask": [], "x": {'),
    ('"size": [48', '"size": [48, 2'),
]


@pytest.mark.parametrize(("good", "bad"), DAMAGED)
def test_a_damaged_mask_in_a_row_is_one_line(run, refused, good, bad):
    run("detect", "images", "-o", "out")
    part = Path("out/part-000000.ndjson")
    text = part.read_text()
    assert good in text
    part.write_text(text.replace(good, bad, 1))
    says = "the row of images/a.png is damaged: found a mask that cannot be decoded"
    assert refused("collect", "out", "-o", "coco.json").startswith(says)
    assert not Path("coco.json").exists()


# Nothing that is read is replaced


def test_segments_replace_no_image(run, refused):
    before = Path("dark.png").read_bytes()
    words = "-o would overwrite dark.png, which is also an input; choose another file"
    assert refused("detect", "images", "dark.png", "--format", "panoptic", "-o", "dark.png") == words
    assert (Path("dark.png").read_bytes(), Path("dark").exists()) == (before, False)


def test_segments_replace_no_file_of_the_model(run, refused):
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    for read in (["-m", "model"], ["--config", "model/config.json"]):
        line = refused("detect", "dark.png", *read, "--format", "panoptic", "-o", "model/config.json")
        assert line.startswith("-o would overwrite model/config.json")
    assert Path("model/config.json").read_text() == "{}"


def test_segments_of_an_evaluation_replace_no_image(run, refused):
    write_truth()
    before = Path("images/a.png").read_bytes()
    assert refused(*EVALUATE, "--save-results", "images/a.png").startswith(
        "--save-results would overwrite images/a.png"
    )
    assert Path("images/a.png").read_bytes() == before
