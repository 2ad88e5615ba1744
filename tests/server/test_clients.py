"""Official clients of the hosted API and of other APIs, unchanged, against the server.

DETR_ONNX_CLIENTS names a directory with the virtual environments `new` (cloudflare, huggingface_hub, schemathesis,
tritonclient[http], deepstack-python) and `old` (cloudflare 4.3.1), and with `npm` (cloudflare, @huggingface/inference,
miniflare, esbuild, playwright-core, axe-core). `.ci/clients` makes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx import Detector
from detr_onnx.server import openapi
from tests.server.live_server import RUN, LiveServer

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "sdk_clients"
IMAGE = ROOT / "examples" / "demo-scene.jpg"
CLIENTS = Path(os.environ.get("DETR_ONNX_CLIENTS", "/nonexistent"))
TEXT_PX = 13  # of the labels in the image, on every screen
TARGET_PX = 44  # the least size of what a finger has to hit [WCAG 2.2, 2.5.5]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""


@pytest.fixture(scope="module")
def expected(detector):
    return detector(IMAGE, 0.1).to_api()


def above(found: list[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    return [item for item in found if item["score"] > threshold]


def output_of(program: str, *arguments: object, **environment: str) -> str:
    """The output of a client's program; skips if the client is not installed."""
    path = CLIENTS / program if "/" in program else Path(shutil.which(program) or "/nonexistent")
    if not path.exists():
        pytest.skip(f"{program} is not installed")
    command = [str(path), *map(str, arguments)]
    npm = {"NODE_PATH": str(CLIENTS / "npm" / "node_modules"), "CHROMIUM": CHROMIUM}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **npm, **environment}, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def node(package: str, script: Path, *arguments: object) -> Any:
    if not (CLIENTS / "npm" / "node_modules" / package).exists():
        pytest.skip(f"npm's {package} is not installed")
    return json.loads(output_of("node", script, *arguments))


@pytest.mark.parametrize("environment", ["new", "old"])
def test_the_python_sdk_gets_detections_and_errors(server, expected, environment):
    answers = json.loads(output_of(f"{environment}/bin/python", SCRIPTS / "sdk.py", server.url, IMAGE))
    assert (environment == "old") == (answers["version"] == "4.3.1")
    assert answers["found"] == expected
    name, status, body = answers["bad input"]
    assert (name, status, body["errors"][0]["code"]) == ("BadRequestError", 400, 5006)
    assert answers["no model"][2]["errors"][0]["code"] == 5007
    assert answers["models"] == ["@cf/facebook/detr-resnet-50"]
    assert answers["token"] == "active"


def test_the_npm_sdk_gets_detections_and_errors(server, expected):
    answers = node("cloudflare", SCRIPTS / "sdk.mjs", server.url, IMAGE)
    assert answers["found"] == expected
    assert answers["refused"][:2] == ["BadRequestError", 400]
    assert answers["refused"][2][0]["code"] == 5006


def test_the_documented_curl_command_gets_detections(server, expected):
    arguments = [
        f"{server.url}{RUN}",
        "-X",
        "POST",
        "-H",
        "Authorization: Bearer token",
        "--data-binary",
        f"@{IMAGE}",
    ]
    assert json.loads(output_of("curl", "-s", *arguments))["result"] == expected


def test_hugging_faces_client_gets_detections(server, expected):
    answers = json.loads(output_of("new/bin/python", SCRIPTS / "hub.py", server.url, IMAGE))
    assert answers == {"default": above(expected, 0.5), "threshold": above(expected, 0.9), "root": above(expected, 0.5)}


def test_hugging_faces_client_gets_segments(panoptic):
    detector = Detector(panoptic, engine="numpy")
    with LiveServer(detector) as server:
        answers = json.loads(output_of("new/bin/python", SCRIPTS / "segments.py", server.url, IMAGE))
    with Image.open(IMAGE) as image:
        size = [*image.size]
    found = detector.panoptic(IMAGE, 0.3, overlap_mask_area_threshold=0.5)
    assert (
        [segment["label"] for segment in answers["panoptic"]] == [info["label"] for info in found.segments_info] != []
    )
    for segment, info in zip(answers["panoptic"], found.segments_info, strict=True):
        assert (segment["label"], segment["score"]) == (info["label"], info["score"])
        assert (segment["mode"], segment["size"]) == ("L", size)
        assert segment["white"] == (found.segmentation == info["id"]).sum()
    assert answers["instance"] == answers["panoptic"]
    assert {segment["score"] for segment in answers["semantic"]} == {None}
    assert sum(segment["white"] for segment in answers["semantic"]) == size[0] * size[1]


def test_hugging_faces_javascript_client_gets_detections_from_the_root(server, expected):
    answers = node("@huggingface/inference", SCRIPTS / "hub.mjs", server.url, IMAGE)
    assert answers["found"] == above(expected, 0.5)
    assert "the data is not an image" in answers["refused"]


def test_tritons_client_gets_detections_in_binary_and_in_json(server, expected):
    answers = json.loads(output_of("new/bin/python", SCRIPTS / "triton.py", server.url, IMAGE))
    assert (answers["live"], answers["metadata"]) == (True, "detr-resnet-50")
    for form in ("binary", "json"):
        assert answers[form]["names"] == [item["label"] for item in above(expected, 0.5)]
        assert answers[form]["scores"] == [item["score"] for item in above(expected, 0.5)]
    assert answers["tensors"][0] == 2
    assert "neither an input image nor pixel_values" in answers["refused"]


