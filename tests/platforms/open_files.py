"""Windows's rule that no file can be removed or replaced while it is open or mapped, imitated on Linux."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def in_use() -> set[str]:
    """The files that this process has open or mapped."""
    names = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.add(os.fspath(descriptor.readlink()))
        except OSError:  # that of the listing itself
            continue
    for line in Path("/proc/self/maps").read_text().splitlines():
        names.add(line[line.index("/") :]) if "/" in line else None
    return names


def refuse_what_windows_refuses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes renaming and removing fail as on Windows; the list gets every refusal, also those that are ignored."""
    refused: list[str] = []

    def check(call: str, path: Any, *, is_target: bool = False) -> None:
        name = os.path.realpath(os.fspath(path))
        used = sorted(n for n in in_use() if n == name or n.startswith(name + os.sep))
        is_directory_replaced = is_target and Path(name).is_dir()
        if used or is_directory_replaced:
            refused.append(f"{call} {name}: {used or 'a directory is replaced'}")
            raise PermissionError(13, "The process cannot access the file because it is being used", name)

    def moving(original: Callable[..., Any], call: str) -> Callable[..., Any]:
        def move(source: Any, target: Any, **options: Any) -> Any:
            check(call, source)
            check(call, target, is_target=True)
            return original(source, target, **options)

        return move

    def removing(original: Callable[..., Any], call: str) -> Callable[..., Any]:
        def remove(path: Any, *, dir_fd: int | None = None) -> Any:
            folder = Path(f"/proc/self/fd/{dir_fd}").readlink() if dir_fd is not None else Path()
            check(call, folder / path)
            return original(path, dir_fd=dir_fd)

        return remove

    accessor = getattr(pathlib, "_NormalAccessor", None)  # by which Path calls them in Python 3.10
    for name, imitation in (("replace", moving), ("rename", moving), ("unlink", removing), ("remove", removing)):
        function = imitation(getattr(os, name), name)
        monkeypatch.setattr(os, name, function)
        if hasattr(accessor, name):
            monkeypatch.setattr(accessor, name, staticmethod(function))
    return refused
