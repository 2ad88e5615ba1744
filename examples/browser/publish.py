"""Writes the page as one directory of static files, ready for any web server.

    python examples/browser/publish.py SITE [--model NAME=FILE.onnx …] [--runtime DIR]

Without --model the site has the demo model in fp32 and with int8 weights, which needs the extra `export`. Without
--runtime, onnxruntime-web comes from npm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import detr_onnx
from detr_onnx import Detector, DetrError
from detr_onnx.models.open import demo_image

RUNTIME = "onnxruntime-web@1.30.0"
RUNTIMES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify"),
}
"""Engine -> onnxruntime-web's module, and the name of its WebAssembly and of the script that loads it."""

HERE = Path(__file__).parent
SHARED = Path(detr_onnx.__file__).parent / "server" / "page"
SHARED_FILES = ("boxes.js", "sources.js", "page.css")
"""Files that the page has in common with the server's."""

DEMO = {"Demo": "fp32", "Demo, int8 weights": "int8-weights"}
DEMO_NOTE = "This is the small demo model. It knows the drawings of its own sample image, not photographs."


class PublishError(Exception):
    """What prevents a site, in one sentence."""


def publish(site: Path, models: dict[str, Path], runtime: Path | None) -> None:
    """Writes the site, in place of one that an earlier call wrote.

    Args:
        site: the directory. If it exists, it has to be empty or a site.
        models: name -> .onnx file, in the order of the page's list; the demo model if there are none.
        runtime: the directory of an installed onnxruntime-web; None to get it from npm.
    """
    if site.exists() and not (site.is_dir() and ((site / "site.json").is_file() or not any(site.iterdir()))):
        raise PublishError(f"{site} exists and is not a site of this script; name another directory")
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=site.parent) as work:
        draft = Path(work) / "site"
        draft.mkdir()
        note = "" if models else DEMO_NOTE
        write_site(draft, models or demo_models(Path(work)), note, runtime or runtime_from_npm(Path(work)))
        if site.exists():
            shutil.rmtree(site)
        draft.rename(site)


