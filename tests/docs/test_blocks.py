"""The harness itself: what it finds in a page, and that it would notice a fault."""

from __future__ import annotations

import json

import pytest

from tests.docs.blocks import Mark, blocks_of
from tests.docs.parsing import check_command, check_extras, commands_of
from tests.docs.runner import run_page, shape, wildcards

FAULTS = {
    "an option that does not exist": "```sh\ndetr-onnx detect a.jpg --sise 800\n```\n",
    "a command that does not exist": "```sh\ndetr-onnx dettect a.jpg\n```\n",
    "a file that is not there": "```sh\ndetr-onnx detect missing.jpg -m demo\n```\n",
    "an extra that does not exist": "```sh\npip install 'detr-onnx[nothing]'\n```\n",
    "a Python error": "```python\nfrom detr_onnx import Nothing\n```\n",
    "Python that does not parse": "<!-- test: parse-only, a reason -->\n```python\nif\n```\n",
    "JSON of another shape": '<!-- test: shape of `echo "{}"` -->\n```json\n{"a": 1}\n```\n',
    "JSON without a command": '```json\n{"a": 1}\n```\n',
    "a language that nothing runs": "```js\nlet a\n```\n",
    "a mark without a reason": "<!-- test: parse-only -->\n```sh\nls\n```\n",
    "a mark that is misspelt": "<!-- test: parse only, a reason -->\n```sh\nls\n```\n",
}


def page_with(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


@pytest.fixture(autouse=True)
def anywhere(monkeypatch, tmp_path):
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)


def test_a_page_without_blocks_has_none(tmp_path):
    assert blocks_of(page_with(tmp_path, "text\n\n```\na diagram\n```\n")) == []


def test_a_block_has_the_marks_directly_before_it(tmp_path):
    text = (
        "<!-- test: parse-only, of another block -->\ntext\n"
        "<!-- test: `a b` parse-only, needs c -->\n<!-- test: needs av onnx -->\n```sh\na b\n```\n"
    )
    (block,) = blocks_of(page_with(tmp_path, text))
    assert block.marks == (Mark("parse-only", "a b", "needs c"), Mark("needs", "", "av onnx"))
    assert (block.line, block.text) == (6, "a b\n")
    assert block.marked("parse-only", "a b c") == "needs c"
    assert block.marked("parse-only", "other") is None


def test_blocks_share_names_and_files(tmp_path, stage_of):
    text = "```python\na = 1\n```\n```sh\necho 2 > two\n```\n```python\nb = a + int(open('two').read())\n```\n"
    page = page_with(tmp_path, text)
    namespace, missing = run_page(page, stage_of(page))
    assert (namespace["b"], missing) == (3, [])


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_noticed(text, tmp_path, stage_of):
    page = page_with(tmp_path, text)
    with pytest.raises((AssertionError, ImportError, SyntaxError, pytest.fail.Exception)):
        run_page(page, stage_of(page))


def test_a_block_may_be_run_with_smaller_numbers(tmp_path, stage_of):
    page = page_with(
        tmp_path, "<!-- test: with `range(2)` for `range(10**9)` -->\n```python\na = [*range(10**9)]\n```\n"
    )
    assert run_page(page, stage_of(page))[0]["a"] == [0, 1]


def test_a_missing_package_is_told(tmp_path, stage_of):
    page = page_with(tmp_path, "<!-- test: needs no_such_package -->\n```python\n1 / 0\n```\n")
    assert run_page(page, stage_of(page))[1] == ["no_such_package"]


def test_a_command_may_go_on_in_the_next_line():
    assert commands_of("# a comment\na \\\n  b\nc # d\n") == ["a    b", "c # d"]


def test_all_programs_of_a_line_are_parsed():
    check_command("ls | detr-onnx detect a.jpg > found.json && .venv/bin/detr-onnx info  # --none")
    with pytest.raises(ValueError, match="invalid choice"):
        check_command("ls && detr-onnx nothing")


def test_extras_are_those_of_the_project():
    check_extras(["install", "detr-onnx[export,serve]", ".[all]", "onnxruntime-gpu[cuda]"])
    with pytest.raises(ValueError, match="no such extra: sever"):
        check_extras(["install", ".[sever]"])


def test_shapes_are_keys_and_kinds():
    assert shape([{"a": 1, "b": "x"}, {}]) == shape([{"a": 0.5, "b": ""}])
    assert shape({"a": 1}) != shape({"a": "1"})
    assert shape({"a": None}) != shape({"a": 1})


def test_ellipses_are_any_value():
    assert shape(json.loads(wildcards('{"a": {…}, "b": […], "c": …, "d": "…"}'))) == shape(
        {"a": 1, "b": 2, "c": [], "d": None}
    )
