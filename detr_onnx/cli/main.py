"""The command line: parses the arguments, runs one command, and turns every error into one line and an exit status.

stdout carries results only; notes, progress and errors go to stderr. The exit status is 0 for success, 2 for wrong
usage, 130 after Ctrl-C and 1 for anything else, with one line `detr-onnx: error: …`.

Each command is a module with `HELP`, `USAGE`, `add_arguments(parser)` and `run(arguments) -> int`. Command modules
import numpy, engines and the like only inside functions, so that `--version` and `--help` start at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from detr_onnx import __version__
from detr_onnx.cli import (
    agree,
    bench,
    collect,
    compare_hosted,
    convert,
    demo,
    detect,
    evaluate,
    explain,
    export,
    info,
    serve,
    verify,
)
from detr_onnx.cli.console import log_to_stderr, print_error
from detr_onnx.cli.interrupts import INTERRUPTED, was_interrupted
from detr_onnx.errors import DetrError
from detr_onnx.unexpected_errors import bug_error

COMMANDS: dict[str, ModuleType] = {
    "detect": detect,
    "collect": collect,
    "demo": demo,
    "explain": explain,
    "evaluate": evaluate,
    "agree": agree,
    "export": export,
    "convert": convert,
    "bench": bench,
    "compare-hosted": compare_hosted,
    "serve": serve,
    "verify": verify,
    "info": info,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    if sys.stderr is None:  # closed by the caller; argparse and logging would fail
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - stays open as stderr does
    arguments, unknown = argument_parser().parse_known_args(argv)
    parser = vars(arguments).pop("parser")  # processes that a command starts get its arguments, but no parser
    if unknown:
        parser.error(unknown_arguments(unknown, parser))
    arguments.words = [*(sys.argv[1:] if argv is None else argv)]  # benchmarks record their own command line
    with log_to_stderr(arguments.verbose):
        return run_command(COMMANDS[arguments.command], arguments)


def exit_at_once_if_stuck(status: int) -> None:
    """Ends the process here if an engine's thread was given up and works on: the interpreter might wait for it."""
    deadline = sys.modules.get("detr_onnx.engines.deadline")  # not imported: nothing can be stuck
    if deadline is not None:
        deadline.end_if_stuck(status)


def argument_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the parsed arguments have `command`, the command's name, and `parser`, its parser."""
    parser = argparse.ArgumentParser(prog="detr-onnx", description="DETR object detection without PyTorch.")
    parser.add_argument("--version", action="version", version=f"detr-onnx {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = subparsers.add_parser(name, help=command.HELP, usage=command.USAGE)
        own.set_defaults(parser=own)
        command.add_arguments(own)
    return parser


def unknown_arguments(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """The error for words that a command does not take; the message suggests the most similar option."""
    import difflib

    options = sorted({word.rstrip(",") for word in parser.format_help().split() if word.startswith("--")})
    given = [word.partition("=")[0] for word in words if word.startswith("-")]
    similar = [match for word in given for match in difflib.get_close_matches(word, options, 1)]
    suggestion = f"; did you mean {', '.join(similar)}?" if similar else ""
    return f"unrecognized arguments: {' '.join(words)}{suggestion}"


def run_command(command: ModuleType, arguments: argparse.Namespace) -> int:
    """Runs the command; errors become one line on stderr and an exit status."""
    try:
        status: int = command.run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout, such as `head`, has closed it
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: every error is one line
        if was_interrupted():
            return INTERRUPTED
        shown = error if isinstance(error, DetrError) else memory_or_bug_error(error)
        print_error(shown)
        return shown.exit_status
    return status


def memory_or_bug_error(error: Exception) -> DetrError:
    """The error to show for an exception that is not one of the package's own."""
    if isinstance(error, MemoryError):
        return DetrError("there is not enough memory", remedy="try a smaller --size, or a smaller model")
    return bug_error("this is a bug in detr-onnx", error)
