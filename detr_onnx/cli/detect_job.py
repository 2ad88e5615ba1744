"""`detr-onnx detect IMAGES… -o DIR`: a job that writes rows to a directory and can be resumed."""

from __future__ import annotations

import logging
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.arguments import check_threshold, checked_number
from detr_onnx.cli.console import STDOUT, print_error
from detr_onnx.cli.interrupts import stop_on_signals
from detr_onnx.cli.job_progress import job_progress
from detr_onnx.cli.options import DEMO_NOTE, chosen_labels, given_options, open_detector
from detr_onnx.defaults import DEFAULT_MODEL, DEMOS, JOB_PART_ROWS
from detr_onnx.errors import UsageError
from detr_onnx.paths import exists

if TYPE_CHECKING:
    from detr_onnx.detector import Detector
    from detr_onnx.jobs.job import Job
    from detr_onnx.jobs.parts import Tally

PARQUET = "parquet"  # a format that only jobs have

logger = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """The options of a job."""
    job = parser.add_argument_group(
        "jobs", "any number of images, also @LIST.txt, @LIST.parquet:COLUMN and .tar files; see docs/jobs.md"
    )
    job.add_argument(
        "-o", "--output", metavar="DIR",
        help="write a row for each image to numbered files in this directory (ndjson or parquet); run the same command "
        "again to resume. Failed images are rows with an error; the exit status is still 0",
    )  # fmt: skip
    job.add_argument("--shard", metavar="K/N", help="process only share K of N of the images; K counts from 0")
    job.add_argument(
        "--batch-files", type=int, metavar="N", help=f"images in one of the numbered files (default: {JOB_PART_ROWS})"
    )
    job.add_argument("--retry", action="store_true", help="process failed images again")


def is_job(arguments: Namespace) -> bool:
    """Whether the arguments describe a job: whether -o is given.

    Raises:
        UsageError: there are options that only a job has, or that a job does not have.
    """
    if arguments.output is None:
        lists = [argument for argument in arguments.images if argument.startswith("@") and not exists(argument)]
        if lists:
            raise UsageError(f"the list {lists[0]} can be used only with -o", remedy="add -o DIR")
        for option in given_options(arguments, add_arguments):
            raise UsageError(f"{option} can be used only with -o", remedy="add -o DIR")
        if arguments.format == PARQUET:
            raise UsageError("--format parquet can be used only with -o", remedy="add -o DIR")
        return False
    if arguments.save is not None or arguments.annotations is not None:
        option = "--save" if arguments.save is not None else "--annotations"
        raise UsageError(f"{option} cannot be used with -o", remedy="leave one of them out")
    if arguments.output in ("", STDOUT):
        remedy = "name a directory, or leave -o out for results on stdout"
        raise UsageError("-o needs a directory", found=repr(arguments.output), remedy=remedy)
    return True


def run(arguments: Namespace) -> int:
    """Runs the job; the exit status is 1 if an argument names no image. A failed image has a row with its error."""
    job, detector = open_job(arguments)
    return run_job(job, lambda show, must_stop: job.run(detector, show=show, must_stop=must_stop))


def open_job(arguments: Namespace) -> tuple[Job, Detector]:
    """The job that the arguments describe, and the detector of its settings."""
    from detr_onnx.jobs.inputs import Inputs
    from detr_onnx.jobs.job import Job
    from detr_onnx.jobs.parts import FORMATS, NDJSON
    from detr_onnx.jobs.rows import import_pyarrow
    from detr_onnx.jobs.settings import JobSettings
    from detr_onnx.jobs.shard import Shard

    check_threshold(arguments.threshold)
    form = arguments.format or NDJSON
    if form not in FORMATS:
        raise UsageError(f"-o cannot write --format {form}", expected=" or ".join(FORMATS))
    part_rows = JOB_PART_ROWS if arguments.batch_files is None else arguments.batch_files
    checked_number("--batch-files", part_rows, "1 or more")
    if form == PARQUET:
        import_pyarrow()
    shard = Shard.parse(arguments.shard) if arguments.shard is not None else Shard()
    inputs = Inputs(arguments.images, shard)
    detector = open_detector(arguments)
    if arguments.model in DEMOS:
        logger.warning(DEMO_NOTE, DEFAULT_MODEL)
    labels = chosen_labels(arguments, detector)
    settings = JobSettings.of(detector, arguments.model, arguments.threshold, labels, form, shard.count)
    return Job(Path(arguments.output), inputs, settings, part_rows, arguments.retry), detector


def run_job(job: Job, run: Callable[[Callable[[Tally], None], Callable[[], bool]], Tally]) -> int:
    """Runs a job with progress on a terminal, until its end or a signal, and reports; returns the exit status.

    Args:
        job: what is run.
        run: runs it, with the `show` and `must_stop` of `Job.run`.
    """
    with stop_on_signals() as stopped, job_progress(job.inputs) as show:
        tally = run(show, lambda: bool(stopped))
    for problem in job.inputs.problems:
        print_error(problem)
    _report(tally, str(job.directory))
    if stopped:
        return 128 + stopped[0]
    return 1 if job.inputs.problems else 0


def _report(tally: Tally, directory: str) -> None:
    """One line about what is in the directory; a warning if images failed."""
    rows = f"{tally.rows} images in {os.path.join(directory, '')}"  # noqa: PTH118 - ends with a slash
    if tally.failed:
        logger.warning("%s, %d of them failed: see their field error", rows, tally.failed)
    else:
        logger.info("%s", rows)
