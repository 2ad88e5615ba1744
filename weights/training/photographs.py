"""Collects the photographs that `train_decoder.py` needs, which are in the public domain and not in this repository.

    git clone --bare URL SOURCES/NAME          # each of the repositories in photographs.json
    python weights/training/photographs.py --sources SOURCES --out build/photographs

`train` has those for backgrounds, `quiet` those in which training counts false detections; none is in both.
"""

import argparse
import io
import json
import subprocess
from pathlib import Path

from PIL import Image

LIST = Path(__file__).with_name("photographs.json")
LONGEST_PX = 1024


def collect(sources: Path, directory: Path) -> int:
    """Writes the photographs of the list, shrunk, to `directory`/train and `directory`/quiet; returns their number.

    Raises:
        ValueError: a repository is missing in `sources`, or lacks a commit or a file.
    """
    count = 0
    for name, source in json.loads(LIST.read_text(encoding="utf-8")).items():
        for part in ("train", "quiet"):
            (directory / part).mkdir(parents=True, exist_ok=True)
            for file in source[part]:
                image = shrunk(read_blob(sources / name, source["commit"], source["folder"] + file, source["url"]))
                image.save(directory / part / f"{name}-{Path(file).stem.replace(' ', '-')}.jpg", quality=92)
                count += 1
    return count


def read_blob(repository: Path, commit: str, path: str, url: str) -> bytes:
    """The file's content at that commit; ValueError, with the remedy, if there is none."""
    command = ["git", "-C", str(repository), "show", f"{commit}:{path}"]
    result = subprocess.run(command, capture_output=True, check=False) if repository.is_dir() else None
    if result is None or result.returncode:
        raise ValueError(f"{repository} has no {path} of commit {commit}; git clone --bare {url} {repository}")
    return result.stdout


def shrunk(data: bytes) -> Image.Image:
    """The image in RGB, its longer side at most LONGEST_PX."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (LONGEST_PX, LONGEST_PX))
    rgb = image.convert("RGB")
    rgb.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    return rgb


def table() -> str:
    """The list as the table in weights/README.md."""
    rows = ["| source | licence | for backgrounds | for validation |", "| --- | --- | --- | --- |"]
    for name, source in json.loads(LIST.read_text(encoding="utf-8")).items():
        parts = (", ".join(Path(file).stem for file in source[part]) for part in ("train", "quiet"))
        rows.append(f"| [{name}]({source['url']}) | {source['licence']} | {' | '.join(parts)} |")
    return "\n".join(rows)


def main() -> None:
    """Writes the photographs."""
    parser = argparse.ArgumentParser(description="Collects the photographs that training needs.")
    parser.add_argument("--sources", type=Path, metavar="DIR", help="with a clone of each repository")
    parser.add_argument("--out", type=Path, metavar="DIR", help="train/ and quiet/ are written here")
    parser.add_argument("--table", action="store_true", help="print the list as a table instead")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return
    if not (arguments.sources and arguments.out):
        parser.error("--sources and --out are needed")
    try:
        print(f"{collect(arguments.sources, arguments.out)} photographs in {arguments.out}")
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
