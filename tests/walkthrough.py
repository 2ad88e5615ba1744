"""The first hour of a new user, with real commands in an empty directory; what they print becomes docs/walkthrough.md.

    python -m tests.walkthrough [--out docs/walkthrough.md]

The package is installed from this checkout into an environment of its own. A stand-in for the hub on this machine
serves the demo model as `someone/drawings`. If a command ends with another status than expected, or does not print what
it should, the program says so and ends with 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from PIL import Image, ImageOps

from detr_onnx.engines.cpu import processor
from tests.docs.dataset import SCENE
from tests.docs.stage import write_checkpoint
from tests.standin_hub import StandInHub

CHECKOUT = Path(__file__).parents[1]
LIMIT_S = 900
LONGEST_LINE = 160
WRITTEN = ("demo.jpg", "boxes.jpg", "drawings.onnx", "boxes.mp4", "report.json")
ROTATED = 6  # EXIF: turn by 90 degrees clockwise to view

HEAD = """# Walkthrough

The first hour with detr-onnx, from an empty directory. `python -m tests.walkthrough` runs these commands and writes
what they print on this page; `.ci/run` checks that they still work. The [tutorial](tutorial.md) explains the steps.

The directory holds three files: `photo.jpg`, a mirrored copy of the demo's drawing that is stored sideways, as phones
do; `cut.jpg`, the first half of that file; and `clip.mp4`, a second of video. The official model could not be
downloaded where this was recorded. A local stand-in for the hub served the demo model as `someone/drawings`. Long
lines of output are cut.
"""


@dataclass(frozen=True)
class Step:
    """Commands that belong together.

    Attributes:
        title: a heading of the page.
        text: what a reader should know before the commands; may be empty.
        commands: each with the status that it ends with, and a pattern that its output matches.
    """

    title: str
    text: str
    commands: tuple[tuple[str, int, str], ...]


SERVE = """detr-onnx serve -m drawings.onnx --port PORT &
until curl -sf -o /dev/null http://127.0.0.1:PORT/readyz; do sleep 0.2; done
curl -s http://127.0.0.1:PORT/client/v4/accounts/any/ai/run/@cf/facebook/detr-resnet-50 --data-binary @photo.jpg
echo; kill $!; wait $!"""

STEPS = (
    Step(
        "Install",
        "`$CHECKOUT` is a clone of the repository. The commands below are run with `venv/bin` in `PATH`.",
        (
            ("python3 -m venv venv", 0, "^$"),
            ('venv/bin/pip install -q "$CHECKOUT[export,serve,video]"', 0, "^$"),
            ("detr-onnx demo --save demo.jpg", 0, "zebra"),
        ),
    ),
    Step(
        "A model from the hub, and an image",
        "The first command downloads the model. The last two go wrong.",
        (
            ("detr-onnx detect photo.jpg -m someone/drawings --format table --save boxes.jpg", 0, "zebra"),
            ("detr-onnx detect photo.jpg -m someone/drawings --offline", 0, '"label"'),
            ("detr-onnx detect cut.jpg -m someone/drawings", 1, "^[^\n]+cut.jpg[^\n]+$"),
            ("detr-onnx detect photo.jpg -m someone/drawing", 1, "^[^\n]+someone/drawing[^\n]+$"),
        ),
    ),
    Step(
        "A file for a small device",
        "",
        (
            ("detr-onnx export someone/drawings -o drawings.onnx --precision int8-weights", 0, "^$"),
            ("detr-onnx detect photo.jpg -m drawings.onnx --format table", 0, "zebra"),
        ),
    ),
    Step("A server with the hosted API's routes", "", ((SERVE, 0, '"success": ?true'),)),
    Step(
        "A video",
        "",
        (("detr-onnx detect clip.mp4 -m drawings.onnx --save boxes.mp4 | tail -n 3", 0, '"frame": 11'),),
    ),
    Step(
        "Check the model and the engines",
        "",
        (("detr-onnx verify someone/drawings --json report.json", 0, "onnxruntime"),),
    ),
)


def write_files(directory: Path) -> None:
    """The three files of the user."""
    with Image.open(SCENE) as scene:
        stored = ImageOps.mirror(scene.convert("RGB")).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    photo = directory / "photo.jpg"
    stored.save(photo, quality=95, exif=exif)
    content = photo.read_bytes()
    (directory / "cut.jpg").write_bytes(content[: len(content) // 2])
    from tests.video.clips import write_clip

    write_clip(directory / "clip.mp4", [Image.open(SCENE).convert("RGB").resize((512, 384))] * 12)


def shortened(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"


def run_steps(directory: Path, environment: dict[str, str], port: int) -> Iterator[str]:
    """The sections of the page, each once its commands have run.

    Raises:
        SystemExit: a command did not end as expected.
    """
    for step in STEPS:
        yield f"## {step.title}\n"
        if step.text:
            yield f"{step.text}\n"
        shown = []
        for command, status, pattern in step.commands:
            command = command.replace("PORT", str(port))
            print(f"$ {command}", file=sys.stderr, flush=True)
            done = subprocess.run(
                ["bash", "-uo", "pipefail", "-c", command], cwd=directory, env=environment, timeout=LIMIT_S,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            output = done.stdout.replace(str(directory), ".").strip()
            if done.returncode != status or not re.search(pattern, output):
                expected = f"status {status} and {pattern!r}"
                raise SystemExit(f"{command}: status {done.returncode}, expected {expected}\n{output}")
            asked = "\n".join(f"$ {line}" for line in command.splitlines())
            shown.append("\n".join((asked, *map(shortened, output.splitlines()))))
        yield "```\n" + "\n\n".join(shown) + "\n```\n"


def main() -> None:
    """Runs the commands, and writes the page if it is asked for."""
    parser = argparse.ArgumentParser("python -m tests.walkthrough", description="A new user's commands, run.")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, StandInHub() as hub, socket.create_server(("127.0.0.1", 0)) as free:
        directory, port = Path(place, "first-hour"), free.getsockname()[1]
        free.close()
        directory.mkdir()
        write_files(directory)
        write_checkpoint(Path(place, "model"))
        hub.add("someone/drawings", {file.name: file for file in Path(place, "model").iterdir()})
        kept = ("LANG", "TMPDIR", "PIP_", "SSL_")
        environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        environment |= {
            "PATH": os.pathsep.join((str(directory / "venv" / "bin"), os.environ["PATH"])),
            "HOME": place,
            "CHECKOUT": str(CHECKOUT),
            "HF_ENDPOINT": hub.url,
        }
        sections = list(run_steps(directory, environment, port))
        missing = [name for name in WRITTEN if not (directory / name).exists()]
        if missing:
            raise SystemExit(f"not written: {', '.join(missing)}")
        if arguments.out:
            version = platform.python_version()
            setting = f"Recorded on {date.today()} with Python {version} on {platform.system()}, {processor()}.\n"
            arguments.out.write_text("\n".join((HEAD, *sections, setting)), encoding="utf-8")


if __name__ == "__main__":
    main()
