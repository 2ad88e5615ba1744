"""Text for people: names that stay on one line, tables, numbers to three digits; and JSON arrays of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def printable(text: str) -> str:
    """The text on one line, its control characters spelt out: a file's name cannot steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def is_text(value: object) -> bool:
    """Whether the value is a text that can be written: JSON may hold halves of characters, which UTF-8 cannot."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it has none, as MemoryError."""
    return " ".join(str(error).split()) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Why the system refused, such as "No space left on device"; of other errors, their text on one line."""
    return getattr(error, "strerror", None) or one_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def aligned_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its rows as long as its head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines)


def array_pieces(items: Iterable[str]) -> Iterator[str]:
    """The pieces of a JSON array, one item per line, from JSON texts."""
    separator = "["
    for item in items:
        yield separator + item
        separator = ",\n "
    yield "[]" if separator == "[" else "]"


def short_number(value: float) -> str:
    """A positive number to about three digits: 640, 23.1, 2.35."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, such as "0:07", with hours in front if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
