"""The page of examples/browser in headless Chromium: the same detections as `detr-onnx detect`, online and offline.

DETR_ONNX_CLIENTS names a directory with `npm` (playwright-core, onnxruntime-web), which `.ci/clients` makes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

from detr_onnx import Detector
from tests.examples.sites import ROOT, SCENE, publish, sites_models, spoil, write_images

pytestmark = pytest.mark.clients

MODULES = Path(os.environ.get("DETR_ONNX_CLIENTS", "/nonexistent")) / "npm" / "node_modules"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
RUNTIME = MODULES / "onnxruntime-web"
MEGABYTES = r"(\d+\.\d) of (\d+\.\d) MB"
TEXT_PX = 13  # of the labels in the image, on every screen
TARGET_PX = 44  # the least size of what a finger has to hit [WCAG 2.2, 2.5.5]
SCORES_DIFFER = 2e-5  # float32 sums in another order: WebAssembly's vectors are shorter than the processor's
BOXES_DIFFER_PX = 1  # a side that is nearly a whole pixel may be truncated to the one before
WEBGPU_SCORES_DIFFER = 1e-3  # graphics drivers may fuse and approximate: logits differ by 3e-3
CMYK_SCORES_DIFFER = 1e-3  # the browser and Pillow convert to RGB in different ways
ODD_FILES = {
    "cut.png": "This image is damaged, or too large for this browser.",
    "drawing.svg": "This is an SVG drawing. Save it as PNG or JPEG first.",
    "empty.jpg": "This file is empty.",
    "huge.png": "This image has 12000 × 9000 pixels; at most 100 million can be read here. Scale it down first.",
    "scene.tiff": "This file is a TIFF image, which this browser cannot read. Use a JPEG, PNG or WebP.",
    "text.jpg": "This file is text, not an image. Use a JPEG, PNG or WebP.",
}
NOTES = {
    "animated.gif": "Only the first frame of the animation is read.",
    "cmyk.jpg": "This JPEG is for print (CMYK); its colours are an approximation.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sites and images."""
    for needed in (RUNTIME, MODULES / "playwright-core"):
        if not needed.exists():
            pytest.skip(f"npm's {needed.name} is not installed")
    if not CHROMIUM or not shutil.which("node"):
        pytest.skip("chromium or node is not installed")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("browser")
    write_images(folder / "images")
    done = publish(folder / "site", "--runtime", RUNTIME)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "detr_onnx", "export", "demo", "-o", str(folder / "mask.onnx")]  # with pixel_mask
    subprocess.run(command, check=True, cwd=ROOT)
    assert publish(folder / "next", f"--model=later={folder / 'mask.onnx'}", "--runtime", RUNTIME).returncode == 0
    spoil(folder / "site", folder / "damaged", with_its_digest=False)
    spoil(folder / "site", folder / "broken", with_its_digest=True)
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    """What the browser saw."""
    environment = {**os.environ, "NODE_PATH": str(MODULES), "CHROMIUM": CHROMIUM}
    script = Path(__file__).parent / "browser_page.cjs"
    done = subprocess.run(
        ["node", str(script), str(folder)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """The demo model in ONNX Runtime, as the page has it; OpenVINO computes in bfloat16 on some processors."""
    return Detector("demo", engine="onnxruntime")


def assert_same(
    found: list[dict[str, Any]],
    expected: list[dict[str, Any]],
    scores_differ: float = SCORES_DIFFER,
    boxes_differ_px: int = BOXES_DIFFER_PX,
) -> None:
    """Asserts equal labels, and scores and boxes that differ by no more than the tolerances."""
    assert [list(d) for d in found] == [["score", "label", "box"]] * len(expected)
    pairs = list(zip(by_place(found), by_place(expected), strict=True))
    assert [d["label"] for d, _ in pairs] == [d["label"] for _, d in pairs]
    for ours, theirs in pairs:
        assert ours["score"] == pytest.approx(theirs["score"], abs=scores_differ)
        assert list(ours["box"]) == ["xmin", "ymin", "xmax", "ymax"]
        assert list(ours["box"].values()) == pytest.approx(list(theirs["box"].values()), abs=boxes_differ_px)


def by_place(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted by label and place: nearly equal scores may change places."""
    return sorted(found, key=lambda d: (d["label"], d["box"]["xmin"] // 20, d["box"]["ymin"]))


def test_the_page_gives_the_json_of_detr_onnx_detect(seen: Any) -> None:
    command = [sys.executable, "-m", "detr_onnx", "detect", str(SCENE), "-m", "demo", "--engine", "onnxruntime"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert len(printed) == 7
    assert_same(seen["sample"]["json"], printed)
    assert json.loads(seen["copied"]) == seen["sample"]["json"]


def test_the_page_shows_what_it_found(seen: Any) -> None:
    labels = [d["label"] for d in seen["sample"]["json"]]
    assert seen["listed"] == labels
    assert seen["label"] == f"Image with 7 detections: {', '.join(labels)}"
    assert re.fullmatch(r"7 found in \d+ ms \(640 × 480, WebAssembly, \d+ threads?\)\.", seen["sample"]["status"])
    assert seen["atEnd"] == 0
    assert seen["statusAtEnd"].startswith("0 found in ")
    assert seen["statusAtHome"].startswith(f"{len(seen['atHome'])} found in ")
    assert len(seen["atHome"]) >= len(labels)
    assert set(seen["filtered"]) == {"zebra"}
    assert seen["workers"] >= 1
    assert "found in" in seen["camera"]["status"]
    assert seen["errors"] == []


@pytest.mark.parametrize("source", ["dropped", "pasted"])
def test_a_dropped_or_pasted_image_gives_the_same(seen: Any, source: str) -> None:
    assert seen[source]["json"] == seen["sample"]["json"]


@pytest.mark.parametrize(
    "name", ["scene.jpg", "rotated.png", "large.png", "tall.png", "grey.png", "dot.png", "animated.gif", "cmyk.jpg"]
)
def test_images_of_every_kind_give_the_detections_of_python(
    seen: Any, folder: Path, detector: Detector, name: str
) -> None:
    found = seen["files"][name]
    differ = CMYK_SCORES_DIFFER if name == "cmyk.jpg" else SCORES_DIFFER
    assert_same(found["json"], detector(folder / "images" / name).to_dicts(), differ)
    assert found["status"].partition("). ")[2] == NOTES.get(name, "")


@pytest.mark.parametrize("name", ODD_FILES)
def test_a_file_that_cannot_be_read_gets_one_sentence(seen: Any, name: str) -> None:
    assert seen["files"][name] == {"status": ODD_FILES[name], "json": []}


def test_the_download_is_offered_and_counted_in_bytes(seen: Any, folder: Path) -> None:
    listed = json.loads((folder / "site" / "site.json").read_text())
    total = f"{(listed['models'][0]['bytes'] + listed['runtimes']['wasm']['bytes']) / 1e6:.1f}"
    assert seen["offer"] == f"Download the model now ({total} MB)"
    matches = [re.fullmatch(MEGABYTES, amount) for amount in seen["amounts"]]
    amounts = [(float(match[1]), match[2]) for match in matches if match]
    assert len(amounts) == len(matches) > 2
    assert amounts == sorted(amounts)
    assert amounts[-1] == (float(total), total)


def test_the_int8_file_is_chosen_by_url(seen: Any, folder: Path) -> None:
    model = folder / "site" / sites_models(folder / "site")[1]["file"]
    assert_same(seen["other"]["int8"]["json"], Detector(str(model), engine="onnxruntime")(SCENE).to_dicts())
    assert seen["other"]["unknown"] == "There is no model “none” here; the first of the list is used."


def test_the_page_detects_without_a_server_after_the_first_visit(seen: Any) -> None:
    assert seen["offline"]["json"] == seen["sample"]["json"]
    assert seen["offline"]["isolated"] is True
    assert "Works without a connection from now on." in seen["state"]


def test_a_new_version_replaces_the_page_and_the_model(seen: Any, folder: Path) -> None:
    listed = json.loads((folder / "next" / "site.json").read_text())
    assert seen["next"]["model"].startswith("later ")
    assert_same(seen["next"]["json"], seen["sample"]["json"])
    assert set(seen["caches"]) == {f"detr-onnx page / {listed['version']}", "detr-onnx files /"}
    kept = {f"/{listed['models'][0]['file']}", f"/{listed['runtimes']['wasm']['file']}"}
    assert set(seen["caches"]["detr-onnx files /"]) == kept


def test_no_request_goes_to_another_host(seen: Any) -> None:
    assert len(seen["requests"]) > 20
    assert [url for url in seen["requests"] if not url.startswith((seen["url"], "blob:", "data:"))] == []


def test_refused_storage_is_said_and_no_obstacle(seen: Any) -> None:
    assert seen["refused"]["json"] == seen["sample"]["json"]
    assert "did not keep the model (its storage is full), so it is downloaded" in seen["refused"]["state"]


def test_threads_need_isolation_by_the_service_worker_or_the_host(seen: Any) -> None:
    assert seen["plain"]["json"] == seen["sample"]["json"]
    assert (seen["plain"]["loads"], seen["isolatedByHost"]["loads"]) == (1, 1)
    if (os.cpu_count() or 1) > 1:
        assert "WebAssembly, 1 thread)" in seen["plain"]["status"]
        assert "One thread only: the page is not isolated" in seen["plain"]["state"]
        assert "threads)" in seen["isolatedByHost"]["status"]
        assert "threads)" in seen["sample"]["status"]


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ("damaged", r"models/demo-fp32\.\w+\.onnx arrived damaged or cut short\. Try again\."),
        ("broken", r"The model “Demo” cannot be opened: Failed to load model because protobuf parsing failed\."),
    ],
)
def test_a_model_that_cannot_be_used_gets_one_sentence_each_time(seen: Any, site: str, sentence: str) -> None:
    for answer in (seen[site], seen[site]["again"]):
        assert re.fullmatch(sentence, answer["status"])
        assert answer["json"] == []


def test_webgpu_in_software_gives_the_same_detections(seen: Any) -> None:
    assert "WebGPU)." in seen["webgpu"]["status"]
    assert_same(seen["webgpu"]["json"], seen["sample"]["json"], WEBGPU_SCORES_DIFFER)


def test_the_page_fits_phones_and_fingers(seen: Any) -> None:
    assert len(seen["views"]) == 6
    for name, view in seen["views"].items():
        assert view["textPx"] == pytest.approx(TEXT_PX, rel=0.01), name
        assert view["overflow"] == 0, name
        assert view["smallest"] >= TARGET_PX, name
        assert view["unnamed"] == 0, name
        assert view["violations"] in ([], None), name
