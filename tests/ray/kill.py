"""Kills actors, nodes and the driver of a job on a Ray cluster of three nodes; its rows must be those of `detect -o`.

    python -m tests.ray.kill [--count 24] [--images 5000] [--seed 0] [--results benchmarks/results/ray-kill.json]

The nodes are processes of this machine, each with a raylet of its own. All are sent SIGKILL: an actor is replaced by
Ray, a node is replaced by this program, a killed driver is started again. If a job is done before the last kill,
another begins in a new directory.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from detr_onnx.bench.setting import setting
from detr_onnx.jobs.parts import find_parts, read_done
from detr_onnx.jobs.shard import Shard
from tests.cli.command_line import ROOT
from tests.jobs.kill import finish, rows_in, write_inputs

SCRIPT = ROOT / "examples" / "ray" / "detect.py"
KINDS = ("actor", "node", "driver")
NODES, CPUS = 3, 1  # CPUs of a node, as Ray counts them
PART_ROWS, BLOCK = 50, 8
SIZE = 64  # of the short side: small images, many of them
OPTIONS = ("--engine", "onnxruntime", "--threads", "1", "--threshold", "0.3", "--format", "parquet")
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 6}
"""How soon Ray takes a node for dead: seconds, where its default is half a minute."""
UNTIL_ROWS_S = 60.0  # that a driver may take until its first rows


def loaded_script() -> ModuleType:
    """`examples/ray/detect.py` as a module."""
    spec = importlib.util.spec_from_file_location("ray_detect_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Report:
    """What happened: kills by kind, jobs that were finished, and what was wrong, which should be nothing."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    restarts: int = 0
    faults: list[str] = field(default_factory=list)


class Nodes:
    """A cluster on this machine."""

    def __init__(self, count: int = NODES) -> None:
        from ray.cluster_utils import Cluster

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.cluster = Cluster(initialize_head=True, head_node_args={**self._options(), "_system_config": SOON})
        for _ in range(count - 1):
            self.cluster.add_node(**self._options())
        self.cluster.wait_for_nodes()

    @staticmethod
    def _options() -> dict[str, Any]:
        return {"num_cpus": CPUS, "object_store_memory": 100_000_000, "include_dashboard": False}

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def actors(self) -> list[int]:
        """The processes that detect."""
        raylets = {info.process.pid for node in self._nodes() for info in node.all_processes["raylet"]}
        return [pid for pid, parent, title in processes() if parent in raylets and title.startswith("ray::MapWorker")]

    def replace_one(self, random_: random.Random) -> None:
        """Kills a node other than the driver's, with all that is on it, and adds another."""
        node = random_.choice(sorted(self.cluster.worker_nodes, key=lambda node: node.node_id))
        self.cluster.remove_node(node, allow_graceful=False)
        self.cluster.add_node(**self._options())

    def stop(self) -> None:
        self.cluster.shutdown()

    def _nodes(self) -> list[Any]:
        return [self.cluster.head_node, *self.cluster.worker_nodes]


