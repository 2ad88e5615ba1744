"""Sites that examples/browser/publish.py writes, and images for them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]
PUBLISH = ROOT / "examples" / "browser" / "publish.py"
SCENE = ROOT / "examples" / "demo-scene.jpg"


def publish(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PUBLISH, *arguments]
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def write_images(folder: Path) -> None:
    """Images of every kind that a user may have, each with the name that the tests below know."""
    folder.mkdir()
    scene = Image.open(SCENE).convert("RGB")
    shutil.copy(SCENE, folder / "scene.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    scene.transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.png", exif=exif)
    scene.resize((2400, 1800)).save(folder / "large.png")
    scene.resize((120, 700)).save(folder / "tall.png")
    scene.convert("L").save(folder / "grey.png")
    scene.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    scene.save(folder / "animated.gif", save_all=True, append_images=[Image.new("RGB", scene.size)])
    scene.save(folder / "scene.tiff")
    Image.new("1", (12000, 9000)).save(folder / "huge.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.png").write_bytes((folder / "large.png").read_bytes()[:100])
    (folder / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')


def spoil(site: Path, spoiled: Path, *, with_its_digest: bool) -> None:
    """A copy of a site whose first model is not a model; its digest in the list may be the new one."""
    shutil.copytree(site, spoiled)
    listed = json.loads((spoiled / "site.json").read_text())
    model = listed["models"][0]
    content = bytes(model["bytes"])
    (spoiled / model["file"]).write_bytes(content)
    if with_its_digest:
        model["sha256"] = hashlib.sha256(content).hexdigest()
    (spoiled / "site.json").write_text(json.dumps(listed))


def sites_models(site: Path) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = json.loads((site / "site.json").read_text())["models"]
    return models
