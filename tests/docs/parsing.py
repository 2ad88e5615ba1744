"""What can be told about a command without running it: does it parse, do its extras exist."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from detr_onnx.cli.main import argument_parser
from tests.docs.blocks import ROOT

OPERATORS = re.compile(r"[;&|<>()]+")


def commands_of(script: str) -> list[str]:
    """The commands of a script, one a line; a line that ends with a backslash goes on."""
    lines = script.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def check_command(line: str) -> None:
    """Raises ValueError if a program of this line, of those that are known here, would refuse its arguments."""
    for words in _programs(line):
        name = words[0].rsplit("/", 1)[-1]
        if check := CHECKS.get(name):
            check(words[1:])
        elif words[:2] == ["python", "detect.py"]:
            _parse_ray_script(words[2:])


def check_extras(arguments: Sequence[str]) -> None:
    """Raises ValueError if pip was to install an extra that pyproject.toml does not have."""
    named = {extra for word in arguments for extra in extras_in(word)}
    if unknown := named - extras():
        raise ValueError(f"no such extra: {', '.join(sorted(unknown))}")


def extras_in(text: str) -> set[str]:
    """`{"serve", "eval"}` for `detr-onnx[serve,eval]`."""
    found = re.findall(r"(?:detr-onnx|(?<![\w/])\.)\[([\w,]+)\]", text)
    return {extra for group in found for extra in group.split(",")}


@cache
def extras() -> frozenset[str]:
    """The keys of [project.optional-dependencies]."""
    toml = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = toml.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return frozenset(re.findall(r"^(\w+) = \[", section, re.MULTILINE))


@cache
def options() -> frozenset[str]:
    """Every option of every command."""
    parser = argument_parser()
    commands = next(action for action in parser._actions if action.dest == "command").choices
    known = (text for command in commands.values() for action in command._actions for text in action.option_strings)
    return frozenset(known)


def commands() -> set[str]:
    return set(next(action for action in argument_parser()._actions if action.dest == "command").choices)


def _programs(line: str) -> list[list[str]]:
    """The words of each program of a line, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    programs: list[list[str]] = [[]]
    tokens = iter(lexer)
    for token in tokens:
        if not OPERATORS.fullmatch(token):
            programs[-1].append(token)
        elif token in (">", ">>", "<"):
            next(tokens)
        else:
            programs.append([])
    return [words for words in programs if words]


def _parse(words: Sequence[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            argument_parser().parse_args(words)
    except SystemExit as refused:
        raise ValueError(said.getvalue().strip().splitlines()[-1]) from refused


def _parse_wrapped(words: Sequence[str]) -> None:
    """The command that Slurm's sbatch gets in quotes."""
    check_command(words[words.index("--wrap") + 1])


def _parse_ray_script(words: Sequence[str]) -> None:
    from tests.ray.kill import loaded_script  # needs the extra `parquet`

    try:
        loaded_script().parser().parse_args(words)
    except SystemExit as refused:
        raise ValueError(f"examples/ray/detect.py does not take {words}") from refused


CHECKS: dict[str, Callable[[Sequence[str]], None]] = {
    "detr-onnx": _parse,
    "pip": check_extras,
    "sbatch": _parse_wrapped,
}


def modules_run_by(text: str) -> list[Path]:
    """The files that `python -m benchmarks.x` and the like in a text would run."""
    found = re.findall(r"python -m ((?:benchmarks|tests|export)(?:\.\w+)*)", text)
    return [ROOT / name.replace(".", "/") for name in found]
