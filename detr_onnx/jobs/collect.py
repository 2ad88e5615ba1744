"""The rows of a job in one file, or as the labels that other tools import."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.atomic import atomic_file, writing
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.jobs.file_formats import FILE_FORMATS, ImageNames
from detr_onnx.jobs.label_files import DIRECTORY_FORMATS, write_directory
from detr_onnx.jobs.parts import Part, count_rows, find_parts, read_done, read_part
from detr_onnx.jobs.rows import Row, import_pyarrow
from detr_onnx.jobs.settings import JobSettings, read_settings
from detr_onnx.jobs.shard import Shard

FORMATS = (*FILE_FORMATS, *DIRECTORY_FORMATS)
BY_SUFFIX = {".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".json": "coco", ".csv": "csv"}
PLAIN = ("ndjson", "parquet")  # the rows as they are; the other formats name images as the caller asks
WITH_ERRORS = ("ndjson", "parquet", "csv")  # the other formats leave out images that failed
SHOWN_SHARDS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collection:
    """A job in a directory, whose rows are put together.

    Attributes:
        directory: of the job.
        settings: of the job.
        parts: its files, by shard and number.
    """

    directory: Path
    settings: JobSettings
    parts: list[Part]

    @classmethod
    def of(cls, directory: Path) -> Collection:
        """The collection of a directory; OutputError if there is no job in it."""
        settings = read_settings(directory)
        shards = settings.shards
        return cls(directory, settings, [part for part in find_parts(directory) if part.shard.count == shards])

    def rows(self) -> Iterator[Row]:
        """All rows, part after part; OutputError if one is damaged."""
        for part in self.parts:
            yield from read_part(part.path)

    def shards(self) -> list[Shard]:
        """The shards that the job has."""
        return [Shard(index, self.settings.shards) for index in range(self.settings.shards)]

    def failed(self) -> int:
        """How many images of the finished shards failed."""
        return sum(tally.failed for shard in self.shards() if (tally := read_done(self.directory, shard)))

    def gaps(self) -> list[str]:
        """What is missing, in words: unfinished shards, and shards with fewer or more rows than when they ended."""
        counts: dict[Shard, int] = {}
        for part in self.parts:
            counts[part.shard] = counts.get(part.shard, 0) + count_rows(part.path)
        shards = self.shards()
        done = {shard: read_done(self.directory, shard) for shard in shards}
        unfinished = [str(shard.index) for shard in shards if done[shard] is None]
        gaps = []
        if unfinished and len(shards) == 1:
            gaps.append("an unfinished job")
        elif unfinished:
            more = ", …" if len(unfinished) > SHOWN_SHARDS else ""
            noun = "shard" if len(unfinished) == 1 else "shards"
            gaps.append(f"unfinished {noun} {', '.join(unfinished[:SHOWN_SHARDS])}{more} of {len(shards)}")
        for shard, tally in done.items():
            count = counts.get(shard, 0)
            if tally is not None and tally.rows != count:
                which = f"shard {shard.index}" if len(shards) > 1 else "the job"
                fewer, more = f"{count} of {tally.rows} rows of {which}", f"{count} rows of {which}, which ended with"
                gaps.append(fewer if count < tally.rows else f"{more} {tally.rows}")
        return gaps


def collect(directory: Path, output: Path, form: str | None, names: ImageNames, *, partial: bool = False) -> None:
    """Writes the rows of a job into one file, or as labels into one directory; all of it, or nothing.

    Args:
        directory: of the job.
        output: the file, which is replaced, or the directory, which must be new or empty.
        form: one of `FORMATS`; None for that of the suffix of `output`.
        names: how the labels name their images.
        partial: whether to collect what is there if rows are missing; a warning says what.

    Raises:
        UsageError: there is no such format, the suffix does not say which, or the format does not name images anew.
        OutputError: there is no job, rows are missing, a part is damaged, or nothing can be written.
        BrokenPipeError: the output is a pipe whose reader has closed it.
    """
    form = form or _form_of(output)
    if form in PLAIN and names != ImageNames():
        raise UsageError(f"{form} keeps the paths of the rows", remedy="leave --relative-to and --prefix out")
    collection = Collection.of(directory)
    if _is_directly_in(directory, output):
        raise OutputError(f"cannot write {output}", found="the directory of the job", remedy="choose another path")
    if gaps := collection.gaps():
        if not partial:
            remedy = "run the job again, or add --partial to collect what is there"
            raise OutputError(f"{directory} is not complete", found="; ".join(gaps), remedy=remedy)
        logger.warning("%s is not complete: %s", directory, "; ".join(gaps))
    if form not in WITH_ERRORS and (failed := collection.failed()):
        logger.warning("images that are left out because they failed: %d", failed)
    if form in DIRECTORY_FORMATS:
        write_directory(output, collection.rows, collection.settings, names, DIRECTORY_FORMATS[form])
        return
    if form == "parquet":
        import_pyarrow()
    with writing(output), atomic_file(output) as file:
        FILE_FORMATS[form](file, collection.rows, collection.settings, names)


def _is_directly_in(directory: Path, output: Path) -> bool:
    """Whether the output would be beside the parts, whatever it and the directory are called, also by a link."""
    try:
        return any(file.parent.samefile(directory) for file in (output.absolute(), Path(os.path.realpath(output))))
    except OSError:  # there is no such directory, which writing reports
        return False


def _form_of(output: Path) -> str:
    if output.suffix.lower() not in BY_SUFFIX:
        raise UsageError(
            f"the format of {output} is not known",
            found=f"the suffix {output.suffix!r}" if output.suffix else "no suffix",
            expected=f"{', '.join(BY_SUFFIX)}, or --as {'|'.join(FORMATS)}",
        )
    return BY_SUFFIX[output.suffix.lower()]
