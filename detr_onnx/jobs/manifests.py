"""Lists of paths: a text file, stdin, NDJSON, or a column of a Parquet file; read in bounded memory.

A text file has one path per line; its bytes are those of the file names, whatever their encoding. A path that contains
a newline, or begins with a double quote, is written as a JSON string. A file with a NUL byte near its start is the
output of `find -print0`, in which nothing is quoted. On Windows, where names are text, lists are UTF-8.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from detr_onnx.errors import DatasetError
from detr_onnx.jobs.rows import import_pyarrow
from detr_onnx.json_input import parse_json
from detr_onnx.text import one_line, reason_of

STDIN = "-"
PARQUET, NDJSON = (".parquet", ".pq"), (".ndjson", ".jsonl")
COLUMN = "path"
TEXT_TYPES = ("string", "large_string", "string_view")  # of Arrow
MAX_LINE_BYTES = 1 << 16
SAMPLE_BYTES = 1 << 16
BATCH_ROWS = 4096
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what `>` writes in Windows PowerShell


@dataclass(frozen=True)
class Manifest:
    """A list of paths.

    Attributes:
        file: where it is, or "-" for stdin.
        column: of Parquet and of the objects in NDJSON; unused for text.
    """

    file: str
    column: str = COLUMN

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """The list of an argument without its @, such as "list.txt" or "list.parquet:column".

        Raises:
            DatasetError: it cannot be read, or has no such column.
        """
        if not text:
            raise DatasetError("@ names no list of paths", expected="a file, such as @list.txt, or @- for stdin")
        name, colon, column = text.rpartition(":")
        has_column = bool(colon and column) and name.lower().endswith((*PARQUET, *NDJSON))
        manifest = cls(name, column) if has_column else cls(text)
        manifest._check()
        return manifest

    @property
    def is_stdin(self) -> bool:
        """Whether the list comes from stdin."""
        return self.file == STDIN

    @property
    def is_read_once(self) -> bool:
        """Whether the list can be read only once: stdin, or a pipe, such as `@<(find photos)` in a shell."""
        if self.is_stdin:
            return True
        try:
            mode = os.stat(self.file).st_mode  # noqa: PTH116 - the name may be too long for a path
        except (OSError, ValueError):
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    def names(self) -> Iterator[str]:
        """The paths, in turn.

        Raises:
            DatasetError: the list is damaged.
        """
        if self.file.lower().endswith(PARQUET):
            yield from self._column()
            return
        with contextlib.nullcontext(_stdin(self)) if self.is_stdin else self._opened() as file:
            yield from _lines(file, self)

    def error(self, found: str, expected: str | None = "one path per line") -> DatasetError:
        """What is wrong with the list."""
        return DatasetError(f"the list {self.file} cannot be read", found=found, expected=expected)

    def _opened(self) -> BinaryIO:
        try:
            return Path(self.file).open("rb")
        except (OSError, ValueError) as error:
            raise self.error(reason_of(error)) from error

    def _check(self) -> None:
        """Raises the errors that can be known before the first path is read."""
        if self.file.lower().endswith(PARQUET):
            self._parquet().close()
        elif not self.is_read_once:  # opening and closing a pipe would end the program that writes into it
            self._opened().close()

    def _parquet(self) -> Any:
        """The opened Parquet file, whose column is known to be there and to be text."""
        pa = import_pyarrow()
        try:
            file = pa.parquet.ParquetFile(self.file)
        except (OSError, pa.ArrowException) as error:
            found = "no such file" if isinstance(error, FileNotFoundError) else one_line(error)[:200]
            raise self.error(found, expected="a Parquet file") from error
        names = file.schema_arrow.names
        kind = file.schema_arrow.field(self.column).type if names.count(self.column) == 1 else None
        if kind is not None and pa.types.is_dictionary(kind):
            kind = kind.value_type
        if str(kind) not in TEXT_TYPES:
            file.close()
            found = f"the columns {', '.join(names)}" if kind is None else f"the type {kind}"
            raise self.error(found[:300], expected=f"a column {self.column!r} of texts; name it as @{self.file}:COLUMN")
        return file

    def _column(self) -> Iterator[str]:
        with self._parquet() as file:
            try:
                for batch in file.iter_batches(BATCH_ROWS, columns=[self.column]):
                    yield from (name for name in batch.column(0).to_pylist() if name)
            except UnicodeDecodeError as error:
                found = f"{error.object[:100]!r} in the column {self.column!r}"
                raise self.error(found, expected="UTF-8") from error
            except (OSError, import_pyarrow().ArrowException) as error:
                raise self.error(one_line(error)[:200], expected="a Parquet file") from error


def _stdin(manifest: Manifest) -> BinaryIO:
    if sys.stdin is None:
        raise manifest.error("a closed stdin")
    return sys.stdin.buffer


def _lines(file: BinaryIO, manifest: Manifest) -> Iterator[str]:
    """The paths of a text file, of stdin, or of NDJSON."""
    head = file.peek(SAMPLE_BYTES)[:SAMPLE_BYTES] if isinstance(file, io.BufferedReader) else b""
    if head.startswith(UTF_16):
        raise manifest.error("UTF-16", "UTF-8, which PowerShell writes with `| Out-File -Encoding utf8 list.txt`")
    is_ndjson = manifest.file.lower().endswith(NDJSON)
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and b"\0" in head + line:  # a slow pipe may not have filled `head` up to the first
            yield from _until_nul(file, manifest, line)
            return
        if len(line) > MAX_LINE_BYTES:
            raise manifest.error(f"a line of more than {MAX_LINE_BYTES} bytes")
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text:
            yield _json_path(text, manifest, number) if is_ndjson or text.startswith(b'"') else _decoded(text, manifest)


def _json_path(text: bytes, manifest: Manifest, number: int) -> str:
    """The path in a line that is a JSON string, or an object with the column."""
    value = parse_json(text, f"line {number} of {manifest.file}", error=DatasetError)
    path = value.get(manifest.column) if isinstance(value, dict) else value
    if not isinstance(path, str):
        found = json.dumps(value)[:100]
        raise manifest.error(f"line {number}: {found}", f"a path, or an object with {manifest.column!r}")
    return path


def _until_nul(file: BinaryIO, manifest: Manifest, start: bytes) -> Iterator[str]:
    """The paths of a file in which each ends with a NUL byte; `start` has been read already."""
    rest = b""
    for chunk in itertools.chain([start], iter(lambda: file.read(SAMPLE_BYTES), b"")):
        *paths, rest = (rest + chunk).split(b"\0")
        if len(rest) > MAX_LINE_BYTES:
            raise manifest.error(f"a path of more than {MAX_LINE_BYTES} bytes")
        yield from (_decoded(path, manifest) for path in paths if path)
    if rest:
        yield _decoded(rest, manifest)


def _decoded(path: bytes, manifest: Manifest) -> str:
    try:
        return os.fsdecode(path)
    except UnicodeDecodeError as error:  # on Windows; elsewhere names may have any bytes
        raise manifest.error(f"{path[:100]!r}", "UTF-8") from error
