"""The parts of a job put together, and the labels that other tools import."""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.jobs.collect import FORMATS, Collection, collect
from detr_onnx.jobs.file_formats import ImageNames
from detr_onnx.jobs.inputs import Inputs
from detr_onnx.jobs.job import Job
from detr_onnx.jobs.label_files import voc_text
from detr_onnx.jobs.parts import find_parts, read_part
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.jobs.shard import Shard
from tests.jobs.stand_in import network, stand_in_detector
from tests.small_model import sample_image

PLAIN = ImageNames()
SHARDS = 3
COUNT = 9


@pytest.fixture
def detector(monkeypatch) -> Detector:
    """Its boxes reach a little beyond the image at the right."""

    def wide(pixels, mask):
        logits, boxes = network(pixels, mask)
        boxes[:] = [0.75, 0.5, 0.6, 0.5]
        return logits, boxes

    return stand_in_detector(monkeypatch, wide)


def run_job(detector: Detector, form: str = "ndjson", shards: range = range(SHARDS)) -> None:
    settings = JobSettings.of(detector, "stand-in", 0.5, None, form, SHARDS)
    for index in shards:
        Job(Path("out"), Inputs(["photos"], Shard(index, SHARDS)), settings, part_rows=2).run(detector)


@pytest.fixture(params=["ndjson", "parquet"])
def form(request) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working directory, with images of 40x30 in photos/; two have no cat."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(COUNT - 2):
        sample_image(40, 30, number).save(f"photos/{number}.jpg")
    for number in range(2):
        Image.new("RGB", (40, 30)).save(f"photos/dark-{number}.png")
    return tmp_path


@pytest.fixture
def job(photos, detector, form) -> list[dict[str, object]]:
    """The rows of a finished job in out/."""
    run_job(detector, form)
    return [row for part in find_parts(Path("out")) for row in read_part(part.path)]


def good_images() -> list[str]:
    return sorted(str(path) for path in Path("photos").iterdir())


def approximately(rows: list[dict[str, object]]) -> list[object]:
    """Rows to compare: Parquet has scores and boxes in float32, which JSON writes with all their digits."""
    return json.loads(json.dumps(rows), parse_float=lambda text: round(float(text), 5))


def test_all_rows_are_in_one_file(job):
    collect(Path("out"), Path("all.ndjson"), None, PLAIN)
    assert approximately([json.loads(line) for line in Path("all.ndjson").read_bytes().splitlines()]) == (
        approximately(job)
    )


def test_a_parquet_file_has_all_rows_and_the_settings(job):
    pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    collect(Path("out"), Path("all.parquet"), None, PLAIN)
    table = pq.read_table("all.parquet")
    assert approximately(table.to_pylist()) == approximately(job)
    assert table.schema.metadata[b"detr_onnx.model"] == b"stand-in"


