"""Requests that took a server's time or memory, or got a wrong response, in every protocol."""

from __future__ import annotations

import functools
import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")

from tests.fuzz.http_requests import (
    BINARY,
    DEEPSTACK,
    FORM,
    HUGGING_FACE,
    INFER,
    JSON,
    LENGTH,
    MAX_BODY,
    RUN,
    HttpRequest,
    HttpResponse,
    binary_request,
    form,
    json_request,
    png,
    server,
    tensor,
)

JSON_PATHS = (RUN, HUGGING_FACE, INFER)
PATHS = (*JSON_PATHS, DEEPSTACK)


def post(path: str, body: bytes, **headers: str) -> HttpResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server().ask(HttpRequest(path, {"content-type": JSON, **names}, body))


# Compressed bodies


@functools.cache
def bomb(encoding: str) -> bytes:
    """64 MB of zeros, compressed."""
    zeros = bytes(64 << 20)
    return gzip.compress(zeros, mtime=0) if encoding == "gzip" else zlib.compress(zeros)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_when_it_reaches_the_limit(path, encoding):
    assert len(bomb(encoding)) < MAX_BODY
    assert post(path, bomb(encoding), content_encoding=encoding).status == 413


@pytest.mark.parametrize("path", PATHS)
def test_a_bomb_of_many_empty_members_ends(path):
    members = gzip.compress(b"", mtime=0) * 50_000
    assert post(path, members, content_encoding="gzip").status == 400


# JSON


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"image": ' * 100_000,
        b'{"image": [' + b"[" * 1_000_000,
        b'{"image": %s}' % (b"9" * 1_000_000),
        b'{"image": [%s]}' % (b"9" * 1_000_000),
        b'{"image": [1e%s]}' % (b"9" * 100_000),
        b'{"image": [NaN, 1, 2]}',
        b'{"image": [%s]}' % (b"{}," * 300_000),
        b'{"inputs": [%s]}' % (b"[]," * 300_000),
        b'{%s}' % (b'"a":1,' * 100_000),
        b'"' + b"\\ud800" * 100_000 + b'"',
        b'"data:image/png;base64,' + b"=" * 1_000_000 + b'"',
        b"\xff\xfe" * 1000,
        b"",
    ],
    ids=["lists", "objects", "image of lists", "a number", "an array of one number", "an exponent", "NaN",
         "objects in an array", "lists in an array", "fields", "surrogates", "padding", "UTF-16", "nothing"],
)  # fmt: skip
@pytest.mark.parametrize("path", JSON_PATHS)
def test_json_that_is_not_an_image_is_a_400(path, body):
    assert post(path, body).status == 400


# KServe


def infer(*inputs: dict[str, Any], **fields: Any) -> HttpResponse:
    return server().ask(json_request(INFER, {"inputs": inputs, **fields}))


@pytest.mark.parametrize("value", [300, -1, 1.5, True, None, "1", 1e300, 10**400])
def test_a_value_that_is_not_a_uint8_does_not_wrap(value):
    response = infer(tensor("image", "UINT8", (1, 1, 3), [0, 0, value]))
    assert response.status == 400
    assert "image" in response.json["error"]


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1e39"])
def test_a_number_that_is_not_a_finite_fp32_is_refused(text):
    body = b'{"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 1, 1], "data": [0, 0, %s]}]}'
    assert post(INFER, body % text).status == 400


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_binary_numbers_that_are_not_finite_are_refused(value):
    pixels = np.full((1, 3, 8, 8), value, np.float32)
    request = binary_request(
        [tensor("pixel_values", "FP32", (1, 3, 8, 8), binary_data_size=pixels.nbytes)], pixels.tobytes()
    )
    assert server().ask(request).status == 400


