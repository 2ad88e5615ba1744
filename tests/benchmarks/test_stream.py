"""The benchmark of decoding ahead: what it calls hidden, its photographs, its table."""

from __future__ import annotations

import pytest

from benchmarks import stream
from benchmarks.job_tables import limits_table, stream_table
from detr_onnx.image.decode import read_rgb

MACHINE = {"processor": "x", "cores": 2}
HEAD = {"model": "m", "threads": 1, "runs": 1, "images": 2, "date": "d", "machine": MACHINE}


@pytest.mark.parametrize(("streamed_s", "share"), [(1.0, 1.0), (1.1, 0.5), (1.2, 0.0)])
def test_the_hidden_share_is_of_decoding_and_preprocessing(streamed_s, share):
    taken = [{"stream": streamed_s, "network": 1.0, "prepare": 0.2}]
    assert stream.hidden(taken)["median"] == pytest.approx(share)


def test_detectors_take_turns_over_photographs(tmp_path, monkeypatch, detector):
    monkeypatch.setattr(stream, "SIZES_WH", ((40, 30),))
    photographs = stream.write_photographs(tmp_path, 2)
    assert [read_rgb(path).size for path in photographs["40x30"]] == [(40, 30)] * 2
    (row,) = stream.measure({"onnxruntime": detector}, photographs, 1)
    assert row["size"] == "40x30"
    assert set(row["image_ms"]) == {"stream", "network", "prepare"}
    table = stream_table({**HEAD, "rows": [row]})
    assert "| 40x30 | ONNX Runtime |" in table


@pytest.mark.parametrize(("p90", "words"), [(0.4, "| 25% (10%–40%) |"), (3.0, "| less than the noise |")])
def test_a_share_that_is_noise_is_not_shown(p90, words):
    image_ms = {way: {"median": 10.0} for way in ("stream", "network", "prepare")}
    row = {"size": "1x1", "title": "x", "image_ms": image_ms, "hidden": {"median": 0.25, "p10": 0.1, "p90": p90}}
    assert words in stream_table({**HEAD, "rows": [row]})


def test_the_table_of_limits_says_what_was_enough():
    rows = [
        {"program": "serve", "cache_filled": False, "limit_mb": 640, "ready_s": 3.2, "drained_s": 12.0},
        {"program": "detect -o", "cache_filled": True, "limit_mb": None},
    ]
    table = limits_table({**HEAD, "requests": 4, "clients": 2, "rows": rows})
    assert "| `serve` | empty: the graph is built | 640 MB | 3.2 until ready, 12.0 to drain |" in table
    assert "| `detect -o` | filled | more than all that were tried | |" in table
