"""`detr-onnx detect -o` on a Ray cluster: the same inputs, rows, files and rules, with actors that detect on all nodes.

    pip install 'detr-onnx[ray,openvino,export]'                         # on every node
    python detect.py /shared/photos -o /shared/out                       # on one node of the cluster
    python detect.py @manifest.parquet:column -o /shared/out --threads 4 --actors 16
    detr-onnx collect /shared/out -o all.parquet

Run the same command again to resume an interrupted job. Nodes need the images and the model at the same paths; only
this process reads the list and writes rows. Only paths and rows go through Ray's object store.

Names are read as they are needed, and given to Ray in waves of a fixed size per actor. A wave is a dataset of small
blocks, so that all actors are busy until its end. It has no tasks of its own, so actors may take every CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.cli import detect_job
from detr_onnx.cli.console import log_to_stderr
from detr_onnx.cli.main import run_command
from detr_onnx.cli.options import (
    add_engine_options,
    add_model,
    add_source_options,
    add_threshold,
)
from detr_onnx.errors import DetrError, EngineError, MissingPackageError, UsageError
from detr_onnx.jobs.inputs import Input
from detr_onnx.jobs.job import Job
from detr_onnx.jobs.rows import Row, import_pyarrow
from detr_onnx.ray import Detect

THREADS = 2
BLOCK = 64  # paths of one call of an actor; at the end of a wave the others wait for at most so many images
WAVE_EACH, LARGEST_WAVE = 10_000, 1_000_000  # paths of a wave, for each actor and in all
JOIN_S = 10.0  # that a cluster may take until it reports its CPUs, or those of a killed job are free again
STALL_S = 1800.0
POLL_S = 0.5
OURS = re.compile(r"^detr_onnx\.errors\.\w+: (.+)$", re.MULTILINE)  # the last line of a traceback

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Pool:
    """How a wave runs.

    Attributes:
        actors: that load the model and detect.
        threads: of each, and CPUs that Ray sets aside for it.
        wave: paths of a dataset.
        block: paths of one call of an actor.
        stall_s: how long no row may come before the job is given up; a block that kills its actor is tried again.
    """

    actors: int
    threads: int = THREADS
    wave: int = WAVE_EACH
    block: int = BLOCK
    stall_s: float = STALL_S


def parser() -> argparse.ArgumentParser:
    """The options of `detr-onnx detect -o`, and those of the cluster."""
    found = argparse.ArgumentParser(prog="detect.py", description="detr-onnx detect -o on a Ray cluster.")
    found.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, directories, patterns, @LIST.txt or @LIST.parquet:COLUMN"
    )
    detect_job.add_arguments(found)
    add_threshold(found)
    found.add_argument("--labels", action="append", metavar="CAT,DOG", help="keep only these classes")
    found.add_argument("--format", choices=("parquet", "ndjson"), default="parquet", help="default: %(default)s")
    add_model(found)
    add_engine_options(found)
    add_source_options(found)
    cluster = found.add_argument_group("cluster; --threads sets the threads and the CPUs of an actor")
    cluster.add_argument("--address", help="of the cluster (default: RAY_ADDRESS, else this machine's, else a new one)")
    cluster.add_argument("--actors", type=int, metavar="N", help="number of actors (default: as many as fit)")
    cluster.add_argument("--block", type=int, default=BLOCK, metavar="N", help="images per call (default: %(default)s)")
    cluster.add_argument("--wave", type=int, metavar="N", help=f"images per dataset (default: {WAVE_EACH} per actor)")
    cluster.add_argument(
        "--stall", type=float, default=STALL_S, metavar="SECONDS",
        help="end with an error if no row arrives for this long (default: %(default).0f)",
    )  # fmt: skip
    found.set_defaults(threads=THREADS)
    return found


def run(arguments: argparse.Namespace) -> int:
    """Runs the job on the cluster; the exit status is that of `detr-onnx detect -o`."""
    if arguments.output is None:
        raise UsageError("the rows need a directory", remedy="add -o DIR")
    if arguments.providers is not None:
        remedy = "for GPUs, give map_batches num_gpus=1 and Detect providers= in a script of your own"
        raise UsageError("--providers cannot be used here", remedy=remedy)
    numbers = {"--threads": arguments.threads, "--actors": arguments.actors, "--block": arguments.block,
               "--wave": arguments.wave, "--stall": arguments.stall}  # fmt: skip
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise UsageError(f"{name} is wrong", found=str(value), expected="more than 0")
    import_pyarrow()
    ray = import_ray(arguments.verbose)
    job, detector = detect_job.open_job(arguments)
    options = {
        "model": absolute(arguments.model), "threshold": arguments.threshold, "labels": job.settings.labels,
        "column": "path", "directory": str(Path.cwd()), "threads": arguments.threads, "engine": detector.engine,
        "precision": arguments.precision, "shortest_edge": arguments.size, "config": absolute(arguments.config),
        "offline": arguments.offline, "cache_dir": absolute(arguments.cache_dir), "settings": job.settings,
    }  # fmt: skip
    del detector  # its memory
    with connected(ray, arguments):
        pool = pool_of(ray, arguments)
        return detect_job.run_job(job, lambda show, must_stop: detect_on(ray, job, pool, options, show, must_stop))


def absolute(path: Path | str | None) -> str | None:
    """The absolute path of what is there, since workers have other current directories; else what was given."""
    return str(Path(path).absolute()) if path is not None and Path(path).exists() else path and str(path)


def import_ray(verbose: bool = False) -> Any:
    """The package ray, quiet; MissingPackageError if it, or its part for data, is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a thread that still waits would begin a cluster of its own
    if not verbose:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        remedy = "run pip install 'detr-onnx[ray]'"
        raise MissingPackageError("this needs the package ray with its part data", remedy=remedy) from error
    ray.data.DataContext.get_current().enable_progress_bars = verbose
    logging.getLogger("ray.data").setLevel(logging.INFO if verbose else logging.CRITICAL)
    return ray


