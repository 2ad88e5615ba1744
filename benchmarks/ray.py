"""Images a second of a job on Ray beside independent shards on the same cores, and what one driver can take.

    pip install 'detr-onnx[ray,export,openvino]'
    python -m benchmarks.ray [--images 24] [--runs 3] [--names 50000]

Three ways of using all cores: one process with all threads, a shard for each core, an actor for each core. Each runs
over a folder of photographs and over one with a photograph for each core; the rate is that of the others, without the
start. Then a job over many names, whose actors answer at once: rows a second that one driver can take, its memory, and
that of the object store.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.command import absent, benchmark_parser, positive, run_main, write_results
from benchmarks.jobs import per_second, without_start
from benchmarks.jobs_memory import resident_mb
from benchmarks.memory import subject_paths
from benchmarks.setting import environment, show
from benchmarks.subject import PHOTOGRAPH_WH
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import setting
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.jobs.parts import count_rows, find_parts
from detr_onnx.jobs.shard import Shard
from detr_onnx.verify.sample_photo import jpeg
from tests.ray.kill import SCRIPT, loaded_script, processes

RUNS, IMAGES, NAMES = 3, 24, 50_000
BLOCK = 4  # small, as there are few photographs; in a long job it makes no difference
CORE_HOUR = 0.0425  # dollars; what large clouds ask for a CPU of a compute instance, on demand
HOSTED = 0.0000075  # dollars an image, of the hosted API
SAMPLE_S = 0.2
FEW = "few"
FEWEST = 5000  # names whose rows are in several parts
FOUND = [
    {"score": 0.9 - number / 20, "label": "cat", "class_id": 17,
     "box": {"xmin": 1.5, "ymin": 2.5, "xmax": 300.5, "ymax": 200.5}}
    for number in range(8)
]  # fmt: skip
"""What the actors find in every image when they answer at once."""


def folder(work: Path, name: str, each: int, cores: int) -> str:
    """A folder of photographs, `each` for each of so many shards; its name is relative to `work`."""
    (work / name).mkdir(parents=True, exist_ok=True)
    for index in range(cores):
        shard = Shard(index, cores)
        names = (f"{name}/{number:04d}.jpg" for number in itertools.count())
        for seed, path in enumerate(itertools.islice(filter(shard.holds, names), each)):
            if not (work / path).exists():
                (work / path).write_bytes(jpeg(*PHOTOGRAPH_WH, seed))
    return name


def programs(arguments: argparse.Namespace, model: str) -> list[Program]:
    """Each contender twice: over all photographs, and over one for each core."""
    cores, work = arguments.threads, arguments.work
    folders = {"": folder(work, f"ray-{arguments.images}", arguments.images // cores, cores)}
    folders[f"-{FEW}"] = folder(work, f"ray-{cores}-{FEW}", 1, cores)
    both = []
    for end, photographs in folders.items():
        options = [photographs, "-m", model, "--engine", arguments.engine, "--format", "parquet", "-o", "ray-out"]
        detect = [sys.executable, "-m", "detr_onnx", "detect", *options, "--threads"]
        script = [sys.executable, str(SCRIPT), *options, "--address", "local", "--block", str(BLOCK), "--threads"]
        shards = [[*detect, "1", "--shard", f"{index}/{cores}"] for index in range(cores)]
        for key, title, commands in (
            ("one", f"`detect -o`, {cores} threads", [[*detect, str(cores)]]),
            ("shards", f"`detect -o --shard`, {cores} processes of 1 thread", shards),
            ("ray", f"Ray, {cores} actors of 1 thread", [[*script, "1", "--actors", str(cores)]]),
        ):
            both.append(Program(f"{key}{end}", title + (f", {FEW}" if end else ""), together(work, commands)))
    return both


def together(work: Path, commands: list[list[str]]) -> tuple[str, ...]:
    """A program that runs the commands at the same time, in a directory without results of earlier ones."""
    code = (
        "import json, shutil, subprocess, sys; shutil.rmtree('ray-out', ignore_errors=True);"
        "sys.exit(max(p.wait() for p in [subprocess.Popen(c) for c in json.loads(sys.argv[1])]))"
    )
    return ("env", "-C", str(work), sys.executable, "-c", code, json.dumps(commands))


def rows(ran: list[Program], images: int, cores: int) -> list[dict[str, Any]]:
    """A row for each contender that ran over both folders."""
    pairs, seconds = without_start(ran, FEW, images - cores)
    return [
        {
            "key": program.key,
            "title": program.title,
            "image_ms": figures(seconds[program.key], 1000),
            "images_per_s": per_second(figures(seconds[program.key], digits=6)["median"]),
            "start_s": figures(few.wall_s),
            "relative_to_shards": ratio(seconds[program.key], seconds["shards"])["median"],
        }
        for program, few in pairs
        if "shards" in seconds and all(second > 0 for second in seconds["shards"])
    ]


# What one driver can take


class Answering:
    """`Detect` without a network: eight detections in every image, at once."""

    def __init__(self, settings: Any, **options: Any) -> None:
        from detr_onnx.jobs.rows import arrow_schema

        self._schema, self._origin = arrow_schema(settings.metadata()), settings.origin.fields()

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        paths = [os.fsdecode(path) for path in batch["path"].to_pylist()]
        row = {"width": 640, "height": 480, "detections": FOUND, "error": None, **self._origin}
        return pa.Table.from_pylist([{"path": path, **row} for path in paths], schema=self._schema)


def driver(names: int, cores: int, directory: Path) -> dict[str, Any]:
    """A job over so many names in this process: rows a second, its memory, and the most that the object store held."""
    listed = directory / "names.txt"
    with listed.open("w") as file:
        file.writelines(f"/data/photographs/{number:012d}.jpg\n" for number in range(names))
    script = loaded_script()
    script.Detect = Answering  # type: ignore[attr-defined]
    store = Store()
    threading.Thread(target=store.watch, daemon=True).start()
    options = ["--threads", "1", "--actors", str(cores), "--engine", "onnxruntime", "--address", "local"]
    status = script.main([f"@{listed}", "-m", "demo", "-o", str(directory / "out"), *options])
    assert status == 0, "the job has failed"
    parts = find_parts(directory / "out")
    assert sum(count_rows(part.path) for part in parts) == names
    first, last = (part.path.stat().st_mtime for part in (parts[0], parts[-1]))
    return {
        "names": names,
        "rows_per_s": round((names - count_rows(parts[0].path)) / (last - first)),
        "object_store_mb": round(store.most / 1e6, 1),
        "resident_mb": round(resident_mb(), 1),
    }


class Store:
    """The most memory that the object store of a cluster of this process has taken: shared pages of its raylet."""

    def __init__(self) -> None:
        self.most = 0

    def watch(self) -> None:
        """Looks again and again."""
        while True:
            self.most = max([self.most, *map(shared_bytes, raylets())])
            time.sleep(SAMPLE_S)


def raylets() -> list[int]:
    """The raylets that this process has started."""
    return [pid for pid, parent, title in processes() if parent == os.getpid() and "/raylet/raylet " in title]


def shared_bytes(pid: int) -> int:
    """The shared memory of a process that is resident; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssShmem")), 0)


