"""The directory in which a page's blocks run: the files that it names, and programs and settings of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from detr_onnx.checkpoint.safetensors import read_safetensors, write_safetensors
from detr_onnx.defaults import SERVER_PORT
from detr_onnx.models.open import PANOPTIC_INDEX, demo_directory
from tests.docs import dataset
from tests.docs.blocks import ROOT
from tests.docs.command import PORT, SERVER, stop_server

OFFICIAL = "facebook/detr-resnet-50"
REVISIONS = ("main", "no_timm")
LIMIT_S = 600
DEMO = ("config.json", "preprocessor_config.json")


def write_checkpoint(directory: Path) -> None:
    """The demo model in Hugging Face's layout, in float32 as the official one."""
    directory.mkdir(parents=True)
    for name in DEMO:
        shutil.copy(demo_directory() / name, directory)
    write_safetensors(directory / "model.safetensors", _float32("model.safetensors"))


def write_panoptic_checkpoint(directory: Path) -> None:
    """The demo model with its mask head, in one file."""
    write_checkpoint(directory)
    shards = set(json.loads((demo_directory() / PANOPTIC_INDEX).read_text())["weight_map"].values())
    tensors = {name: tensor for shard in sorted(shards) for name, tensor in _float32(shard).items()}
    write_safetensors(directory / "model.safetensors", tensors)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "architectures": ["DetrForSegmentation"]}))


def _float32(name: str) -> dict[str, object]:
    return {name: tensor.astype("float32") for name, tensor in read_safetensors(demo_directory() / name).items()}


def write_hub(hub: Path) -> Path:
    """Hugging Face's cache with the stand-ins of the official models; nothing is downloaded."""
    for name, write in ((OFFICIAL, write_checkpoint), (f"{OFFICIAL}-panoptic", write_panoptic_checkpoint)):
        folder, commit = hub / f"models--{name.replace('/', '--')}", "a" * 40
        write(folder / "snapshots" / commit)
        (folder / "refs").mkdir()
        for revision in REVISIONS:
            (folder / "refs" / revision).write_text(commit)
    return hub


def _copy_graph(path: Path) -> None:
    shutil.copy(demo_directory() / "model.onnx", path)


def _write_image(path: Path) -> None:
    if path.suffix == ".png":
        Image.open(dataset.SCENE).save(path)
    else:
        shutil.copy(dataset.SCENE, path)


def _write_mosaic(path: Path) -> None:
    """A large image with many small objects."""
    scene = Image.open(dataset.SCENE)
    mosaic = Image.new("RGB", (2 * scene.width, 2 * scene.height))
    for x in (0, scene.width):
        for y in (0, scene.height):
            mosaic.paste(scene, (x, y))
    mosaic.save(path)


def _write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(dataset.SCENE, "000.jpg")


def _write_shards(directory: Path) -> None:
    directory.mkdir()
    for number in range(2):
        _write_tar(directory / f"shard-{number:03d}.tar")


def _write_list(path: Path) -> None:
    dataset.write_images(path.with_name("listed"))
    names = [f"listed/{number:012d}.jpg" for number, *_ in dataset.views()]
    if path.suffix == ".txt":
        path.write_text("\n".join(names))
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"path": names}), path)


def _write_clip(path: Path) -> None:
    from tests.video.clips import write_clip  # needs PyAV

    write_clip(path, [image.resize((320, 240)) for _, image, _ in dataset.views()])


IMAGES = ("street.jpg", "image.jpg", "a.jpg", "b.png", "demo-scene.jpg", "IMAGE")
FILES: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(IMAGES, _write_image),
    **dict.fromkeys(("photos", "IMAGES", "DIR", "val2017", "train", "valid"), dataset.write_images),
    **dict.fromkeys(("FILE", "instances_val2017.json", "train.json", "valid.json"), dataset.write_instances),
    **dict.fromkeys(("MODEL", "checkpoint", "my-detr"), write_checkpoint),
    **dict.fromkeys(("model.onnx", "fp32.onnx", "int8.onnx", "fixed.onnx", "my-detr.onnx"), _copy_graph),
    **dict.fromkeys(("list.txt", "list.parquet"), _write_list),
    "aerial.jpg": _write_mosaic,
    "shards": _write_shards,
    "clip.mp4": _write_clip,
    "panoptic_val2017.json": dataset.write_panoptic,
}
"""What a page may name -> how it is made."""
OTHERS: dict[str, dict[str, Callable[[Path], object]]] = {
    page: {"MODEL": write_panoptic_checkpoint} for page in ("panoptic.md", "evaluate.md")
}
"""The same where a page means something else by a name."""
NEEDED = {"clip.mp4": "av", "list.parquet": "pyarrow"}
"""Packages with which a file is made; without them it is not there, and its block is marked accordingly."""


@dataclass(frozen=True)
class Stage:
    """A directory, and how to run a script in it."""

    directory: Path
    environment: dict[str, str]

    @classmethod
    def of(cls, page: Path, root: Path, hub: Path, cache: Path) -> Stage:
        """The stage of a page.

        Args:
            page: its files are those that its text names.
            root: an empty directory.
            hub: Hugging Face's cache.
            cache: that of graphs.
        """
        directory = root / "work"
        directory.mkdir()
        text = page.read_text(encoding="utf-8")
        for name, write in (FILES | OTHERS.get(page.name, {})).items():
            if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", text) and _installed(NEEDED.get(name)):
                write(directory / name)
        return cls(directory, _environment(root, hub, cache))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell script as a reader would paste it, but stops at the first command that fails."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.filled(script)],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def filled(self, text: str) -> str:
        """The text with the port of this page's server in place of the default one."""
        return text.replace(f"127.0.0.1:{SERVER_PORT}", f"127.0.0.1:{self.environment[PORT]}")

    def close(self) -> None:
        """Ends the server that a block has started."""
        stop_server(Path(self.environment[SERVER]))


def _installed(package: str | None) -> bool:
    from importlib.util import find_spec

    return package is None or find_spec(package) is not None


def _environment(root: Path, hub: Path, cache: Path) -> dict[str, str]:
    programs = root / "bin"
    programs.mkdir()
    for program in ("detr-onnx", "pip"):
        script = f'#!/bin/sh\nDOCS_PROGRAM={program} exec "{sys.executable}" -m tests.docs.command "$@"\n'
        (programs / program).write_text(script)
        (programs / program).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        PORT: str(port),
        SERVER: str(root / "server.pid"),
        **settings(hub, cache),
    }


def settings(hub: Path, cache: Path) -> dict[str, str]:
    """Variables with which models come from these caches, and nothing from a network."""
    return {
        "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "DETR_ONNX_CACHE": str(cache), "NO_PROXY": "*", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
