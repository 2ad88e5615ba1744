"""Why something failed, on one line, whatever error says so."""

from __future__ import annotations

import errno

import pytest

from detr_onnx.text import one_line, reason_of


@pytest.mark.parametrize(("error", "reason"), [
    (OSError(errno.ENOSPC, "No space left on device", "a.txt"), "No space left on device"),
    (OSError("the stream has\nended"), "the stream has ended"),
    (OSError(), "OSError"),
    (ValueError("embedded null byte"), "embedded null byte"),
    (MemoryError(), "MemoryError"),
])  # fmt: skip
def test_reason_of_prefers_strerror_then_the_text_then_the_type(error, reason):
    assert reason_of(error) == reason


def test_an_error_s_whole_text_is_on_one_line():
    assert one_line(OSError(errno.ENOSPC, "No space left", "a.txt")) == "[Errno 28] No space left: 'a.txt'"
