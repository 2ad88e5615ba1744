"""What a contender reads and prints, so that `interleave.py` can run it in turns with others.

It prints one line of JSON when it is loaded: its runtime and the versions of its packages. For every line on stdin it
runs once and prints the seconds of each part. If it cannot go on, it prints `{"error": …}` and exits with status 1.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detr_onnx.bench.baselines.turns import Options, Ready

LONGEST_ERROR = 200
MODULES = {"pillow": "PIL"}
"""Modules of packages that have another name."""


def take_turns(
    kinds: Mapping[str, Callable[[Options], Ready]], packages: Sequence[str], arguments: Sequence[str]
) -> None:
    """Runs one turn for every line on stdin, until stdin is closed.

    Args:
        kinds: the contenders by name.
        packages: the versions of those that were imported are reported.
        arguments: the kind, its options as JSON, and optionally "once": then it prints the parts of a single turn and
            exits, so that the whole process can be measured.
    """
    kind, options, *once = arguments
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(content: Mapping[str, Any]) -> None:
        channel.write(f"{json.dumps(content)}\n")
        channel.flush()

    try:
        ready = kinds[kind](json.loads(options))
        if once:
            answer(ready.turn())
            return
        imported = [package for package in packages if MODULES.get(package, package) in sys.modules]
        answer({"runs_on": ready.runs_on, "versions": versions_of(*imported)})
        for _ in sys.stdin:
            answer(ready.turn())
    except BrokenPipeError:  # nobody waits for the answer any more
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - a contender that cannot run is left out, whatever it raised
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:LONGEST_ERROR]
        answer({"error": reason})
        sys.exit(reason)


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed in this environment."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
