"""Refusals: one kind for each error, in words of no vendor, written in each dialect."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from detr_onnx.errors import EngineError, ImageError, ImageTooLargeError, UsageError
from detr_onnx.server import errors
from detr_onnx.server.errors import ErrorKind, RequestError, as_request_error, error_field
from detr_onnx.server.protocols.fields import parse_threshold
from detr_onnx.server.protocols.workers_ai import OWN_ROWS, ROWS

SERVER = Path(errors.__file__).parent
CORE = ("access", "errors", "inference", "intake", "observe", "service", "settings", "protocols/fields")
VENDORS = ("cloudflare", "workers_ai", "huggingface", "kserve", "cf-")

KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, ErrorKind)}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ImageError("x"), errors.UNDECODABLE),
        (ImageTooLargeError("x"), errors.TOO_LARGE),
        (UsageError("x"), errors.BAD_INPUT),
        (TimeoutError(), errors.TIMEOUT),
        (EngineError("x"), errors.INTERNAL),
        (MemoryError(), errors.INTERNAL),
        (KeyError("x"), errors.INTERNAL),
        (RequestError(errors.BUSY), errors.BUSY),
    ],
)
def test_every_error_has_its_kind(error, kind):
    assert as_request_error(error).kind == kind


def test_the_text_of_an_internal_error_is_not_sent_to_the_client():
    assert str(as_request_error(KeyError("secret"))) == "Internal server error"


def test_every_kind_has_one_row_in_the_hosted_apis_form():
    assert {**ROWS, **OWN_ROWS}.keys() == set(KINDS.values())
    assert not ROWS.keys() & OWN_ROWS.keys()
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_one_sentence_with_a_status_of_an_error(name):
    response = error_field(RequestError(KINDS[name], subject="that"), "an-id")
    assert 400 <= response.status == response.code < 600
    assert set(response.body) == {"error"}
    assert "{" not in response.body["error"]


def test_a_detail_stands_in_place_of_the_sentence_of_its_kind():
    assert error_field(RequestError(errors.BAD_INPUT, "no such input"), "an-id").body == {"error": "no such input"}


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-0.1", "1.1"])
def test_a_threshold_is_a_number_from_0_to_1(text):
    with pytest.raises(RequestError, match="must be a number from 0 to 1"):
        parse_threshold(text, 0.1)


def test_without_a_threshold_the_default_counts():
    assert (parse_threshold(None, 0.1), parse_threshold("0.75", 0.1)) == (0.1, 0.75)


@pytest.mark.parametrize("module", CORE)
def test_the_core_of_the_server_names_no_vendor_in_code(module):
    nodes = list(ast.walk(ast.parse((SERVER / f"{module}.py").read_text(encoding="utf-8"))))
    documented = [n for n in nodes if isinstance(n, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    docstrings = {ast.get_docstring(node, clean=False) for node in documented}
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    words = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    words += [text for text in strings if text not in docstrings]
    assert [word for word in words if any(vendor in word.lower() for vendor in VENDORS)] == []
