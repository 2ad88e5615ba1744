"""Kills `detr-onnx detect -o` at random moments until the job is done, and compares its rows with an undisturbed run's.

    python -m tests.jobs.kill [--count 100] [--images 2000] [--seed 0] [--format parquet] [--results FILE]

Each process is sent SIGKILL after a random time, also while it starts, reads its parts or writes one. After each kill
every part must be whole. If a job is done before the last kill, another begins in a new directory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detr_onnx.bench.setting import setting
from detr_onnx.errors import OutputError
from detr_onnx.jobs.parts import find_parts, read_done, read_part
from detr_onnx.jobs.shard import Shard
from tests.cli.command_line import ROOT
from tests.jobs.test_inputs import write_tar
from tests.small_model import sample_image

PART_ROWS = 7
BAD = {3: b"", 11: b"not an image", 17: None, 23: b"\xff\xd8\xff\xe0 cut"}  # by number modulo 50; None is a dead link
OPTIONS = ("--engine", "onnxruntime", "--threads", "1", "--size", "64", "--threshold", "0.3")


@dataclass
class Report:
    """What happened.

    Attributes:
        kills: how many processes were killed.
        moments: what was there when they were: how many were starting, detecting, or had just ended by themselves.
        jobs: how many jobs were finished.
        faults: what was wrong; there should be none.
    """

    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    faults: list[str] = field(default_factory=list)


def write_inputs(directory: Path, count: int) -> list[str]:
    """Images in a directory and in a tar file, with bad ones among them, and a list; returns the arguments."""
    photos, in_tar = directory / "photos", {}
    photos.mkdir()
    for number in range(count):
        content = BAD.get(number % 50, b"good")
        name = f"{number:05d}.jpg" if number % 97 else f"new\nline-{number}.jpg"
        path = photos / name
        if content is None:
            path.symlink_to("nothing.jpg")
        elif content == b"good":
            sample_image(64 + number % 40, 48 + number % 30, number).save(path, "JPEG")
        else:
            path.write_bytes(content)
        if number % 10 == 0:
            in_tar[name] = path.read_bytes()
            path.unlink()
    write_tar(str(directory / "shard-0.tar"), in_tar)
    (directory / "list.txt").write_text("photos/00001.jpg\nphotos/missing.jpg\nphotos/00001.jpg\n")
    return ["photos", "shard-0.tar", "@list.txt"]


def start(directory: Path, arguments: list[str], out: str, form: str, model: str) -> subprocess.Popen[bytes]:
    """The command as a process."""
    command = [sys.executable, "-m", "detr_onnx", "detect", *arguments, "-m", model, *OPTIONS, "-o", out]
    options = ["--format", form, "--batch-files", str(PART_ROWS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *options], cwd=directory, env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a job; RuntimeError if it is not a good one."""
    _, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the job ended with {process.returncode}: {err.decode()}")


def rows_in(out: Path) -> list[dict[str, Any]]:
    """The rows of all parts; OutputError if one is torn."""
    return [row for part in find_parts(out) for row in read_part(part.path)] if out.is_dir() else []


def check(out: Path, expected: list[dict[str, Any]], report: Report) -> None:
    """Notes what differs from the rows of an undisturbed run."""
    rows = rows_in(out)
    twice = [path for path, count in Counter(row["path"] for row in rows).items() if count > 1]
    if twice:
        report.faults.append(f"{len(twice)} paths have several rows, such as {twice[0]!r}")
    if sorted(rows, key=lambda row: row["path"]) != expected:
        report.faults.append(f"{len(rows)} rows differ from the {len(expected)} of an undisturbed run")
    if (done := read_done(out, Shard())) is None or done.rows != len(expected):
        report.faults.append("the note of the end is missing or wrong")
    drafts = [path.name for path in out.iterdir() if path.name.endswith(".part") or "damaged" in path.name]
    if drafts:
        report.faults.append(f"left behind: {drafts}")


def run(count: int, images: int, seed: int, form: str, model: str, directory: Path) -> Report:
    """Kills `count` processes in a directory that is empty before."""
    random_ = random.Random(seed)
    arguments = write_inputs(directory, images)
    begun = time.monotonic()
    finish(start(directory, arguments, "undisturbed", form, model))
    undisturbed_s = time.monotonic() - begun
    expected = sorted(rows_in(directory / "undisturbed"), key=lambda row: row["path"])
    begun = time.monotonic()
    finish(start(directory, arguments, "undisturbed", form, model))  # nothing to do: how long it takes to start
    start_s = time.monotonic() - begun
    slice_s = 2 * max(0.0, undisturbed_s - start_s) / count
    report = Report()
    while report.kills < count:
        out = f"out-{report.jobs}"
        while report.kills < count and read_done(directory / out, Shard()) is None:
            before = len(rows_in(directory / out))
            process = start(directory, arguments, out, form, model)
            time.sleep(random_.uniform(0, start_s + 2 * slice_s))
            process.kill()
            process.communicate()
            report.kills += 1
            _note(report, directory / out, before, process.returncode)
        finish(start(directory, arguments, out, form, model))
        check(directory / out, expected, report)
        report.jobs += 1
    return report


def _note(report: Report, out: Path, before: int, returncode: int) -> None:
    """Notes when a process was killed, and whether it left a torn part."""
    try:
        after = len(rows_in(out))
    except OutputError as error:
        report.faults.append(str(error))
        return
    if after < before:
        report.faults.append(f"rows were lost: {before} before, {after} after")
    drafts = out.is_dir() and any(path.name.endswith(".part") for path in out.iterdir())
    moment = "after its end" if returncode == 0 else "writing" if drafts else "detecting" if after > before else ""
    report.moments[moment or "starting or in its first part"] += 1


def main() -> int:
    """Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.kill", description="Kills jobs at random moments.")
    parser.add_argument("--count", type=int, default=100, help="kills (default: %(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="images of the job (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--format", choices=("ndjson", "parquet"), default="ndjson")
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--results", type=Path, metavar="FILE", help="adds the outcome to this JSON file")
    arguments = parser.parse_args()
    head = setting("python -m tests.jobs.kill", sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        report = run(
            arguments.count, arguments.images, arguments.seed, arguments.format, arguments.model, Path(directory)
        )
    outcome = {
        **head,
        "kills": report.kills, "images": arguments.images, "seed": arguments.seed, "model": arguments.model,
        "moments": dict(report.moments), "jobs": report.jobs, "faults": report.faults,
    }  # fmt: skip
    print(json.dumps(outcome))
    if arguments.results is not None:
        results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
        arguments.results.write_text(json.dumps(results | {arguments.format: outcome}, indent=1) + "\n")
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