@pytest.mark.parametrize(
    "shape",
    [[2**31 - 1] * 4, [0, 2**31 - 1, 2**31 - 1, 3], [0] + [2**30] * 7, [1] * 70, [1] * 1000, [], [3] * 40],
    ids=lambda shape: str(len(shape)),
)
def test_a_shape_that_the_data_does_not_have_is_refused(shape):
    for data in ([1, 2, 3], [1], []):
        assert infer(tensor("image", "UINT8", shape, data)).status == 400


def test_strings_that_claim_gigabytes_are_refused():
    data = struct.pack("<I", 2**32 - 1) + png()
    response = server().ask(binary_request([tensor("image", "BYTES", (1,), binary_data_size=len(data))], data))
    assert (response.status, "cut short" in response.json["error"]) == (400, True)


def test_a_million_empty_strings_are_refused():
    data = bytes(4 * 500_000)
    response = server().ask(binary_request([tensor("image", "BYTES", (500_000,), binary_data_size=len(data))], data))
    assert response.status == 400


@pytest.mark.parametrize("length", ["9" * 18, "9" * 4000, "-1", "1e3", "", "0x10", "٣"])
def test_a_length_of_the_json_that_is_none_is_refused(length):
    headers = {"content-type": BINARY, LENGTH: length.encode().decode("latin-1")}
    assert server().ask(HttpRequest(INFER, headers, b"{}")).status == 400


# Forms


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, form(image=png())[:-8]),
        (FORM, b"--a-boundary\r\n" * 50_000),
        (FORM, b"--a-boundary\r\n" + b"a: b\r\n" * 100_000),
        (FORM, b"--a-boundary\r\n" + b"a" * 1_000_000),
        (FORM, b"--a-boundary\r\nContent-Disposition: form-data; name=" + b'"' * 300_000),
        (FORM, b"--a-boundary\r\nContent-Disposition: form-data" + b"; a=b" * 100_000 + b"\r\n\r\n"),
        ("multipart/form-data; boundary=" + "x" * 60_000, form(image=png())),
        ("multipart/form-data" + "; a=b" * 10_000, form(image=png())),
    ],
    ids=["cut", "parts", "headers", "a long header", "quotes", "parameters", "a long boundary", "many parameters"],
)
def test_a_form_that_never_ends_is_a_400(content_type, body):
    assert post(DEEPSTACK, body, content_type=content_type).status == 400


def test_nothing_is_printed_about_a_form_that_is_not_valid(capfd):
    server()
    capfd.readouterr()
    assert post(DEEPSTACK, b"--b-boundary\r\n", content_type=FORM).status == 400
    assert capfd.readouterr().err == ""


# Images


def bitmap(width: int, height: int) -> bytes:
    """A bitmap whose header promises pixels that do not follow."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 1), (300, 300)])
def test_an_image_of_too_many_pixels_is_refused_in_every_protocol(size):
    image = bitmap(*size)
    statuses = {
        post(RUN, image, content_type=BINARY).status,
        post(HUGGING_FACE, image, content_type=BINARY).status,
        post(DEEPSTACK, form(image=image), content_type=FORM).status,
        server()
        .ask(
            binary_request(
                [tensor("image", "BYTES", (1,), binary_data_size=len(image) + 4)], struct.pack("<I", len(image)) + image
            )
        )
        .status,
    }
    assert statuses == {413}


def test_refusals_do_not_repeat_long_values():
    for path, value in ((RUN, {"image": "x" * 1_000_000}), (INFER, {"inputs": [{"name": "x" * 1_000_000}]})):
        response = post(path, json.dumps(value).encode())
        assert response.status == 400
        assert len(response.body) < 2500


# Paths with tabs and line ends, which a client may send percent-encoded


@pytest.mark.parametrize(
    "path", ["/m\todels/facebook/detr-resnet-50", "/\rv2/models/detr-resnet-50/infer", "/v\t1/vision/detection"]
)
def test_a_path_with_control_characters_is_not_the_one_without_them(path):
    response = post(path, b"{}")
    (error,) = response.json["errors"]  # the hosted API's, as for any unknown path
    assert (response.status, error["code"]) == (400, 7000)
