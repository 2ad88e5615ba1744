"""A job from its first input to its last, or from where it was cut off."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.defaults import JOB_PART_ROWS
from detr_onnx.errors import OutputError
from detr_onnx.jobs.detect import detect_rows
from detr_onnx.jobs.directory import make_directory, only_process
from detr_onnx.jobs.inputs import Input, Inputs
from detr_onnx.jobs.parts import (
    Tally,
    done_path,
    done_paths,
    drop_failed,
    find_parts,
    part_path,
    write_done,
    write_part,
)
from detr_onnx.jobs.rows import Row
from detr_onnx.jobs.seen import Seen, open_seen
from detr_onnx.jobs.settings import JobSettings, write_or_compare
from detr_onnx.text import reason_of

if TYPE_CHECKING:
    from detr_onnx.detector import Detector


@dataclass(frozen=True)
class Job:
    """A job: a shard of the inputs, and where its rows go.

    Attributes:
        directory: of the parts; created if it does not exist.
        inputs: what to detect in, and the shard.
        settings: what the rows depend on; see `JobSettings.of`.
        part_rows: rows of a part. A process that is killed loses at most the rows of one unfinished part.
        retry: whether to take the rows of failed images out of the parts, so that they are detected again.
    """

    directory: Path
    inputs: Inputs
    settings: JobSettings
    part_rows: int = JOB_PART_ROWS
    retry: bool = False

    def run(
        self,
        detector: Detector,
        *,
        show: Callable[[Tally], None] = lambda tally: None,
        must_stop: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Detects in all inputs that have no row yet.

        Args:
            detector: what the settings describe.
            show: is called with the tally before the first image and after each.
            must_stop: is called before each image; once it returns True, the rows so far are written, and the job ends.

        Returns:
            The tally of all rows, those of earlier runs included.

        Raises:
            OutputError: the directory has another job, another process works on the shard, or nothing can be written;
                the parts that were written are complete.
        """

        def rows_of(inputs: Iterator[Input]) -> Generator[Row, None, None]:
            return detect_rows(detector, inputs, self.settings.threshold, self.settings.labels)

        return self.run_elsewhere(rows_of, show=show, must_stop=must_stop)

    def run_elsewhere(
        self,
        rows_of: Callable[[Iterator[Input]], Generator[Row, None, None]],
        *,
        show: Callable[[Tally], None] = lambda tally: None,
        must_stop: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Runs the job with rows that are made elsewhere, such as on a cluster; the rest is as in `run`.

        Args:
            rows_of: returns a generator of one row for each input, in any order, which is closed at the end.
        """
        make_directory(self.directory)
        with only_process(self.directory, self.inputs.shard), open_seen() as seen:
            try:
                write_or_compare(self.directory, self.settings)
                done_path(self.directory, self.inputs.shard).unlink(missing_ok=True)
                tally, number = self._read_parts(seen, must_stop)
            except OSError as error:
                found = reason_of(error)
                raise OutputError(
                    f"cannot use {self.directory}", found=found, remedy="choose another directory"
                ) from error
            show(tally)
            inputs = _until(must_stop, self.inputs.read(seen.add))
            with closing(rows_of(inputs)) as rows:
                tally = self._write(rows, tally, number, show)
            if not must_stop() and not self.inputs.problems:  # an argument without images may be a typing error
                write_done(self.directory, self.inputs.shard, tally)
        return tally

    def _read_parts(self, seen: Seen, must_stop: Callable[[], bool]) -> tuple[Tally, int]:
        """Adds the paths of all rows of earlier runs to `seen`; returns their tally and the number of the next part."""
        tally, number = Tally(), 0
        for part in find_parts(self.directory, self.inputs.shard):
            if must_stop():  # the rows are counted in part only, which does not matter: nothing will be detected
                break
            number = part.number + 1
            rows = done_paths(part, self.settings.origin)
            if self.retry and any(failed for _, failed in rows):
                drop_failed(part.path, self.settings)
                rows = [(path, failed) for path, failed in rows if not failed]
            for path, failed in rows:
                if not seen.add(path):
                    raise OutputError(f"{part.path} has a second row of {path}", remedy="move the part elsewhere")
                tally = Tally(tally.rows + 1, tally.failed + failed)
        return tally, number

    def _write(self, rows: Iterator[Row], tally: Tally, number: int, show: Callable[[Tally], None]) -> Tally:
        """Writes the rows in parts; if the job is interrupted, the rows of the unfinished part, too."""
        part: list[Row] = []
        path = part_path(self.directory, self.inputs.shard, number, self.settings.format)
        try:
            for row in rows:
                part.append(row)
                tally = Tally(tally.rows + 1, tally.failed + (row["error"] is not None))
                show(tally)
                if len(part) == self.part_rows:
                    write_part(path, part, self.settings)
                    part, number = [], number + 1
                    path = part_path(self.directory, self.inputs.shard, number, self.settings.format)
        except OutputError:
            raise
        except BaseException:
            if part:
                write_part(path, part, self.settings)
            raise
        if part:
            write_part(path, part, self.settings)
        return tally


def _until(must_stop: Callable[[], bool], inputs: Generator[Input, None, None]) -> Iterator[Input]:
    """The inputs, until the job has to stop."""
    with closing(inputs):
        for item in inputs:
            if must_stop():
                return
            yield item
