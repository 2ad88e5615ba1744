"""Runs the blocks of a page."""

from __future__ import annotations

import importlib.util
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.docs import parsing
from tests.docs.blocks import Block, blocks_of
from tests.docs.stage import Stage

PARSED_ONLY = ("js", "sql", "yaml")  # no program here runs them
ANY = "…"  # in JSON: any value

Namespace = dict[str, Any]


def run_page(page: Path, stage: Stage) -> tuple[Namespace, list[str]]:
    """Runs the blocks of a page in order.

    Returns:
        The names that its Python blocks have defined, and the packages without which some were only parsed.
    """
    namespace: Namespace = {"__name__": "__main__"}
    missing = []
    for block in blocks_of(page):
        lacks = lacking(block)
        missing += lacks
        if block.language == "sh":
            missing += run_commands(block, stage, parse_only=bool(lacks))
        elif block.language == "python":
            missing += run_python(block, stage, namespace, parse_only=bool(lacks))
        elif block.language == "json":
            if not lacks:
                check_shape(block, stage)
        else:
            check_other(block)
    return namespace, sorted({*missing})


def lacking(block: Block, line: str = "") -> list[str]:
    """The packages that are marked for the block, or for this line of it, and are not installed."""
    needed = (block.marked("needs", line) or "").split()
    return [package for package in needed if importlib.util.find_spec(package) is None]


def run_commands(block: Block, stage: Stage, parse_only: bool) -> list[str]:
    """Runs a shell block without the commands that are marked; returns the packages that some of these need."""
    script, missing = [], []
    for command in parsing.commands_of(block.text):
        try:
            parsing.check_command(command)
        except ValueError as error:
            pytest.fail(f"{block.place}: {command}\n{error}")
        lacks = lacking(block, command)
        missing += lacks
        if not lacks and block.marked("parse-only", command) is None:
            script.append(command)
    if script and not parse_only:
        done = stage.run("\n".join(script))
        assert done.returncode == 0, f"{block.place}\n{block.text}\n{done.stdout}\n{done.stderr}"
    return missing


def run_python(block: Block, stage: Stage, namespace: Namespace, parse_only: bool) -> list[str]:
    """Runs a Python block without the lines that are marked, with the names that the blocks before it have defined.

    Returns:
        The packages that lines need which were left out.
    """
    compile(block.text, block.place, "exec")
    lines = stage.filled(block.shortened).splitlines()
    missing = [package for line in lines for package in lacking(block, line)]
    kept = ["" if lacking(block, line) or block.marked("parse-only", line) else line for line in lines]
    padding = "\n" * (block.line - 1)  # so that tracebacks show the page's lines
    if not parse_only and any(kept):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other packages'
            exec(compile(padding + "\n".join(kept), str(block.page), "exec"), namespace)
    return missing


def check_shape(block: Block, stage: Stage) -> None:
    """Compares a JSON block with the first line that the command of its mark prints."""
    command = block.marked("shape of")
    assert command, f"{block.place}: a JSON block says which command prints it"
    done = stage.run(command.strip("`"))
    assert done.returncode == 0, f"{block.place}\n{command}\n{done.stderr}"
    assert shape(json.loads(wildcards(block.text))) == shape(json.loads(done.stdout.splitlines()[0])), block.place


def wildcards(text: str) -> str:
    """JSON in which `{…}`, `[…]` and a bare `…` are the string `…`."""
    return re.sub(r'(?<!")[{[]?…[}\]]?(?!")', f'"{ANY}"', text)


class Anything:
    """Equal to every shape."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return ANY


def shape(value: Any) -> Any:
    """Keys and kinds of values; of a list its first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if value == ANY:
        return Anything()
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def check_other(block: Block) -> None:
    assert block.language in PARSED_ONLY, f"{block.place}: nothing runs {block.language}"
    assert block.marked("parse-only"), f"{block.place}: a mark says why {block.language} is not run"
