"""The reason in an error message of ONNX Runtime or OpenVINO, without its codes, source files and function names."""

from __future__ import annotations

import re

from detr_onnx.errors import shortened
from detr_onnx.text import first_line

LONGEST_REASON = 300  # characters
LONGEST_MESSAGE = 1000  # characters of a message that are searched; it may repeat a name from the file, of megabytes

CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
LOADING = re.compile(r"^Load model from .* failed:")
SOURCE = re.compile(
    r"(?<!\S)\S+\.(?:cc|h):\d+ "  # file and line
    r"(?:[^()']*::[^()']*\((?:[^()]|\([^()]*\))*\)(?: const)? |\w+ )"  # a function with its arguments, or its name
)
NODE = re.compile(r'(?:This is an invalid model\. )?In Node, \("(.*?)", (\w+), .*, Error ')

SUMMARY = "Summary:"  # a line of OpenVINO's messages about operators
UNSUPPORTED = "OpenVINO does not support the following ONNX operations"  # before 2026, without a summary


def onnxruntime_reason(error: BaseException) -> str:
    """The first line of a message of ONNX Runtime's, without its code, the path, and places in its source."""
    text = LOADING.sub("", CODE.sub("", shortened(first_line(error), LONGEST_MESSAGE)))
    return shortened(NODE.sub(r"node \1 (\2): ", SOURCE.sub("", text)).strip(), LONGEST_REASON)


def openvino_reason(error: BaseException) -> str:
    """The most useful line of a message: the first of its summary, else one on unsupported operators, else the last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    unsupported = [line for line in lines if line.startswith(UNSUPPORTED)]
    line = lines[lines.index(SUMMARY) + 1] if SUMMARY in lines[:-1] else [*unsupported, lines[-1]][0]
    return shortened(line.removeprefix("-- "), LONGEST_REASON)