@contextlib.contextmanager
def connected(ray: Any, arguments: argparse.Namespace) -> Iterator[None]:
    """Connects to the cluster, or begins one on this machine; EngineError if it cannot be reached."""
    check_reachable(arguments.address or os.environ.get("RAY_ADDRESS", ""))
    try:
        with contextlib.nullcontext() if arguments.verbose else stderr_closed():  # C++ code writes there
            level = logging.INFO if arguments.verbose else logging.CRITICAL
            ray.init(arguments.address, log_to_driver=arguments.verbose, logging_level=level)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        found = " ".join(str(error).split())[:300]
        remedy = "start one with ray start --head, or check --address and RAY_ADDRESS"
        raise EngineError("there is no Ray cluster to work on", found=found, remedy=remedy) from error
    with (  # Ray prints what happens to nodes and actors, although log_to_driver is False
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(sys.stdout if arguments.verbose else nothing),
    ):
        try:
            yield
        finally:
            ray.shutdown()


def check_reachable(address: str) -> None:
    """Raises EngineError if nothing listens at HOST:PORT, for which Ray itself would wait minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return  # "auto", "local" or nothing
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=JOIN_S).close()
    except (OSError, OverflowError) as error:
        remedy = "start one with ray start --head, or check --address and RAY_ADDRESS"
        raise EngineError(f"there is no Ray cluster at {address}", found=str(error), remedy=remedy) from error


@contextlib.contextmanager
def stderr_closed() -> Iterator[None]:
    """Whatever this process writes to stderr is lost, also what is not Python's."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def pool_of(ray: Any, arguments: argparse.Namespace) -> Pool:
    """The pool that the options ask for, once its CPUs are free or have not become so in a while.

    Raises:
        UsageError: the cluster has no room for it.
    """
    threads, asked = arguments.threads, arguments.actors
    deadline = time.monotonic() + JOIN_S
    while True:
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        free = ray.available_resources().get("CPU", 0.0)
        if places(nodes, free, threads) >= (asked or max(1, places(nodes, sum(nodes), threads))):
            break
        never = places(nodes, sum(nodes), threads) < (asked or 1)  # however many become free
        if never or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    actors = actors_that_fit(nodes, free, threads, asked)
    wave = arguments.wave or min(WAVE_EACH * actors, LARGEST_WAVE)
    return Pool(actors, threads, wave, arguments.block, arguments.stall)


