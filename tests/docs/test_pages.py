"""Every code block of the README and of docs/ runs; see this package's docstring."""

from __future__ import annotations

import re

import pytest

from tests.docs import parsing
from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.runner import run_page, run_python

README = PAGES[0]
WITH_BLOCKS = [page for page in PAGES if blocks_of(page) and page.name != "migrate.md"]  # test_migrate.py runs that
OPTIONS_OF_OTHERS = {"--device", "--disable_exceptions", "--disable_rtti", "--build_wheel", "--parallel"} | {
    "--actors",
    "--block",
    "--wave",
    "--stall",
    "--resolution",
    "--target",
    "--python-nncf",
    "--python-peers",
    "--minutes",
}
"""Options in the text of docker, uv, ONNX Runtime's build, examples/ray/detect.py and the benchmarks."""


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page, stage_of):
    _, missing = run_page(page, stage_of(page))
    if missing:
        pytest.skip(f"some blocks of {page.name} were only parsed; they need {', '.join(missing)}")


def test_the_readme_s_python_prints_the_objects_and_draws_them(stage_of, capsys):
    stage = stage_of(README)
    (block,) = (block for block in blocks_of(README) if block.language == "python")
    run_python(block, stage, {}, parse_only=False)
    assert "elephant" in capsys.readouterr().out
    assert (stage.directory / "boxes.jpg").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_in_the_text_exist(page):
    shown = re.sub(r"<!-- test:.*-->", "", page.read_text(encoding="utf-8"))
    text = "\n".join(re.findall(r"`([^`\n]+)`", shown))
    commands = set(re.findall(r"^detr-onnx ([a-z][\w-]*)", text, re.MULTILINE))
    options = set(re.findall(r"(?:^|[ /])(--[a-z][\w-]+)", text, re.MULTILINE)) - OPTIONS_OF_OTHERS
    assert commands - parsing.commands() == set()
    assert {option for option in options if option not in parsing.options()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_and_extras_in_the_text_exist(page):
    text = page.read_text(encoding="utf-8")
    modules = parsing.modules_run_by(text)
    assert [module for module in modules if not (module.with_suffix(".py").is_file() or module.is_dir())] == []
    assert parsing.extras_in(text) - parsing.extras() == set()


def test_every_page_is_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1].split("hooks:")[0]
    assert {page.name for page in PAGES if page.parent != ROOT} - set(re.findall(r"[\w-]+\.md", nav)) == set()