def processes() -> list[tuple[int, int, str]]:
    """Id, parent's id and title of all processes that can be read."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            title = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if directory.name.isdecimal():
            found.append((int(directory.name), parent, title))
    return found


def start(
    directory: Path, arguments: list[str], out: str, model: str, *cluster: str, size: int | None = SIZE
) -> subprocess.Popen[bytes]:
    """The job as a process: on the cluster if its address is given, else by `detr-onnx detect`."""
    program = [str(SCRIPT), "--block", str(BLOCK), "--address", *cluster] if cluster else ["-m", "detr_onnx", "detect"]
    command = [sys.executable, *program, *arguments, "-m", model, *OPTIONS, "-o", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    more = ["--batch-files", str(PART_ROWS), *([] if size is None else ["--size", str(size)])]
    return subprocess.Popen([*command, *more], cwd=directory, env=environment, stderr=subprocess.PIPE)


def run(count: int, images: int, seed: int, model: str, directory: Path) -> Report:
    """Kills `count` processes or nodes in a directory that is empty before."""
    random_ = random.Random(seed)
    photos = [name for name in write_inputs(directory, images) if not name.endswith(".tar")]
    finish(start(directory, photos, "undisturbed", model))
    expected = by_path(rows_in(directory / "undisturbed"))
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    random_.shuffle(kinds)
    nodes, report = Nodes(), Report()
    try:
        while kinds:
            out = directory / f"out-{report.jobs}"
            _one_job(nodes, directory, photos, out, model, kinds, random_, report)
            check(out, expected, report)
            report.jobs += 1
    finally:
        nodes.stop()
    return report


def _one_job(
    nodes: Nodes, directory: Path, photos: list[str], out: Path, model: str,
    kinds: list[str], random_: random.Random, report: Report,
) -> None:  # fmt: skip
    """Runs a job to its end, with a kill after each few parts while there are kinds left."""
    process = start(directory, photos, out.name, model, nodes.address)
    while kinds and more_parts(process, out, random_.randint(1, 8)):
        time.sleep(random_.uniform(0, 0.5))
        kind = kinds[-1]
        if kind == "driver":
            process.kill()
            process.communicate()
        elif kind == "node":
            nodes.replace_one(random_)
        elif actors := nodes.actors():
            os.kill(random_.choice(actors), signal.SIGKILL)
        else:
            continue
        kinds.pop()
        report.kills[kind] += 1
        if kind == "driver":
            process = start(directory, photos, out.name, model, nodes.address)
            report.restarts += 1
    _, err = process.communicate()
    if process.returncode:
        report.faults.append(f"the driver ended with {process.returncode}: {err.decode()[-300:]}")
        finish(start(directory, photos, out.name, model, nodes.address))
        report.restarts += 1


def more_parts(process: subprocess.Popen[bytes], out: Path, count: int) -> bool:
    """Waits until a job has written more parts; False if it has ended."""
    before, deadline = parts_in(out), time.monotonic() + UNTIL_ROWS_S
    while process.poll() is None:
        if parts_in(out) >= before + count or time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    return False


def parts_in(out: Path) -> int:
    return len(find_parts(out)) if out.is_dir() else 0


def by_path(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["path"])


def check(out: Path, expected: list[dict[str, Any]], report: Report) -> None:
    """Notes what differs from the rows of an undisturbed run."""
    rows = rows_in(out)
    if twice := [path for path, count in Counter(row["path"] for row in rows).items() if count > 1]:
        report.faults.append(f"{len(twice)} paths have several rows, such as {twice[0]!r}")
    if by_path(rows) != expected:
        report.faults.append(f"{len(rows)} rows differ from the {len(expected)} of an undisturbed run")
    if (done := read_done(out, Shard())) is None or done.rows != len(expected):
        report.faults.append("the note of the end is missing or wrong")
    if left := [path.name for path in out.iterdir() if path.name.endswith(".part") or "damaged" in path.name]:
        report.faults.append(f"left behind: {left}")


def main() -> int:
    """Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.ray.kill", description="Kills parts of a job on Ray.")
    parser.add_argument("--count", type=int, default=24, help="kills (default: %(default)s)")
    parser.add_argument("--images", type=int, default=5000, help="images of the job (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("-m", "--model", default="demo")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where to write the outcome as JSON")
    arguments = parser.parse_args()
    head = setting("python -m tests.ray.kill", sys.argv[1:])
    begun = time.monotonic()
    quiet = contextlib.redirect_stdout(sys.stderr)  # Ray reports what happens to the nodes
    with tempfile.TemporaryDirectory() as directory, quiet:
        report = run(arguments.count, arguments.images, arguments.seed, arguments.model, Path(directory))
    outcome = {
        **head,
        "nodes": NODES, "kills": dict(report.kills), "images": arguments.images, "seed": arguments.seed,
        "model": arguments.model, "jobs": report.jobs, "restarts": report.restarts,
        "seconds": round(time.monotonic() - begun), "faults": report.faults,
    }  # fmt: skip
    print(json.dumps(outcome))
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(outcome, indent=1) + "\n")
    return int(bool(report.faults))


if __name__ == "__main__":
    sys.exit(main())
