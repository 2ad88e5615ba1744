"""A hook of mkdocs: pages of the repository outside docs/ become chapters, and links to its files keep working.

The README is the home page. A link to a file that is not a chapter, such as `../detr_onnx/network/detr.py`, becomes a
link to the source. A link to a file that does not exist fails the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SOURCE = "https://github.com/detr-onnx/detr-onnx/blob/main/"
CHAPTERS = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "weights/README.md": "weights.md",
}
"""Files outside docs/ -> the pages that they become."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")

log = logging.getLogger("mkdocs.hooks.site_links")  # strict mode counts its warnings


def on_files(files: Files, config: Any) -> Files:
    """Adds the chapters from outside docs/."""
    for source, page in CHAPTERS.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites the relative links of a page."""
    uri = page.file.src_uri
    source = next((source for source, chapter in CHAPTERS.items() if chapter == uri), f"docs/{uri}")
    return LINK.sub(lambda link: f"{link[1]}{site_link(source, link[2])}{link[3]}", markdown)


def site_link(source: str, link: str) -> str:
    """A link as it has to be in the site.

    Args:
        source: the path of the page in the repository.
        link: the link's target, relative to that page, without an anchor.
    """
    if "://" in link or link.startswith(("mailto:", "/")):
        return link
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if target in CHAPTERS:
        return CHAPTERS[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if not (ROOT / target).exists():
        log.warning("%s links to %s, which does not exist", source, target)
    return SOURCE + target
