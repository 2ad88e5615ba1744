"""The files of a job: numbered parts, each moved into place when it is complete, and a note for a finished shard.

    out/_job.json                                settings.py
    out/part-000017.ndjson                       rows; with --format parquet, .parquet
    out/part-003-of-064-000017.ndjson            the same of shard 3/64
    out/_done.json, out/_done-003-of-064.json    how many rows there are, once the last is written
    out/_damaged-part-000017.ndjson              a part that could not be read; its images are detected again

Readers of a directory of Parquet files, such as pandas and Spark, leave out names that begin with an underscore.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.atomic import atomic_file, write_atomically, writing
from detr_onnx.errors import OutputError
from detr_onnx.jobs.rows import (
    FIELDS,
    MAX_LINE_BYTES,
    Origin,
    Row,
    arrow_schema,
    checked,
    from_line,
    import_pyarrow,
    origin_of,
    to_line,
)
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.jobs.shard import Shard
from detr_onnx.json_input import read_object, whole_numbers
from detr_onnx.text import one_line, printable, reason_of

NDJSON, PARQUET = "ndjson", "parquet"
FORMATS = (NDJSON, PARQUET)
PART = re.compile(r"part-(?:([0-9]{3,})-of-([0-9]{3,})-)?([0-9]{6,})\.(?:ndjson|parquet)")
BATCH_ROWS = 1024
CHUNK_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))  # disk, largest file, quota

logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Part:
    """A part file: shard, number, path."""

    shard: Shard
    number: int
    path: Path


def find_parts(directory: Path, shard: Shard | None = None) -> list[Part]:
    """The parts in a directory, by shard and number; only those of one shard if it is given."""
    named = ((PART.fullmatch(path.name), path) for path in directory.iterdir())
    parts = [Part(Shard(int(m[1] or 0), int(m[2] or 1)), int(m[3]), path) for m, path in named if m]
    return sorted(part for part in parts if shard is None or part.shard == shard)


def part_path(directory: Path, shard: Shard, number: int, form: str) -> Path:
    """Where a part goes."""
    return directory / f"part-{shard.tag}{number:06d}.{form}"


def write_part(path: Path, rows: Sequence[Row], settings: JobSettings) -> None:
    """Writes a part whole, or raises OutputError and leaves nothing."""
    try:
        with atomic_file(path) as file:
            if path.suffix == f".{PARQUET}":
                pa = import_pyarrow()
                table = pa.Table.from_pylist(rows, schema=arrow_schema(settings.metadata(), masks=settings.masks))
                pa.parquet.write_table(table, file, compression="zstd")
            else:
                file.writelines(map(to_line, rows))
    except OSError as error:
        cure = "free some space" if error.errno in FULL else f"check {path.parent}"
        remedy = f"{cure}, and run the same command again: it resumes"
        raise OutputError(f"cannot write {path}", found=reason_of(error), remedy=remedy) from error


def read_part(path: Path) -> Iterator[Row]:
    """The rows of a part, one by one.

    Raises:
        OutputError: it is damaged, or not a part of a job; rows before the damage have been yielded.
    """
    try:
        if path.suffix == f".{PARQUET}":
            yield from _parquet_rows(path)
            return
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                yield from_line(line, printable(str(path)))
    except OSError as error:
        found, remedy = reason_of(error), "allow this user to read it, or move it elsewhere"
        raise OutputError(f"{path} cannot be read", found=found, remedy=remedy) from error


def count_rows(path: Path) -> int:
    """How many rows a part has.

    Raises:
        OutputError: it is damaged.
    """
    try:
        if path.suffix == f".{PARQUET}":
            with import_pyarrow().parquet.ParquetFile(path) as file:
                return int(file.metadata.num_rows)
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise OutputError(f"{path} is damaged", found=one_line(error)[:200]) from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    pa = import_pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if set(names) != set(FIELDS):
                expected = ", ".join(FIELDS)
                raise OutputError(f"{path} has rows of another form", found=", ".join(names)[:200], expected=expected)
            for batch in file.iter_batches(BATCH_ROWS):
                yield from (checked(row, str(path)) for row in batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        found = one_line(error)[:200]
        raise OutputError(f"{path} is damaged", found=found) from error


def done_paths(part: Part, origin: Origin) -> list[tuple[str, bool]]:
    """The path of each row in a part, and whether its image failed. A damaged part is renamed, and has no rows.

    Raises:
        OutputError: it has rows of another model or version, or the system does not let it be read.
    """
    try:
        rows = [(r["path"], r["error"] is not None, origin_of(r)) for r in read_part(part.path)]
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise  # such as no permission: the part may be whole
        aside = part.path.with_name(f"_damaged-{part.path.name}")
        part.path.replace(aside)
        logger.warning("%s; it is now %s, and its images are detected again", error, aside.name)
        return []
    other = next((made_by for _, _, made_by in rows if made_by != origin), None)
    if other is not None:
        different = [name for name, value in origin.fields().items() if getattr(other, name) != value]
        raise OutputError(
            f"{part.path} has rows of another job",
            found=", ".join(f"{name} {getattr(other, name)}" for name in different),
            expected=", ".join(f"{name} {getattr(origin, name)}" for name in different),
            remedy="move it elsewhere, or choose another directory",
        )
    return [(path, failed) for path, failed, _ in rows]


def drop_failed(path: Path, settings: JobSettings) -> None:
    """Takes the rows of failed images out of a part; removes the part if it has no others."""
    rows = [row for row in read_part(path) if row["error"] is None]
    if rows:
        write_part(path, rows, settings)
    else:
        path.unlink()


@dataclass(frozen=True)
class Tally:
    """How many rows a shard has, and how many of them have an error."""

    rows: int = 0
    failed: int = 0


def write_done(directory: Path, shard: Shard, tally: Tally) -> None:
    """Notes that a shard has all its rows."""
    path = done_path(directory, shard)
    with writing(path, "run the same command again"):
        write_atomically(path, json.dumps({"rows": tally.rows, "failed": tally.failed}).encode() + b"\n")


def read_done(directory: Path, shard: Shard) -> Tally | None:
    """The tally of a finished shard; None if it is not finished."""
    try:
        values = read_object(done_path(directory, shard), error=OutputError)
    except OutputError:
        return None
    counts = whole_numbers([values.get("rows"), values.get("failed")])
    return Tally(*counts) if counts is not None else None


def done_path(directory: Path, shard: Shard) -> Path:
    """Where the note that a shard is finished goes."""
    name = f"_done-{shard.tag}".rstrip("-")
    return directory / f"{name}.json"