def test_csv_has_a_line_for_each_detection_and_each_image_without_one(job):
    collect(Path("out"), Path("all.csv"), None, PLAIN)
    with Path("all.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["path"] for line in lines) == good_images()
    assert {line["label"] for line in lines} == {"cat", ""}
    line = next(line for line in lines if line["label"])
    assert [float(line[side]) for side in ("xmin", "ymin", "xmax", "ymax")] == pytest.approx(
        [18, 7.5, 42, 22.5], abs=1e-4
    )


# What is missing


def test_shards_that_have_not_ended_are_named_in_one_line(photos, detector, caplog):
    run_job(detector, shards=range(1))
    words = "^out is not complete: found unfinished shards 1, 2 of 3; run the job again, or add --partial"
    with pytest.raises(OutputError, match=words):
        collect(Path("out"), Path("all.ndjson"), None, PLAIN)
    assert not Path("all.ndjson").exists()
    with caplog.at_level(logging.WARNING):
        collect(Path("out"), Path("all.ndjson"), None, PLAIN, partial=True)
    assert caplog.messages == ["out is not complete: unfinished shards 1, 2 of 3"]
    assert len(Path("all.ndjson").read_text().splitlines()) == len([*Collection.of(Path("out")).rows()])


def test_a_part_that_is_gone_is_missing(job, form):
    part = find_parts(Path("out"))[1]
    gone = len([*read_part(part.path)])
    part.path.unlink()
    every = sum(row["path"] is not None for row in job)
    with pytest.raises(OutputError, match=rf"is not complete: found \d+ of \d+ rows of shard {part.shard.index}; run"):
        collect(Path("out"), Path("all.ndjson"), None, PLAIN)
    assert every - gone == len([*Collection.of(Path("out")).rows()])


def test_a_damaged_part_leaves_no_file(job, form):
    part = find_parts(Path("out"))[0].path
    content = part.read_bytes()
    part.write_bytes(content[:40] + b"\0" * 20 + content[60:] if form == "ndjson" else content[:60])
    with pytest.raises(OutputError, match=part.name):
        collect(Path("out"), Path("all.json"), None, PLAIN)
    assert not Path("all.json").exists()


@pytest.mark.parametrize("directory", ["nothing", "photos"])
def test_a_directory_without_a_job_is_an_error(photos, directory):
    with pytest.raises(OutputError, match=f"there is no job in {directory}"):
        collect(Path(directory), Path("all.ndjson"), None, PLAIN)


def test_a_suffix_that_says_nothing_is_an_error(photos):
    with pytest.raises(
        UsageError, match=r"the format of all\.txt is not known: found the suffix '\.txt', expected .*voc"
    ):
        collect(Path("out"), Path("all.txt"), None, PLAIN)


@pytest.mark.parametrize("output", ["out/all.ndjson", "photos", "nowhere/all.ndjson"])
def test_what_cannot_be_written_is_one_error(photos, detector, output):
    run_job(detector)
    with pytest.raises(OutputError, match=f"cannot write {output}"):
        collect(Path("out"), Path(output), "ndjson", PLAIN)


@pytest.mark.parametrize("form_", ["yolo", "voc"])
@pytest.mark.parametrize("taken", ["photos", "photos/0.jpg"])
def test_labels_do_not_go_into_what_is_there(photos, detector, form_, taken):
    run_job(detector)
    before = sorted(path.name for path in photos.iterdir())
    with pytest.raises(OutputError, match=f"cannot write {taken}: found a"):
        collect(Path("out"), Path(taken), form_, PLAIN)
    assert sorted(path.name for path in photos.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nothing_goes_beside_the_parts_also_by_another_name_of_the_directory(photos, detector):
    run_job(detector)
    Path("link").symlink_to("out")
    Path("all.ndjson").symlink_to("out/part-000000.ndjson")
    before = sorted((path.name, path.read_bytes()) for path in Path("out").iterdir())
    for output in ("link/all.ndjson", "photos/../out/all.ndjson", "all.ndjson"):
        with pytest.raises(OutputError, match=rf"cannot write {output}: found the directory of the job"):
            collect(Path("out"), Path(output), None, PLAIN)
    assert sorted((path.name, path.read_bytes()) for path in Path("out").iterdir()) == before


def test_labels_below_a_file_are_an_error_that_names_the_file(photos, detector):
    run_job(detector)
    Path("file").touch()
    with pytest.raises(OutputError, match=r"cannot create the directory .*file: found a file of that name"):
        collect(Path("out"), Path("file/labels"), "yolo", PLAIN)


def test_labels_of_a_name_that_is_too_long_are_an_error(photos, detector):
    run_job(detector)
    with pytest.raises(OutputError, match=r"cannot write x+"):
        collect(Path("out"), Path("x" * 300), "yolo", PLAIN)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on directories there")
def test_the_draft_of_a_process_that_was_killed_is_removed(photos, detector):
    run_job(detector)
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from detr_onnx.jobs import label_files\n"
        "from detr_onnx.jobs.collect import ImageNames, collect\n"
        "label_files.place_directory = lambda fresh, target: os._exit(9)\n"
        "collect(Path('out'), Path('labels'), 'yolo', ImageNames())\n"
    )
    before = sorted(path.name for path in photos.iterdir())
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert len(list(photos.iterdir())) == len(before) + 1
    collect(Path("out"), Path("labels"), "yolo", PLAIN)
    assert sorted(path.name for path in photos.iterdir()) == sorted([*before, "labels"])


def test_a_shard_with_more_rows_than_at_its_end_is_not_complete(photos, detector):
    run_job(detector)
    part = find_parts(Path("out"))[0].path
    part.with_name(part.name.replace("000000", "000009")).write_bytes(part.read_bytes())
    with pytest.raises(OutputError, match=r"found \d+ rows of shard 0, which ended with \d+; run the job again"):
        collect(Path("out"), Path("all.ndjson"), None, PLAIN)


@pytest.mark.parametrize("names", [("0.jpg", "0.png"), ("0.jpg", "0.txt/deep/a.jpg"), ("0.txt/deep/a.jpg", "0.jpg")])
def test_two_images_of_one_name_are_an_error_and_nothing_is_left(photos, detector, names):
    inputs = [str(Path("photos", name)) for name in names]
    for path in map(Path, inputs):
        path.parent.mkdir(parents=True, exist_ok=True)
        sample_image(40, 30).save(path)
    Job(Path("out"), Inputs(inputs), JobSettings.of(detector, "stand-in", 0.5, None, "ndjson", 1)).run(detector)
    before = sorted(path.name for path in photos.iterdir())
    with pytest.raises(
        OutputError, match=r"the labels of two images would have the same path, 0\.txt.*: found the image photos"
    ):
        collect(Path("out"), Path("labels"), "yolo", PLAIN)
    assert sorted(path.name for path in photos.iterdir()) == before


@pytest.mark.parametrize("form_", FORMATS)
def test_images_that_failed_are_counted_where_labels_have_no_place_for_them(photos, detector, caplog, form_):
    if form_ == "parquet":
        pytest.importorskip("pyarrow")
    Path("photos/bad.jpg").write_bytes(b"x")
    run_job(detector)
    with caplog.at_level(logging.WARNING):
        collect(Path("out"), Path("collected"), form_, PLAIN)
    left_out = [] if form_ in ("ndjson", "parquet", "csv") else ["images that are left out because they failed: 1"]
    assert caplog.messages == left_out


def test_a_member_of_a_tar_file_cannot_lead_out_of_the_labels(photos, detector):
    from tests.jobs.test_inputs import jpeg, write_tar

    write_tar("evil.tar", {"../../../evil.jpg": jpeg(), "/abs.jpg": jpeg(), "é\0.jpg": jpeg()})
    settings = JobSettings.of(detector, "stand-in", 0.5, None, "ndjson", 1)
    Job(Path("out"), Inputs(["evil.tar"]), settings).run(detector)
    collect(Path("out"), Path("deep/labels"), "yolo", PLAIN)
    files = sorted(path.relative_to("deep") for path in Path("deep").rglob("*.txt"))
    assert [path.name for path in files] == ["abs.txt", "evil.txt", "é_.txt"]
    assert not list(photos.parent.glob("*.txt")) + list(photos.glob("*.txt"))


# Label formats


def test_a_coco_dataset_has_images_annotations_and_categories(job):
    collect(Path("out"), Path("coco.json"), None, ImageNames("photos", "http://here/"))
    dataset = json.loads(Path("coco.json").read_text())
    assert dataset["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert sorted(i["file_name"] for i in dataset["images"]) == [f"http://here/{Path(p).name}" for p in good_images()]
    (first, *_), ids = dataset["annotations"], [a["id"] for a in dataset["annotations"]]
    assert ids == [*range(1, COUNT - 1)]
    assert first["bbox"] == pytest.approx([18, 7.5, 24, 15], abs=1e-4)
    assert first["score"] > 0.5


def test_an_image_outside_of_the_directory_is_an_error(job):
    with pytest.raises(UsageError, match=r"photos/.* is not in other; give --relative-to another directory"):
        collect(Path("out"), Path("coco.json"), None, ImageNames("other"))


@pytest.mark.parametrize("names", [ImageNames("photos"), ImageNames(prefix="http://here/")])
@pytest.mark.parametrize("suffix", ["ndjson", "parquet"])
def test_rows_refuse_other_names_of_images_which_they_would_not_get(job, names, suffix):
    with pytest.raises(UsageError, match=f"{suffix} keeps the paths of the rows; leave --relative-to and --prefix out"):
        collect(Path("out"), Path(f"rows.{suffix}"), None, names)


def test_an_empty_job_gives_an_empty_dataset(photos, detector):
    settings = JobSettings.of(detector, "stand-in", 0.5, None, "ndjson", 1)
    Path("list.txt").touch()
    Job(Path("out"), Inputs(["@list.txt"]), settings).run(detector)
    for form_ in FORMATS:
        if form_ != "parquet":
            collect(Path("out"), Path(f"collected-{form_}"), form_, PLAIN, partial=True)
    dataset = json.loads(Path("collected-coco").read_text())
    assert (dataset["images"], dataset["annotations"]) == ([], [])
    assert json.loads(Path("collected-label-studio").read_text()) == []


def test_voc_and_yolo_stay_within_the_image(job):
    collect(Path("out"), Path("voc"), "voc", PLAIN)
    collect(Path("out"), Path("yolo"), "yolo", PLAIN)
    box = ElementTree.parse("voc/Annotations/0.xml").find("object/bndbox")
    assert [int(side.text) for side in box] == [19, 8, 40, 22]
    assert Path("yolo/labels/0.txt").read_text() == "0 0.725000 0.500000 0.550000 0.500000\n"
    assert Path("yolo/labels/dark-0.txt").read_text() == ""
    assert Path("yolo/data.yaml").read_text() == 'nc: 2\nnames: ["cat", "dog"]\n'


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_labels_are_in_directories_like_those_of_the_images(photos, detector, kind):
    deep = Path("photos/a/b")
    deep.mkdir(parents=True)
    Path("photos/1.jpg").rename(deep / "1.jpg")
    run_job(detector)
    collect(Path("out"), Path("labels"), kind, PLAIN)
    folder, suffix = {"yolo": ("labels", ".txt"), "voc": ("Annotations", ".xml")}[kind]
    names = sorted(str(path.relative_to(f"labels/{folder}")) for path in Path("labels", folder).rglob(f"*{suffix}"))
    images = [path.relative_to("photos") for path in Path("photos").rglob("*.*")]
    assert names == sorted(str(path.with_suffix(suffix)) for path in images)


def test_voc_names_the_image_and_its_size():
    box = {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    row = {"path": "a.jpg", "width": 40, "height": 30, "detections": [{"label": "traffic light\x01", "box": box}]}
    root = ElementTree.fromstring(voc_text(row, [], "http://here/a b.jpg"))
    assert [root.find(name).text for name in ("folder", "filename", "path")] == (
        ["http://here", "a b.jpg", "http://here/a b.jpg"]
    )
    assert [(side.tag, side.text) for side in root.find("size")] == [("width", "40"), ("height", "30"), ("depth", "3")]
    assert root.find("object/name").text == "traffic light\ufffd"


def test_a_box_of_less_than_a_pixel_has_a_pixel_in_voc():
    box = {"xmin": 10.2, "ymin": 29.9, "xmax": 10.4, "ymax": 30.2}
    row = {"path": "a.jpg", "width": 40, "height": 30, "detections": [{"label": "cat", "box": box}]}
    root = ElementTree.fromstring(voc_text(row, ["cat"], "a.jpg"))
    assert [int(side.text) for side in root.find("object/bndbox")] == [11, 30, 11, 30]


def test_a_label_that_is_no_class_is_damage_in_yolo(photos, detector):
    run_job(detector)
    settings = json.loads(Path("out/_job.json").read_text())
    Path("out/_job.json").write_text(json.dumps(settings | {"class_names": ["dog"]}))
    with pytest.raises(OutputError, match=r"the row of photos/.* is damaged: found the label 'cat', expected a class"):
        collect(Path("out"), Path("labels"), "yolo", PLAIN)


def test_a_name_that_begins_with_two_dots_is_in_its_directory():
    assert ImageNames("photos").relative("photos/..a.jpg") == "..a.jpg"
    with pytest.raises(UsageError, match=r"other/a\.jpg is not in photos"):
        ImageNames("photos").relative("other/a.jpg")


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_supervision_imports_the_labels(job, kind):
    supervision = pytest.importorskip("supervision")
    collect(Path("out"), Path("labels"), kind, ImageNames("photos"))
    dataset = supervision.DetectionDataset
    if kind == "coco":
        loaded = dataset.from_coco("photos", "labels")
    elif kind == "yolo":
        loaded = dataset.from_yolo("photos", "labels/labels", "labels/data.yaml")
    else:
        loaded = dataset.from_pascal_voc("photos", "labels/Annotations")
    names = {Path(path).name: found for path, _, found in loaded}
    assert sorted(names) == [Path(path).name for path in good_images()]
    xmin, ymin, xmax, ymax = names["0.jpg"].xyxy[0]
    right = 42 if kind == "coco" else 40
    assert np.allclose([xmin, ymin, xmax, ymax], [18, 7.5, right, 22.5], atol=0.51)
    assert loaded.classes[names["0.jpg"].class_id[0]] == "cat"
    assert len(names["dark-0.png"]) == 0


def test_tasks_of_label_studio_have_boxes_in_percent_and_the_mean_score(job):
    collect(Path("out"), Path("tasks.json"), "label-studio", ImageNames("photos", "/data/local-files/?d="))
    tasks = {task["data"]["image"]: task["predictions"] for task in json.loads(Path("tasks.json").read_text())}
    assert len(tasks) == COUNT
    (prediction,) = tasks["/data/local-files/?d=0.jpg"]
    (result,) = prediction["result"]
    box = {"x": 45, "y": 25, "width": 55, "height": 50, "rotation": 0}
    assert {name: result["value"][name] for name in box} == pytest.approx(box, abs=1e-4)
    assert (result["original_width"], result["original_height"]) == (40, 30)
    assert (result["value"]["rectanglelabels"], result["from_name"], result["to_name"]) == (["cat"], "label", "image")
    (row,) = [row for row in job if row["path"] == good_images()[0]]
    assert prediction["score"] == result["score"] == row["detections"][0]["score"]
    assert prediction["model_version"].startswith("stand-in ")
    (dark,) = tasks["/data/local-files/?d=dark-0.png"]
    assert (dark["result"], "score" in dark) == ([], False)


def test_the_score_of_a_task_is_the_mean_of_its_results(photos, monkeypatch):
    def two_cats(pixels, mask):
        logits, boxes = network(pixels, mask)
        logits[:, 1] = [0, -9, -9, -1]
        return logits, boxes

    run_job(stand_in_detector(monkeypatch, two_cats))
    collect(Path("out"), Path("tasks.json"), "label-studio", PLAIN)
    found = {task["data"]["image"]: task["predictions"][0] for task in json.loads(Path("tasks.json").read_text())}
    scores = [result["score"] for result in found["photos/0.jpg"]["result"]]
    assert len(scores) == len({result["id"] for result in found["photos/0.jpg"]["result"]}) == 2
    assert found["photos/0.jpg"]["score"] == pytest.approx(np.mean(scores))
    assert scores[0] > scores[1]


def test_urls_of_label_studio_are_quoted_and_paths_are_not(photos, detector):
    Path("photos/0.jpg").rename("photos/a b#.jpg")
    run_job(detector)
    for prefix, url in (("", "photos/a b#.jpg"), ("http://here/", "http://here/photos/a%20b%23.jpg")):
        collect(Path("out"), Path("tasks.json"), "label-studio", ImageNames(prefix=prefix))
        assert url in {task["data"]["image"] for task in json.loads(Path("tasks.json").read_text())}


def test_label_studio_validates_the_predictions(job):
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    collect(Path("out"), Path("tasks.json"), "label-studio", ImageNames("photos", "/data/local-files/?d="))
    labels = "".join(f'<Label value="{name}"/>' for name in ("cat", "dog"))
    config = interface.LabelInterface(
        f'<View><Image name="image" value="$image"/>'
        f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels></View>'
    )
    for task in json.loads(Path("tasks.json").read_text()):
        assert config.validate_task({"data": task["data"]})
        assert config.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_datumaro_which_cvat_imports_with_reads_the_labels(job):
    datumaro = pytest.importorskip("datumaro")
    Path("set/annotations").mkdir(parents=True)
    Path("set/images").mkdir()
    collect(Path("out"), Path("set/annotations/instances_default.json"), "coco", ImageNames("photos"))
    dataset = datumaro.Dataset.import_from("set", "coco_instances")
    items = {item.id: item.annotations for item in dataset}
    assert sorted(items) == [Path(path).stem for path in good_images()]
    (box,) = items["0"]
    assert [box.x, box.y, box.w, box.h] == pytest.approx([18, 7.5, 24, 15], abs=0.01)


def test_the_importer_of_fiftyone_reads_the_labels(job):
    importers = pytest.importorskip("fiftyone.utils.coco")  # the rest of it needs a database
    collect(Path("out"), Path("coco.json"), None, ImageNames("photos"))
    with importers.COCODetectionDatasetImporter(data_path="photos", labels_path="coco.json") as importer:
        found = {Path(path).name: labels["detections"].detections for path, _, labels in importer if labels}
    assert found.keys() <= {Path(path).name for path in good_images()}
    (detection,) = found["0.jpg"]
    assert detection.label == "cat"
    assert detection.bounding_box == pytest.approx([18 / 40, 0.25, 24 / 40, 0.5], abs=1e-4)
    assert detection.confidence > 0.5
