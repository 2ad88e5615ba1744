"""A detector in a process that was forked after it was opened: it works, or says in one sentence that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.command_line import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

LIMIT_S = 100
SCRIPT = """
import multiprocessing, sys
from detr_onnx import Detector
from detr_onnx.errors import EngineError
from detr_onnx.models.open import demo_image

detector = Detector("demo", engine=sys.argv[1])
expected = len(detector(demo_image()))

def detect(image):
    try:
        return len(detector(image)) == expected
    except EngineError as error:
        return str(error)

with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map_async(detect, [demo_image()]).get(timeout=30)[0])
"""
COMPUTING = """
import os, sys, threading
from detr_onnx.errors import EngineError
from detr_onnx.engines.turn import Turn

turn, entered, may_end = Turn("numpy"), threading.Event(), threading.Event()

def compute():
    with turn:
        entered.set()
        may_end.wait(60)

thread = threading.Thread(target=compute)
thread.start()
entered.wait(60)
if os.fork() == 0:
    try:
        with turn:
            print("computed", flush=True)
    except EngineError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
may_end.set()
thread.join()
if os.fork() == 0:
    with turn:
        print("computed", flush=True)
    os._exit(0)
os.wait()
with turn:
    print("computed", flush=True)
"""


def printed(script: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_a_detector_works_in_a_forked_process(engine):
    pytest.importorskip(engine)
    assert printed(SCRIPT, engine) == ["True"]


def test_openvino_refuses_to_run_in_a_forked_process():
    pytest.importorskip("openvino")
    (line,) = printed(SCRIPT, "openvino")
    assert line.startswith("OpenVINO cannot run ")
    assert "found a process that was forked while a model was open in OpenVINO; start processes with" in line


def test_a_process_that_was_forked_in_the_middle_of_a_computation_says_so():
    refused, *computed = printed(COMPUTING)
    assert refused.startswith("numpy cannot compute here: found a process that was forked while another thread")
    assert computed == ["computed"] * 2
