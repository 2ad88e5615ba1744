"""Copies this Python, and what it needs of the system, into a directory: the root of a container without a shell.

    python small_root.py ROOT APP

ROOT gets the interpreter, the standard library without its tests and graphical parts, the shared libraries that they
and the packages in APP load (by ldd), and APP itself.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "__pycache__",
            "site-packages", "dist-packages", "config-*", "*.a")  # fmt: skip


def libraries(files: list[Path]) -> set[Path]:
    """The shared libraries that programs and libraries load, with the dynamic loader."""
    done = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return {Path(word) for word in words if word.startswith("/") and not word.endswith(":")}


def main() -> None:
    root, app = map(Path, sys.argv[1:])
    python = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    programs = [python, *stdlib.rglob("*.so"), *app.rglob("*.so*")]
    for file in {python, *libraries(programs)}:
        if not file.is_relative_to(app):
            target = root / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    shutil.copytree(stdlib, root / stdlib.relative_to("/"), ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(app, root / app.relative_to("/"), ignore=shutil.ignore_patterns("tests", "__pycache__", "*.pyi"))
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    if not (root / "usr/bin/python3").exists():
        (root / "usr/bin/python3").symlink_to(python)
    (root / "tmp").mkdir(mode=0o1777)


if __name__ == "__main__":
    main()
