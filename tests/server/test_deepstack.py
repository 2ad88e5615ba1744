"""DeepStack's API: forms with an image in, predictions out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("onnxruntime")

from detr_onnx.server.errors import RequestError
from detr_onnx.server.protocols.deepstack import MOST_PARTS, image_and_confidence, read_form
from tests.server.live_server import LiveServer

IMAGE = (Path(__file__).parents[2] / "examples" / "demo-scene.jpg").read_bytes()
PATH = "/v1/vision/detection"
BOUNDARY = "--a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*fields: tuple[str, bytes], file: str = "image") -> bytes:
    """A form as clients send it: files have a file name, texts do not."""
    parts = b""
    for name, data in fields:
        kind = b'; filename="x.jpg"\r\nContent-Type: image/jpeg' if name == file else b""
        disposition = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + kind
        parts += b"--" + BOUNDARY.encode() + b"\r\n" + disposition + b"\r\n\r\n" + data + b"\r\n"
    return parts + b"--" + BOUNDARY.encode() + b"--\r\n"


def predictions(expected, threshold: float) -> list:
    return [
        {
            "confidence": item["score"],
            "label": item["label"],
            "x_min": item["box"]["xmin"],
            "y_min": item["box"]["ymin"],
            "x_max": item["box"]["xmax"],
            "y_max": item["box"]["ymax"],
        }
        for item in expected
        if item["score"] > threshold
    ]


@pytest.fixture(scope="module")
def expected(detector):
    return detector(IMAGE, 0.1).to_api()


def post(server: LiveServer, body: bytes, content_type: str = FORM, **headers: str):
    return server.post(PATH, body, content_type=content_type, **headers)


# Requests


def test_the_fields_of_a_form_come_whole():
    data = bytes(range(256)) * 40 + b"\r\n--" + BOUNDARY.encode()[:-1]
    assert read_form(FORM, form(("image", data), ("min_confidence", b"0.3"))) == {
        "image": data,
        "min_confidence": b"0.3",
    }


def test_of_equal_names_the_first_counts():
    assert read_form(FORM, form(("image", b"1"), ("image", b"2"))) == {"image": b"1"}


@pytest.mark.parametrize("quoted", ['"image"', "image", '"image"; filename="a;b\\"c.jpg"'])
def test_names_are_quoted_or_not(quoted):
    body = f"--x\r\ncontent-DISPOSITION: form-data; name={quoted}\r\n\r\nabc\r\n--x--".encode()
    assert read_form('Multipart/Form-Data; boundary="x"', body) == {"image": b"abc"}


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        (FORM, b"", "no body"),
        ("", IMAGE, "expected multipart/form-data with a boundary and the field image, found no Content-Type"),
        ("image/jpeg", IMAGE, "expected multipart/form-data .*, found Content-Type 'image/jpeg'"),
        ("application/x-www-form-urlencoded", b"image=1", "expected multipart/form-data"),
        ("multipart/form-data", form(("image", IMAGE)), "expected multipart/form-data"),
        (FORM, IMAGE, "the form is not valid"),
        (FORM, form(("image", IMAGE))[:-40], "the form is cut short"),
        (FORM, form(*[("a", b"")] * (MOST_PARTS + 1)), f"more than {MOST_PARTS} parts"),
    ],
)
def test_a_body_that_is_not_a_form_is_refused(content_type, body, words):
    with pytest.raises(RequestError, match=words):
        read_form(content_type, body)


@pytest.mark.parametrize(
    ("fields", "found"),
    [({}, "no field"), ({"image": b""}, "'image'"), ({"picture": IMAGE, "a": b""}, "'picture', 'a'")],
)
def test_a_form_without_an_image_is_refused(fields, found):
    with pytest.raises(RequestError, match=f"no field image, or it is empty; found {found}$"):
        image_and_confidence(fields)


@pytest.mark.parametrize("text", [b"x", b"2", b"-1", b"nan", b"\xff"])
def test_a_confidence_is_a_number_from_0_to_1(text):
    with pytest.raises(RequestError, match="'/min_confidence' must be a number from 0 to 1"):
        image_and_confidence({"image": IMAGE, "min_confidence": text})


# Over HTTP


def test_predictions_are_those_of_the_detector_best_first(server, expected):
    answer = post(server, form(("image", IMAGE), ("min_confidence", b"0.1"), ("api_key", b"")))
    assert (answer.status, answer.json) == (200, {"success": True, "predictions": predictions(expected, 0.1)})
    assert len(answer.json["predictions"]) > 1


def test_without_a_confidence_deepstacks_default_counts(server, expected):
    assert post(server, form(("image", IMAGE))).json["predictions"] == predictions(expected, 0.45)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"", FORM), (IMAGE, "image/jpeg"), (form(("image", b"hello")), FORM), (form(("min_confidence", b"1")), FORM)],
)
def test_errors_are_in_deepstacks_form(server, body, content_type):
    answer = post(server, body, content_type)
    assert (answer.status, set(answer.json), answer.json["success"]) == (400, {"success", "error"}, False)


def test_a_wrong_method_and_another_path_are_errors_in_the_same_form(server):
    assert server.get(PATH).status == 405
    assert server.get(PATH).json["success"] is False
    assert server.post("/v1/vision/face", IMAGE).status == 404


@pytest.fixture(scope="module")
def guarded(detector):
    with LiveServer(detector, token="s3cret") as server:
        yield server


def test_the_token_is_the_api_key_or_a_header(guarded):
    assert post(guarded, form(("image", IMAGE), ("api_key", b"s3cret"))).status == 200
    assert post(guarded, form(("image", IMAGE)), authorization="Bearer s3cret").status == 200


@pytest.mark.parametrize("key", [None, b"", b"wrong", b"\xff"])
def test_without_the_token_a_form_is_refused(guarded, key):
    fields = [("image", IMAGE), *([("api_key", key)] if key is not None else [])]
    answer = post(guarded, form(*fields))
    assert (answer.status, answer.json["success"]) == (401, False)
    assert post(guarded, form(("api_key", b"s3cret"), *fields[:1]), authorization="Bearer wrong").status == 401