def places(nodes: Iterable[float], free: float, threads: int) -> int:
    """How many actors of so many threads there is room for: each is on one node, and takes CPUs that are free."""
    return min(sum(int(cpus // threads) for cpus in nodes), int(free // threads))


def actors_that_fit(nodes: Sequence[float], free: float, threads: int, asked: int | None = None) -> int:
    """The number of actors: all that fit, or those that were asked for.

    Raises:
        UsageError: not even one fits, or not as many as were asked for.
    """
    fit = places(nodes, free, threads)
    if fit < (asked or 1):
        sizes = ", ".join(f"{cpus:g}" for cpus in sorted(nodes, reverse=True)[:8]) + (", …" if len(nodes) > 8 else "")
        free_now = "all of them free" if free >= sum(nodes) else f"{free:g} of them free"
        raise UsageError(
            f"the cluster has no room for {asked or 1} actors of {threads} threads" if (asked or 1) > 1
            else f"the cluster has no room for an actor of {threads} threads",
            found=f"nodes with {sizes or 'no'} CPUs, {free_now}",
            expected=f"{threads} free CPUs on one node for each actor; there is room for {fit}",
            remedy="use fewer --actors or --threads, add nodes, or wait until other jobs have ended",
        )  # fmt: skip
    return asked or fit


def detect_on(
    ray: Any, job: Job, pool: Pool, options: dict[str, Any], show: Callable[..., None], must_stop: Stop
) -> Any:
    """Runs the job with rows from the cluster; returns the tally."""

    def rows_of(inputs: Iterator[Input]) -> Generator[Row, None, None]:
        while wave := list(itertools.islice(inputs, pool.wave)):
            yield from rows_of_wave(ray, wave, pool, options, must_stop)

    return job.run_elsewhere(rows_of, show=show, must_stop=must_stop)


def rows_of_wave(
    ray: Any, wave: Sequence[Input], pool: Pool, options: dict[str, Any], must_stop: Stop
) -> Generator[Row, None, None]:
    """A row for each input, in the order in which the actors finish.

    Raises:
        DetrError: an actor cannot open the model, a block never ends, or the cluster is lost.
    """
    waiting = dict.fromkeys(item.path for item in wave)
    try:
        for table in polled(batches(ray, wave, pool, options), must_stop, pool.stall_s, waiting):
            for row in table.to_pylist():
                if row["path"] in waiting:
                    del waiting[row["path"]]
                    yield row
    except ray.exceptions.RayError as error:
        raise error_of(error) from error
    if waiting and not must_stop():
        raise EngineError(f"no rows came for {some_of(waiting)}", remedy="run the same command again")


def batches(ray: Any, wave: Sequence[Input], pool: Pool, options: dict[str, Any]) -> Iterator[Any]:
    """Tables of rows, block by block."""
    items = [{"path": file_of(item)} for item in wave]
    blocks = -(-len(items) // pool.block)
    dataset = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        Detect,
        fn_constructor_kwargs=options,
        batch_size=None,  # a block
        batch_format="pyarrow",
        num_cpus=pool.threads,
        compute=ray.data.ActorPoolStrategy(size=min(pool.actors, blocks)),
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(pool.threads)}},
    )
    return iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))


def file_of(item: Input) -> bytes:
    """The name of the file as bytes, since not all names are text; UsageError for what is in a tar file."""
    if isinstance(item.source, str):
        return os.fsencode(item.source)
    remedy = "use detr-onnx detect --shard for tar files, as only paths go through Ray's object store"
    raise UsageError(f"{item.path} is in a tar file, or is one", remedy=remedy)


def polled(
    tables: Iterator[Any], must_stop: Stop, stall_s: float, waiting: Iterable[str]
) -> Generator[Any, None, None]:
    """The tables, until the job has to stop.

    Raises:
        EngineError: none came for `stall_s` seconds.
    """
    while not must_stop():
        coming, deadline = in_thread(lambda: next(tables, None)), time.monotonic() + stall_s
        while not must_stop():
            try:
                table = coming.result(timeout=POLL_S)
            except FutureTimeoutError:
                if not coming.done() and time.monotonic() > deadline:
                    remedy = "an image may kill its actor: try some with detr-onnx detect, and look at Ray's logs"
                    what = f"no row has come for {stall_s:.0f} seconds"
                    raise EngineError(what, found=f"still waiting for {some_of(waiting)}", remedy=remedy) from None
                continue
            if table is None:
                return
            yield table
            break


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """What a call returns or raises, from a thread that does not keep the process from its end."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def some_of(paths: Iterable[str]) -> str:
    """Such as "3 images, such as a.jpg"."""
    names = [*paths]
    return f"{len(names)} images, such as {', '.join(names[:3])}"


def error_of(error: Exception) -> DetrError:
    """One sentence for an error of Ray: that of detr-onnx in it, or its last line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DetrError):
            return EngineError(f"an actor failed: {cause}")
        cause = getattr(cause, "cause", None) or cause.__cause__
    if sentences := OURS.findall(str(error)):
        return EngineError(f"an actor failed: {sentences[-1]}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = lines[-1][:500] if lines else type(error).__name__
    remedy = "check that all nodes have the same packages, and run the same command again; -v shows Ray's logs"
    return EngineError("an actor failed", found=found, remedy=remedy)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 if every image has a row, 2 for wrong usage, 1 for anything else, with one line that says why."""
    arguments = parser().parse_args(argv)
    with log_to_stderr(arguments.verbose):
        return run_command(sys.modules[__name__], arguments)


if __name__ == "__main__":
    sys.exit(main())
