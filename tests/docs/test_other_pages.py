"""Pages whose commands are not run, since they take hours, other programs or the network: their options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import parsing
from tests.docs.blocks import ROOT, blocks_of

NAMES = ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "weights/README.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "examples").glob("*/README.md"))]
SHARED = ROOT / "benchmarks" / "command.py"  # defines options that most benchmarks have
PROGRAM = re.compile(r"python (?:-m ((?:benchmarks|tests|export)[\w.]*)|((?:weights|examples|export)/[\w/]+\.py))(.*)")


def modules(page: Path) -> list[tuple[Path, str]]:
    """The programs of this repository in the blocks of a page, each with the rest of its line."""
    lines = [line for block in blocks_of(page) for line in parsing.commands_of(block.text)]
    found = [match.groups() for line in lines for match in PROGRAM.finditer(line)]
    return [(ROOT / (script or module.replace(".", "/")), rest) for module, script, rest in found]


def options_of(program: Path) -> set[str]:
    """The options that the source of a program, or of a package with `__main__.py`, defines."""
    own = program / "__main__.py" if program.is_dir() else program.with_suffix(".py")
    return {option for file in (own, SHARED) for option in re.findall(r'"(--[a-z][\w-]*)"', file.read_text("utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_and_extras_in_the_blocks_exist(page):
    for block in blocks_of(page):
        for line in parsing.commands_of(block.text):
            parsing.check_command(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_options_of_programs_in_the_blocks_exist(page):
    named = {
        (program.name, option)
        for program, rest in modules(page)
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", rest.split("#")[0])
        if option not in options_of(program)
    }
    assert named == set()


def test_the_blocks_name_programs():
    assert {page.parent.name for page in PAGES if modules(page)} >= {"benchmarks", "weights", ROOT.name, "browser"}
