"""A page of Markdown -> its code blocks, each with the marks before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KINDS = ("parse-only", "needs", "shape of", "with")

MARK = re.compile(rf"<!-- test: (?:`(?P<prefix>[^`]+)` )?(?P<kind>{'|'.join(KINDS)})\b[, ]*(?P<text>.*?) *-->")
FENCE = re.compile(r"( *)```(\w*) *$")


@dataclass(frozen=True)
class Mark:
    """What a test may do with a block.

    Attributes:
        kind: one of `KINDS`.
        prefix: how the commands begin that it is about; empty for the whole block.
        text: the reason, the packages or the command.
    """

    kind: str
    prefix: str
    text: str


@dataclass(frozen=True)
class Block:
    """A fenced block and the number of its first line."""

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[Mark, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def shortened(self) -> str:
        """The text with the replacements of its marks."""
        text = self.text
        for mark in (mark for mark in self.marks if mark.kind == "with"):
            new, old = mark.text.strip("`").split("` for `")
            assert text.count(old) == 1, f"{self.place}: {old} is there {text.count(old)} times"
            text = text.replace(old, new)
        return text

    def marked(self, kind: str, command: str = "") -> str | None:
        """The text of the first mark of this kind that is about the command, or about the whole block."""
        about = (mark for mark in self.marks if mark.kind == kind and command.startswith(mark.prefix))
        return next((mark.text for mark in about), None)


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, without those that name no language: diagrams and output."""
    return [block for block in _blocks(page, page.read_text(encoding="utf-8").splitlines()) if block.language]


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    marks: list[Mark] = []
    numbered = enumerate(lines, start=1)
    for number, line in numbered:
        if fence := FENCE.match(line):
            body = _until_closed(numbered, fence[1])
            yield Block(page, number + 1, fence[2], "\n".join(body) + "\n", tuple(marks))
        if line.startswith("<!-- test:"):
            marks.append(_mark(line, f"{page.name}:{number}"))
        elif not line.startswith("<!-- commands:"):
            marks = []


def _until_closed(numbered: Iterator[tuple[int, str]], indent: str) -> Iterator[str]:
    for _, line in numbered:
        if line == f"{indent}```":
            return
        yield line.removeprefix(indent)


def _mark(line: str, place: str) -> Mark:
    mark = MARK.fullmatch(line)
    assert mark, f"{place}: not a mark: {line}"
    assert mark["text"], f"{place}: a mark says why, or what"
    return Mark(mark["kind"], mark["prefix"] or "", mark["text"])
