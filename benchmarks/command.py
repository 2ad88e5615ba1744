"""What the command lines of the benchmarks share: options, each defined once, the results file, and how they end."""

from __future__ import annotations

import argparse
import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from detr_onnx.atomic import write_atomically
from detr_onnx.bench.exit_status import how_it_ended, last_line
from detr_onnx.bench.interleave import PAUSE_S
from detr_onnx.cli.interrupts import INTERRUPTED
from detr_onnx.errors import DetrError
from detr_onnx.paths import is_directory, without_directories
from detr_onnx.text import printable

RESULTS = Path(__file__).parent / "results"
WARM_UP = 3
LONGEST_COMMAND = 200  # characters of it in an error


class HasKey(Protocol):
    """A contender, whatever else it is."""

    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=HasKey)


def whole_number(least: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from `least` up."""
    return functools.partial(_number, int, least, f"a whole number from {least} up")


def _number(kind: Callable[[str], Any], least: float, expected: str, text: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected {expected}")
    return value


positive = whole_number(1)


def listed(*known: str) -> Callable[[str], list[str]]:
    """The type of an option that takes some of the known names, with commas between them."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            expected = f"some of {','.join(known)}"
            raise argparse.ArgumentTypeError(f"found {', '.join(map(repr, unknown))}, expected {expected}")
        return found

    return names


def results_file(text: str) -> Path:
    """The type of --json: a file that can be created, which is not found out after an hour of measuring."""
    path = Path(text)
    if is_directory(path) or not is_directory(path.parent):
        found = "a directory" if is_directory(path) else f"no directory {path.parent}"
        raise argparse.ArgumentTypeError(f"cannot write {text}: found {found}")
    return path


OPTIONS: dict[str, dict[str, Any]] = {
    "--work": {
        "type": Path, "default": Path("build/benchmarks"), "metavar": "DIR",
        "help": "for the files that are measured (default: %(default)s)",
    },
    "--model": {"type": Path, "metavar": "DIR", "help": "a checkpoint; default: DETR-R50 with seeded weights"},
    "--optimum": {"type": Path, "metavar": "PATH", "help": "a file or the directory of export.optimum_export"},
    "--python-peers": {"metavar": "PYTHON", "help": "an interpreter with transformers and torch"},
    "--int8": {"type": Path, "metavar": "FILE", "help": "the same model as an int8 file, from benchmarks.precisions"},
    "--threads": {
        "type": positive, "default": 2, "metavar": "N", "help": "threads of each program (default: %(default)s)",
    },
    "--warm-up": {
        "type": whole_number(0), "default": WARM_UP, "metavar": "N", "help": "runs before those (default: %(default)s)",
    },
    "--pause": {
        "type": functools.partial(_number, float, 0, "seconds from 0 up"), "default": PAUSE_S, "metavar": "SECONDS",
        "help": "between two turns (default: %(default)s)",
    },
    "--only": {"metavar": "KEY,…", "help": "only contenders whose keys begin so"},
}  # fmt: skip


def benchmark_parser(
    module: str, description: str, *options: str, results: str, runs: int | None = None, fewest_runs: int = 1
) -> argparse.ArgumentParser:
    """The parser of a benchmark.

    Args:
        module: its dotted name, for the usage line.
        description: one sentence.
        options: the shared options it takes, of `OPTIONS`.
        results: the name of its results file, the default of --json.
        runs: the default of --runs; None for a benchmark without it.
        fewest_runs: that --runs accepts.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for option in options:
        parser.add_argument(option, **OPTIONS[option])
    if runs is not None:
        help_text = "measured runs of each (default: %(default)s)"
        parser.add_argument("--runs", type=whole_number(fewest_runs), default=runs, metavar="N", help=help_text)
    file = RESULTS / f"{results}.json"
    help_text = f"the results file (default: benchmarks/results/{file.name})"
    parser.add_argument("--json", type=results_file, default=file, metavar="FILE", help=help_text)
    return parser


def parse_arguments(parser: argparse.ArgumentParser, *partial: str) -> argparse.Namespace:
    """The arguments; the program ends if it would replace the file of all rows by some of them.

    Args:
        parser: made by `benchmark_parser`.
        partial: the options that leave rows out, such as "only"; with one of them --json names another file.
    """
    arguments, defaults = parser.parse_args(), parser.parse_args([])
    for option in partial:
        if getattr(arguments, option) != getattr(defaults, option) and arguments.json == defaults.json:
            file = f"benchmarks/results/{defaults.json.name}"
            parser.error(f"argument --{option} leaves out rows of {file}; name another file with --json")
    return arguments


def only_some(parser: argparse.ArgumentParser, only: str | None, contenders: Sequence[K]) -> list[K]:
    """The contenders that --only names, all without it; the program ends if it names none."""
    chosen = [one for one in contenders if only is None or one.key.startswith(tuple(only.split(",")))]
    if not chosen:
        keys = ",".join(one.key for one in contenders)
        parser.error(f"argument --only: found {only!r}, expected the beginnings of some of {keys}")
    return chosen


def write_results(file: Path, results: Mapping[str, Any]) -> None:
    """Writes a results file and says so on stderr. If it cannot be written, the results are printed instead."""
    text = json.dumps(_without_nan(results), indent=1, ensure_ascii=False) + "\n"
    try:
        write_atomically(file, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        print(text)
        sys.exit(f"cannot write {file}: found {error.strerror}; the results are on stdout")
    print(f"wrote {file.name}", file=sys.stderr)


def _without_nan(value: Any) -> Any:
    """The value with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def child_json(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """What a child process prints, as JSON. Its stderr is that of this process.

    Raises:
        OSError: it cannot be started.
        subprocess.CalledProcessError: it failed.
    """
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def run_main(main: Callable[[], int | None]) -> NoReturn:
    """Runs the main function of a program; errors that its user can meet are one sentence on stderr."""
    try:
        status = main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except DetrError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except subprocess.CalledProcessError as error:
        program, cause = printable(" ".join(map(str, error.cmd)))[:LONGEST_COMMAND], last_line(error.stderr or "")
        ended = how_it_ended(error.returncode) + (f": {cause}" if cause else "")
        sys.exit(f"a program that this one runs has failed: {program}: {ended}")
    except OSError as error:
        sys.exit(f"{error.filename or type(error).__name__}: found {error.strerror or error}; check the path")
    sys.exit(status)


def absent(left_out: Mapping[str, str]) -> list[dict[str, str]]:
    """The `left_out` of a results file: titles, and reasons that name no directories of this machine."""
    return [{"title": title, "why": without_directories(reason)} for title, reason in left_out.items()]
