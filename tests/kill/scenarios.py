"""The commands that are killed, by name. A new one needs one row in `SCENARIOS`.

Each runs in a place of its own: `work`, the working directory, and `cache`, `tmp` and `hub` beside it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.standin_remote import StandInRemote
from tests.kill.snapshot import (
    READERS,
    Reader,
    journal_lines,
    nodes_of_onnx,
    only_differences,
    outputs_of_ort,
    sizes_in_manifest,
    whole_page,
)
from tests.small_model import SEED, sample_image, write_panoptic_checkpoint, write_small_checkpoint
from tests.standin_hub import StandInHub

IMAGES = 5
MODEL = "owner/name"  # of the stand-in hub
LATENCY_REQUESTS = 4
PARTS = ("work", "cache", "tmp", "hub")

Variables = Mapping[str, str]


@dataclass(frozen=True)
class Scenario:
    """A command.

    Attributes:
        command: its words, without the program.
        needs: packages that it needs beside the core.
        server: what runs while it does; gives environment variables.
        before: earlier commands, whose files the killed one replaces.
        first: a file that must never be beside others than its own.
        others: what that file needs.
        readers: what is compared of files whose bytes differ from run to run, by pattern of their path.
        stdout: whether the answers on stdout are the same each time.
        once: whether it refuses to replace what it has finished.
    """

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    server: Callable[[Path], AbstractContextManager[Variables]] = lambda inputs: contextlib.nullcontext({})
    before: tuple[tuple[str, ...], ...] = ()
    first: str | None = None
    others: tuple[str, ...] = ()
    readers: Mapping[str, Reader] = field(default_factory=lambda: READERS)
    stdout: bool = True
    once: bool = False

    def is_possible(self) -> bool:
        """Whether the packages that it needs are installed."""
        return all(importlib.util.find_spec(package) for package in self.needs)


def write_inputs(directory: Path) -> None:
    """What all commands read: three checkpoints and some images."""
    write_small_checkpoint(directory / "small")
    write_small_checkpoint(directory / "older", SEED + 1)
    write_panoptic_checkpoint(directory / "panoptic")
    (directory / "images").mkdir()
    for number in range(IMAGES):
        sample_image(70 + 9 * number, 50, number).save(directory / "images" / f"{number}.png")


@contextlib.contextmanager
def standin_hub(inputs: Path) -> Iterator[Variables]:
    """A hub with the small model, whose files arrive bit by bit."""
    with StandInHub() as hub:
        hub.pause_s = 0.02
        hub.add(MODEL, {file.name: file for file in (inputs / "small").iterdir()})
        yield {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}


@contextlib.contextmanager
def standin_remote(inputs: Path) -> Iterator[Variables]:
    """A hosted API that takes its time."""
    with StandInRemote(delay_s=0.03) as remote:
        yield {"BASE_URL": remote.url, "CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef", "CLOUDFLARE_API_TOKEN": "token"}


def _export(output: str, *options: str, needs: tuple[str, ...] = (), others: tuple[str, ...] = ()) -> Scenario:
    """An export over an older one of another model."""
    words = ("export", "../inputs/{model}", "-o", output, *options)
    older, newer = (tuple(word.format(model=model) for word in words) for model in ("older", "small"))
    return Scenario(
        newer,
        ("onnx", *needs),
        before=(older,),
        first=output,
        others=others,
        readers={**READERS, "*.ort": outputs_of_ort},
    )


def _build(engine: str) -> Scenario:
    command = ("detect", "../inputs/images/0.png", "-m", "../inputs/small", "--engine", engine)
    varying = {"manifest.json": sizes_in_manifest, "model.onnx": nodes_of_onnx}
    return Scenario(command, ("onnx", engine), readers=varying if engine == "onnxruntime" else READERS)


SCENARIOS: Mapping[str, Scenario] = {
    "build": _build("onnxruntime"),
    "build-openvino": _build("openvino"),
    "export": _export("m.onnx"),
    "export-fp16": _export("m.onnx", "--precision", "fp16"),
    "export-int8": _export(
        "m.onnx", "--precision", "int8", "--calibrate", "../inputs/images", "--force", needs=("onnxruntime",)
    ),
    "export-end-to-end": _export("m.onnx", "--end-to-end"),
    "export-external-data": _export("m.onnx", "--external-data", others=("m.onnx.data",)),
    "export-ort": _export("m.ort", needs=("onnxruntime",), others=("m.required_operators.config",)),
    "download": Scenario(
        ("detect", "../inputs/images/0.png", "-m", MODEL, "--engine", "numpy"), ("huggingface_hub",), standin_hub
    ),
    "detect": Scenario(("detect", "../inputs/images", "-m", "../inputs/small", "--engine", "numpy", "--save", "out/")),
    "detect-panoptic": Scenario(
        (
            *("detect", "../inputs/images", "-m", "../inputs/panoptic", "--engine", "numpy", "--threshold", "0.35"),
            *("--format", "panoptic", "-o", "p.json"),
        ),
        first="p.json",
        others=tuple(f"p/{number}.png" for number in range(IMAGES)),
        once=True,
    ),
    "compare-hosted": Scenario(
        (
            *("compare-hosted", "../inputs/images", "-m", "../inputs/small", "--engine", "numpy"),
            *("--base-url", "{BASE_URL}", "--journal", "journal", "--json", "r.json", "--html", "r.html"),
            *("--concurrency", "1,2", "--latency-requests", str(LATENCY_REQUESTS)),
        ),
        server=standin_remote,
        readers={"journal": journal_lines, "r.json": only_differences, "r.html": whole_page},
        stdout=False,
    ),
}


def arrange(place: Path, inputs: Path) -> None:
    """An empty place that shares the inputs."""
    shutil.rmtree(place, ignore_errors=True)
    for name in PARTS:
        (place / name).mkdir(parents=True)
    (place / "inputs").symlink_to(inputs, target_is_directory=True)