def test_deepstacks_client_gets_predictions(server, expected):
    answers = json.loads(output_of("new/bin/python", SCRIPTS / "camera.py", server.url, IMAGE))
    assert [item["label"] for item in answers["predictions"]] == [item["label"] for item in above(expected, 0.45)]
    assert [item["confidence"] for item in answers["predictions"]] == [item["score"] for item in above(expected, 0.45)]
    assert sum(answers["summary"].values()) == len(answers["predictions"])
    assert "status code: 400" in answers["refused"]


def test_the_documented_worker_runs_unchanged_under_miniflare(server, expected, tmp_path):
    for name in ("miniflare", "esbuild"):
        if not (CLIENTS / "npm" / "node_modules" / name).exists():
            pytest.skip(f"npm's {name} is not installed")
    worker = shutil.copytree(ROOT / "examples" / "worker", tmp_path / "worker")
    (worker / "node_modules").symlink_to(CLIENTS / "npm" / "node_modules")
    answer = json.loads(output_of("node", worker / "run.mjs", server.url, IMAGE))
    assert answer == {"inputs": {"image": []}, "response": expected}


def test_the_server_conforms_to_its_openapi_document(server):
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    document = f"{server.url}/openapi.json"
    options = [
        "--checks",
        checks,
        "--max-examples",
        "20",
        "--phases",
        "examples,coverage,fuzzing",
        "--generation-database",
        "none",
    ]
    text = output_of("new/bin/schemathesis", "run", document, *options)
    operations = [name for path in openapi.document("", secured=False)["paths"].values() for name in path]
    tested = re.search(r"Tested: (\d+)", text)
    assert int(tested[1]) in (len(operations) - 1, len(operations))  # newer versions leave the document's own path out


def test_the_page_in_a_real_browser(server, expected, tmp_path):
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    scene = Image.open(IMAGE)
    scene.save(tmp_path / "image.tiff")
    scene.resize((120, 1600)).save(tmp_path / "tall.png")
    seen = node("playwright-core", SCRIPTS / "browser.cjs", f"{server.url}/", IMAGE, tmp_path)
    detections = above(expected, 0.5)
    assert seen["json"] == detections
    assert seen["listed"] == [item["label"] for item in detections]
    assert seen["status"].startswith(f"{len(detections)} found in ")
    assert all(item["label"] in seen["label"] for item in detections)
    assert (seen["withBoxes"]["width"], seen["withBoxes"]["height"]) == (640, 480)
    assert seen["withBoxes"]["sum"] != seen["withoutBoxes"]["sum"]
    best, others = detections[0]["label"], [False] * (len(detections) - 1)
    assert seen["explained"]["status"].startswith(f"Where the model looks for this {best}: the lightest spot gets ")
    assert seen["explained"]["label"].endswith(f"and where the model looks for the {best}")
    assert (seen["explained"]["pressed"], seen["explained"]["differs"], seen["explained"]["closes"]) == (
        [True, *others],
        True,
        True,
    )
    assert seen["explainedByKey"] == {
        "shown": [False, True, *others[1:]],
        "hidden": [False, *others],
        "status": seen["status"],
        "focused": True,
    }
    assert seen["explainRequests"] == 1  # one for all detections of an image
    assert ("@drop.jpg" in seen["dropped"][0], "@paste.jpg" in seen["pasted"][0]) == (True, True)
    assert [seen["dropped"][1], seen["pasted"][1]] == [len(detections)] * 2
    assert seen["atEnd"] == 0
    assert seen["statusAtEnd"].startswith("0 found in ")
    assert seen["statusAtHome"].startswith(f"{len(seen['atHome'])} found in ")
    assert seen["atHome"][: len(expected)] == expected
    assert set(seen["filtered"]) == {detections[0]["label"]}
    assert "found in" in seen["camera"]
    assert all(request.startswith(server.url) for request in seen["requests"])
    assert [error for error in seen["errors"] if "400" not in error] == []
    assert RUN.rpartition("/accounts/")[2].partition("/")[2] in seen["curl"]

    assert (
        seen["refused"]
        == seen["refusedAgain"]
        == ("This file is not an image that the server can read, or it is damaged.")
    )
    assert seen["classesAfterError"] == [""]
    assert seen["sample"].startswith(f"{len(detections)} found in ")
    assert (seen["tiffCanvasIsHidden"], seen["tiffBoxes"] > 0) == (True, True)
    assert "This browser cannot show this kind of image" in seen["tiff"]
    assert seen["tall"] <= 0.75
    assert (seen["copyButton"], json.loads(seen["copied"])) == ("Copied", detections)
    assert seen["openings"] == {
        "twice": {"open": 1, "shown": True, "focus": "shoot"},
        "again": {"open": 1, "shown": True, "focus": "shoot"},
        "escaped": {"open": 0, "shown": False, "focus": "camera"},
    }
    assert seen["mishaps"] == {
        "sample": "The sample cannot be loaded. Reload the page.",
        "gateway": "The server answered with status 502.",
        "foreign": "The server answered with status 403.",
        "loading": "The server is busy. Try again in a moment.",
        "unreachable": "The server cannot be reached.",
        "changed": "This file has changed or is gone. Choose it again.",
        "empty": "This file is empty.",
        "token": "The token has characters that no token has.",
        "wrongToken": "The token is wrong.",
        "focus": "token",
    }
    for name, view in seen["views"].items():
        assert view["violations"] in ([], None), name
        assert view["textPx"] == pytest.approx(TEXT_PX, rel=0.01), name
        assert view["overflow"] == 0, name
        assert view["smallest"] >= TARGET_PX, name
        assert view["hint"] == (not name.startswith("360")), name
