"""Imports every module of the package in a Python that lacks what Python on Windows lacks; prints those that fail.

    python -m tests.platforms.as_on_windows

Modules of POSIX are hidden, and functions and constants of POSIX are deleted. What other packages import themselves is
imported first, because they have code of their own for Windows.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - before its parts are deleted
import importlib
import multiprocessing.connection  # noqa: F401
import os
import pkgutil
import signal
import socket
import sys
import tempfile  # noqa: F401
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty", "pty")
OS = (
    *("WNOHANG", "chown", "fchmod", "fork", "forkpty", "fstatvfs", "getegid", "geteuid", "getgid", "getloadavg"),
    *(
        "getpgid",
        "getpgrp",
        "getpriority",
        "getsid",
        "getuid",
        "killpg",
        "lchown",
        "major",
        "makedev",
        "minor",
        "mkfifo",
    ),
    *(
        "mknod",
        "nice",
        "openpty",
        "posix_fadvise",
        "posix_fallocate",
        "posix_spawn",
        "pread",
        "pwrite",
        "sched_getaffinity",
    ),
    *("sched_setaffinity", "setsid", "statvfs", "sync", "sysconf", "uname", "wait", "wait3", "wait4", "waitid"),
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC"),
)
SIGNALS = (
    *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2"),
    *("SIGXFSZ", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"),
)
SOCKETS = ("AF_UNIX", "SO_REUSEPORT", "socketpair")
OTHERS = (
    "numpy", "PIL.Image", "PIL.ImageDraw", "onnxruntime", "openvino", "onnx", "uvicorn", "starlette.applications",
    "starlette.testclient", "prometheus_client.multiprocess", "huggingface_hub", "pycocotools.coco", "pyarrow.parquet",
    "av", "ray", "tqdm", "python_multipart", "anyio",
)  # fmt: skip


class Hiding:
    """A finder of modules that does not find those of POSIX."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return None if name in MODULES else self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def imitate() -> None:
    """Removes what Windows does not have from this process."""
    for name in OTHERS:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for module, names in ((os, OS), (signal, SIGNALS), (socket, SOCKETS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]  # type: ignore[misc]


def main() -> int:
    """Imports every module; the exit status is the number of those that fail."""
    imitate()
    import detr_onnx

    failed = 0
    for info in pkgutil.walk_packages(detr_onnx.__path__, "detr_onnx."):
        if info.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(info.name)
        except ImportError as error:
            if error.name is None or error.name in MODULES or error.name.startswith("detr_onnx"):
                print(info.name, repr(error))
                failed += 1
        except Exception:  # noqa: BLE001 - whatever fails is told
            print(info.name, traceback.format_exc())
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