def driver_in_a_process(names: int, cores: int, variables: dict[str, str]) -> dict[str, Any]:
    """What `driver` measures, in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; from benchmarks.ray import driver;"
        "outcome = driver(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])); print(json.dumps(outcome))"
    )
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", code, str(names), str(cores), directory]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    outcome: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return outcome


def main() -> None:
    """Measures and writes the results."""
    shared = ("--work", "--model", "--threads")
    parser = benchmark_parser("benchmarks.ray", "Jobs on Ray beside shards.", *shared, results="ray", runs=RUNS)
    parser.add_argument(
        "--images", type=positive, default=IMAGES, metavar="N", help="photographs (default: %(default)s)"
    )
    parser.add_argument("--names", type=positive, default=NAMES, metavar="N", help="of the driver's job (%(default)s)")
    parser.add_argument("--engine", default="auto", help="of all contenders (default: %(default)s)")
    parser.add_argument("--core-hour", type=float, default=CORE_HOUR, metavar="DOLLARS", help="default: %(default)s")
    parser.add_argument("--hosted", type=float, default=HOSTED, metavar="DOLLARS", help="an image (%(default)s)")
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    if arguments.images % arguments.threads or arguments.images <= arguments.threads:
        parser.error("--images must be a multiple of --threads, and more")
    if arguments.names < FEWEST:
        parser.error(f"--names must be {FEWEST} or more")
    head = setting("python -m benchmarks.ray", sys.argv[1:])
    subject = subject_paths(arguments.work, arguments.model)
    model = str(Path(subject["model"]).absolute())
    variables = environment(arguments.work, arguments.threads)
    variables |= {"PYTHONPATH": str(SCRIPT.parents[2]), "RAY_USAGE_STATS_ENABLED": "0"}
    variables.pop("RAY_ADDRESS", None)
    ran, left_out = run_in_turns(programs(arguments, model), arguments.runs, variables, show)
    results = {
        **head,
        "model": subject["title"],
        "engine": arguments.engine,
        "threads": arguments.threads,
        "runs": arguments.runs,
        "images": arguments.images,
        "core_hour_dollars": arguments.core_hour,
        "hosted_dollars": arguments.hosted,
        "rows": rows(ran, arguments.images, arguments.threads),
        "driver": driver_in_a_process(arguments.names, arguments.threads, variables),
        "left_out": absent(left_out),
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