def write_site(site: Path, models: dict[str, Path], note: str, runtime: Path) -> None:
    """Writes the files, and `site.json`, which lists them with their digests, and the models with a note on them."""
    files = [file for file in HERE.iterdir() if file.suffix in (".js", ".css", ".html")]
    for file in (*files, *(SHARED / name for name in SHARED_FILES)):
        shutil.copy(file, site)
    shutil.copy(demo_image(), site / "sample.jpg")
    entries = [model_entry(site, name, file) | {"note": note} for name, file in models.items()]
    runtimes = copy_runtime(site, runtime)
    worker = site / "service-worker.js"
    small = [file for file in site.rglob("*") if file.suffix in (".js", ".mjs", ".css", ".html", ".jpg")]
    names = sorted(file.relative_to(site).as_posix() for file in small if file != worker)
    described = json.dumps([entries, runtimes, [(name, sha256(site / name)) for name in names], sha256(worker)])
    version = hashlib.sha256(described.encode()).hexdigest()[:16]
    worker.write_text(worker.read_text(encoding="utf-8").replace('"unpublished"', f'"{version}"'), encoding="utf-8")
    content = {"version": version, "files": [*names, "site.json"], "runtimes": runtimes, "models": entries}
    (site / "site.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    (site / ".nojekyll").touch()  # GitHub Pages then serves every file as it is


def demo_models(work: Path) -> dict[str, Path]:
    """The demo model's files by their names on the page, exported."""
    models = {name: work / f"demo-{precision}.onnx" for name, precision in DEMO.items()}
    for name, precision in DEMO.items():
        options = ["--no-mask", "--precision", precision]
        command = [sys.executable, "-m", "detr_onnx", "export", "demo", "-o", str(models[name]), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PublishError(done.stderr.strip().removeprefix("detr-onnx: error: "))
    return models


def model_entry(site: Path, name: str, file: Path) -> dict[str, Any]:
    """Copies a model under a name with its digest, and describes it as the page needs."""
    detector = Detector(str(file), engine="onnxruntime")
    preprocessing = detector.preprocessing
    fields = preprocessing.to_json()
    is_plain = preprocessing.resize and set(fields["size"]) == {"shortest_edge", "longest_edge"}
    pixels, _, _ = detector.preprocess([Image.new("RGB", (30, 20))])
    if not is_plain or pixels.shape[2:] != preprocessing.resized_hw(20, 30):
        raise PublishError(f"{file} takes one image size only, or pads; export it without --shape")
    if detector.has_masks:
        raise PublishError(f"{file} is a panoptic model, which this page does not show; export one for detection")
    if b"MultiHeadAttention" in file.read_bytes():
        raise PublishError(f"{file} has fused attention, which {RUNTIME} gets wrong on WebGPU; export it without")
    digest = sha256(file)
    target = site / "models" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', file.stem)}.{digest[:8]}.onnx"
    target.parent.mkdir(exist_ok=True)
    shutil.copy(file, target)
    return {
        "name": name,
        "file": target.relative_to(site).as_posix(),
        "bytes": file.stat().st_size,
        "sha256": digest,
        "labels": detector.class_names,
        "preprocessing": {
            "shortest_edge": preprocessing.shortest_edge,
            "longest_edge": preprocessing.longest_edge,
            "rescale_factor": preprocessing.rescale_factor,
            "mean": preprocessing.mean,
            "std": preprocessing.std,
        },
    }


def copy_runtime(site: Path, runtime: Path) -> dict[str, dict[str, Any]]:
    """Copies onnxruntime-web's files into a directory with its version in the name, and describes them by engine."""
    try:
        version = json.loads((runtime / "package.json").read_text(encoding="utf-8"))["version"]
        target = site / f"onnxruntime-web-{version}"
        target.mkdir()
        for module, name in RUNTIMES.values():
            for file in (module, f"{name}.mjs", f"{name}.wasm"):
                shutil.copy(runtime / "dist" / file, target)
    except FileNotFoundError as error:
        raise PublishError(f"{runtime} does not have the files of {RUNTIME}: {error.filename} is missing") from error
    return {
        engine: {
            "module": f"{target.name}/{module}",
            "file": f"{target.name}/{name}.wasm",
            "bytes": (target / f"{name}.wasm").stat().st_size,
            "sha256": sha256(target / f"{name}.wasm"),
        }
        for engine, (module, name) in RUNTIMES.items()
    }


def runtime_from_npm(work: Path) -> Path:
    """Downloads onnxruntime-web with npm; the package's directory."""
    npm = shutil.which("npm")
    if npm is None:
        raise PublishError("npm is not installed; install it, or name an onnxruntime-web directory with --runtime")
    done = subprocess.run([npm, "pack", "--silent", RUNTIME], cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
        raise PublishError(f"npm pack {RUNTIME} failed ({reason}); check the connection, or use --runtime DIR")
    with tarfile.open(next(work.glob("onnxruntime-web-*.tgz"))) as archive:
        archive.extractall(work, filter="data")
    return work / "package"


def sha256(file: Path) -> str:
    """The digest of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def named_file(text: str) -> tuple[str, Path]:
    """NAME=FILE -> the name and the file."""
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE.onnx")
    return name, Path(file)


def main() -> int:
    """Runs the script; the exit status."""
    parser = argparse.ArgumentParser(description="Writes the browser page as one directory of static files.")
    parser.add_argument("site", type=Path, metavar="SITE", help="the directory to write")
    parser.add_argument("--model", type=named_file, action="append", default=[], metavar="NAME=FILE.onnx")
    parser.add_argument("--runtime", type=Path, metavar="DIR", help="an installed onnxruntime-web; default: from npm")
    arguments = parser.parse_args()
    try:
        publish(arguments.site, dict(arguments.model), arguments.runtime)
    except (PublishError, DetrError, OSError) as error:
        print(f"publish.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
