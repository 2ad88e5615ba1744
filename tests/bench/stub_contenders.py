"""Contenders that need no model: one that is steady, and ones that fail in every way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from detr_onnx.bench.interleave import Entry

ROOT = Path(__file__).parents[2]
STUB = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from detr_onnx.bench.baselines.protocol import take_turns
from detr_onnx.bench.baselines.turns import Ready

def steady(given):
    return Ready(lambda: {given["part"]: given["seconds"]}, "a stub")

def failing(given):
    return Ready(lambda: {}["no such key"], "a stub")

def absent(given):
    raise ImportError("No module named 'peer'")

def tiring(given):
    turns = iter(range(given["turns"]))

    def turn():
        if next(turns, None) is None:
            sys.stderr.write("loaded\\nout of breath\\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return {given["part"]: given["seconds"]}

    return Ready(turn, "a stub")

kinds = {"steady": steady, "failing": failing, "absent": absent, "tiring": tiring}
take_turns(kinds, (), sys.argv[2:])
"""


def stub_command(kind: str, *, seconds: float = 1.0, part: str = "part", turns: int = 0) -> tuple[str, ...]:
    """A contender that always reports the same seconds, or fails; a tiring one is killed after so many turns."""
    options = {"seconds": seconds, "part": part, "turns": turns}
    return (sys.executable, "-c", STUB, str(ROOT), kind, json.dumps(options))


def stub(kind: str, *, seconds: float = 1.0, turns: int = 0) -> Entry:
    """The same as an entry."""
    return Entry(f"{kind} {seconds:g}", f"a {kind} one", stub_command(kind, seconds=seconds, turns=turns))


def program(code: str, title: str = "a program") -> Entry:
    """A contender that is a Python program of its own."""
    return Entry("program", title, (sys.executable, "-c", code))


def silent(number: int, title: str) -> None:
    """Progress that is not shown."""
