"""Writes docs/dependencies.md: what each extra installs, with versions and licences, from the metadata of packages.

python .ci/dependencies.py            in an environment with `pip install '.[all,ray]'`
python .ci/dependencies.py --check    exit 1 if the page has other packages or licences than this environment
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
BEGIN, END = "<!-- table: dependencies -->", "<!-- end -->"
EXTRAS = ("export", "openvino", "eval", "heif", "parquet", "serve", "video")
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([\w,.-]+)\])?[^;]*(?:;\s*(.*))?")
LONGEST = 60  # of a licence; some packages have the whole text in that field


def main() -> int:
    """Writes or checks the table; the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if "--check" in sys.argv:
        differences = sorted(set(rows(text[begin:end])) ^ set(rows(table())))
        print(*differences, sep="\n", end="\n" if differences else "")
        return 1 if differences else 0
    PAGE.write_text(f"{text[:begin]}\n\n{table()}\n\n{text[end:]}", encoding="utf-8", newline="\n")
    return 0


def table() -> str:
    """The Markdown table: a row for each package, in the first group that needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"]} | {e: project["optional-dependencies"][e] for e in EXTRAS}
    lowest = {normal(r): r.partition(">=")[2] for requirements in groups.values() for r in requirements}
    lines, seen = ["| needed by | package | lowest | licence |", "| --- | --- | --- | --- |"], set()
    for group, requirements in groups.items():
        for package in closure(requirements):
            if package.name not in seen:
                seen.add(package.name)
                cells = (group, package.metadata["Name"], lowest.get(normal(package.name), ""), licence(package))
                lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def closure(requirements: list[str]) -> list[Distribution]:
    """The installed packages that these requirements need, they themselves first."""
    found: dict[str, Distribution] = {}
    queue = [(requirement, True) for requirement in requirements]
    while queue:
        requirement, is_direct = queue.pop(0)
        match = REQUIREMENT.match(requirement)
        if match is None or "extra ==" in (match[3] or ""):
            continue
        try:
            package = distribution(match[1])
        except PackageNotFoundError:
            if is_direct:
                raise
            continue  # for another platform or version of Python
        if package.name not in found:
            found[package.name] = package
            queue += [(r, False) for r in package.requires or ()]
    return [*found.values()]


def licence(package: Distribution) -> str:
    """The SPDX expression of a package, else its field or its classifiers."""
    fields = package.metadata
    names = [c.rpartition(" :: ")[2] for c in fields.get_all("Classifier") or () if c.startswith("License ::")]
    field = (fields.get("License") or "").strip().partition("\n")[0]
    text = fields.get("License-Expression") or (field if 0 < len(field) <= LONGEST else ", ".join(names))
    return text or "not stated"


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def normal(requirement: str) -> str:
    """The name of a requirement as the index spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[><=; ]", requirement)[0]).lower()


if __name__ == "__main__":
    sys.exit(main())
