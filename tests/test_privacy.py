"""Nothing leaves the machine: no look-up, no connection, and no file outside the cache, whichever command and engine.

`CI` is unset here, since packages that report their use keep quiet where it is set.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx.models.open import demo_image

ROOT = Path(__file__).parent.parent
ENGINES = ["numpy", "onnxruntime", "openvino"]

AUDIT = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["AUDIT_LOG"], "a") as log:
            log.write(f"{event} {arguments}\\n")

sys.addaudithook(note)
"""
COMMANDS = {
    **{f"demo with {engine}": ["demo", "--engine", engine] for engine in ENGINES},
    "demo with masks": ["demo", "--panoptic", "--engine", "numpy"],
    "info": ["info"],
    "export": ["export", "demo", "-o", "OUT/demo.onnx"],
    "agree": ["agree", "--images", "IMAGES", "--reference", "demo", "-m", "demo"],
    "bench": ["bench", "-m", "demo", "--runs", "1"],
}
OUTSIDE = re.compile(r"(connect|sendto|sendmsg)\(.*sa_family=AF_INET6?")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_connects_to_anything_or_writes_outside_its_cache(tmp_path, name):
    words = COMMANDS[name]
    if words[-1] in ENGINES:
        pytest.importorskip(words[-1])
    if name in ("export", "agree"):
        pytest.importorskip("onnx" if name == "export" else "tqdm")
    home, images, out = (tmp_path / directory for directory in ("home", "images", "out"))
    for directory in (home, images, out):
        directory.mkdir()
    shutil.copy(demo_image(), images)
    words = [word.replace("OUT", str(out)).replace("IMAGES", str(images)) for word in words]
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(AUDIT)
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {
        "HOME": str(home),
        "DETR_ONNX_CACHE": str(tmp_path / "cache"),
        "AUDIT_LOG": str(tmp_path / "audit.log"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), str(ROOT)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    trace = tmp_path / "trace.log"
    watched = (
        ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=network", "-o", str(trace)]
        if shutil.which("strace")
        else []
    )
    command = [*watched, sys.executable, "-m", "detr_onnx", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, cwd=out)
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "audit.log").exists(), (tmp_path / "audit.log").read_text()
    assert [*home.rglob("*")] == []
    if watched:
        assert OUTSIDE.findall(trace.read_text()) == []


def test_importing_openvino_leaves_its_telemetry_as_it_was(monkeypatch):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    from detr_onnx.engines.openvino_package import TELEMETRY, import_openvino

    monkeypatch.setitem(sys.modules, TELEMETRY, sys)
    import_openvino()
    assert sys.modules[TELEMETRY] is sys
    monkeypatch.delitem(sys.modules, TELEMETRY)
    import_openvino()
    assert TELEMETRY not in sys.modules
