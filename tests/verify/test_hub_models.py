"""`detr-onnx verify` with names of the hub: downloads from the stand-in, and what is cached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.verify.pinned import FILES, NAME, cached
from tests.verify.test_verify import lines_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("huggingface_hub")


def test_a_pinned_model_is_downloaded_then_verified_offline(verify, stand_in):
    for arguments in ((NAME,), (NAME, "--offline")):
        status, out, _ = verify(*arguments)
        assert status == 0, out
        assert set(FILES) <= lines_of(out, "ok").keys()
        assert all("the pinned file" in lines_of(out, "ok")[file] for file in FILES)
    assert len(stand_in.bodies()) == len(FILES)


def test_files_that_are_not_pinned_are_compared_with_what_the_hub_announced(verify, stand_in, tmp_path):
    status, out, _ = verify("owner/other")
    assert status == 0, out
    assert all("as the hub announced it" in lines_of(out, "ok")[file] for file in FILES)
    config = next(tmp_path.glob("home/hub/models--owner--other/snapshots/*/config.json"))
    config.write_bytes(config.read_bytes() + b" ")
    status, out, _ = verify("owner/other", "--offline")
    assert (status, lines_of(out, "FAILED").keys()) == (1, {"config.json"})


@pytest.mark.parametrize("extra", [b"", b"more"], ids=["one byte", "size"])
def test_a_damaged_pinned_file_is_named_offline_and_nothing_is_run(verify, stand_in, tmp_path, extra):
    assert verify(NAME)[0] == 0
    weights = cached(tmp_path, "model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content + extra)
    status, out, err = verify(NAME, "--offline", "--json", "r.json")
    assert (status, err, lines_of(out, "FAILED").keys()) == (1, "", {"model.safetensors"})
    assert {"config.json", "preprocessor_config.json"} <= lines_of(out, "ok").keys()
    assert out.count("not run: a file is not the pinned one") == 2
    assert out.splitlines()[-1] == "1 FAILED (files: model.safetensors); 3 checks, 2 not tried"
    report = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert [c["name"] for c in report["checks"] if c["outcome"] == "FAILED"] == ["model.safetensors"]
    assert (report["agrees"], str(tmp_path) in json.dumps(report)) == (False, False)


def test_a_damaged_pinned_file_is_downloaded_again_where_the_hub_may_be_asked(verify, stand_in, tmp_path):
    assert verify(NAME)[0] == 0
    weights = cached(tmp_path, "model.safetensors")
    weights.write_bytes(weights.read_bytes() + b"more")
    status, out, _ = verify(NAME)
    assert (status, lines_of(out, "FAILED")) == (0, {})
    assert len(stand_in.bodies()) == len(FILES) + 1


def test_a_hub_that_serves_other_bytes_ends_in_the_table(verify, stand_in):
    stand_in.wrong_bytes = True
    status, out, _ = verify(NAME)
    assert (status, lines_of(out, "FAILED").keys()) == (1, set(FILES))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"gated": True}, "owner/pinned is not open to everybody"),
        ({"status": 401}, "has no model owner/pinned"),
        ({"status": 503}, "could not serve owner/pinned"),
    ],
)
def test_a_hub_that_refuses_is_one_line(refused, stand_in, fault, words):
    for name, value in fault.items():
        setattr(stand_in, name, value)
    assert words in refused(NAME)


def test_a_hub_that_is_away_is_one_line(refused, stand_in, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "owner/pinned is not cached and" in refused(NAME)
