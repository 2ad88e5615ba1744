"""A model's name becomes a verified directory, once; a stand-in on the loopback interface plays the hub."""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from detr_onnx import hub
from detr_onnx.errors import HubError, OutputError
from detr_onnx.hub import PINNED, PinnedFile, PinnedModel, cached_models, fetch, is_hub_name
from tests.standin_hub import StandInHub

COMMIT, NEWER = "c" * 40, "d" * 40
FILES: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "detr"}',
    "preprocessor_config.json": b'{"size": 800}',
    "model.safetensors": random.Random(0).randbytes(300_000),
}
NAME = "owner/name"
PIN = PinnedModel(NAME, COMMIT, {n: PinnedFile(len(b), hashlib.sha256(b).hexdigest()) for n, b in FILES.items()})
NO_NETWORK_S = 5.0  # a refused connection is noticed at once; importing huggingface_hub takes a while
FETCHER = """
import sys
from detr_onnx.hub import fetch
print(fetch("owner/name", cache_dir=sys.argv[1]))
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The stand-in with one model, as the environment's endpoint, and no trace of anybody's own settings."""
    file_download = pytest.importorskip("huggingface_hub.file_download")
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(file_download.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(file_download.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(file_download.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    # what arrives is written ten megabytes at a time; the files here are smaller
    monkeypatch.setattr(file_download.constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    with StandInHub() as hub:
        hub.add(NAME, FILES, commit=COMMIT)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(store: Path, name: str = NAME, *, pinned: bool = True, offline: bool = False) -> Path:
    return fetch(name, cache_dir=store, offline=offline, pinned=(PIN,) if pinned else ())


def refusal(store: Path, name: str = NAME, *, pinned: bool = True, offline: bool = False) -> str:
    """The one line that a fetch ends with."""
    with pytest.raises(HubError) as error:
        get(store, name, pinned=pinned, offline=offline)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_complete(directory: Path) -> None:
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == FILES


def ranges_of_weights(standin: StandInHub) -> list[str | None]:
    return [request.range for request in standin.bodies() if request.path.endswith(".safetensors")]


def unused_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# Names


def test_an_empty_cache_holds_no_models(tmp_path):
    assert cached_models(tmp_path) == []


@pytest.mark.parametrize("text", ["facebook/detr-resnet-50", "a/b@main", "a/b@refs/pr/1", f"a/b@{COMMIT}", "A.b/c_d.e"])
def test_a_name_of_the_hub_is_known(text):
    assert is_hub_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "demo", "a/b/c", "/a/b", "./a", "../a", "a/..", "a\\b", "a/b@", "a/b@../c", "a--b/c", "a b/c", "a/b\n", "ä/b"],
)
def test_what_is_no_name_of_the_hub_is_known_too(text):
    assert not is_hub_name(text)


@pytest.mark.parametrize("text", ["weights/x.safetensors", "models/detr.onnx", "models/DETR.ONNX", "a/" + "b" * 97])
def test_a_mistyped_path_is_not_taken_for_a_name(text):
    assert not is_hub_name(text)


def test_a_directory_that_exists_is_no_name(tmp_path, monkeypatch):
    (tmp_path / "facebook" / "detr-resnet-50").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name("facebook/detr-resnet-50")


def test_something_else_than_a_name_is_refused(store):
    assert "expected owner/name" in refusal(store, "no name")


def test_the_default_model_is_pinned_to_the_byte():
    model = {model.name: model for model in PINNED}["facebook/detr-resnet-50"]
    assert model.revision == "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b"
    assert {name: file.bytes for name, file in model.files.items()} == {
        "config.json": 4592,
        "preprocessor_config.json": 290,
        "model.safetensors": 166587896,
    }
    assert all(len(file.sha256) == 64 for file in model.files.values())


def test_importing_pulls_in_neither_huggingface_hub_nor_an_http_client():
    heavy = "{'huggingface_hub', 'requests', 'httpx', 'httpx2', 'http.client'}"
    command = f"import sys, detr_onnx.cache, detr_onnx.hub; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


# A download


def test_a_pinned_model_is_fetched_once_and_then_without_any_request(standin, store):
    first = get(store)
    assert_complete(first)
    asked = len(standin.requests)
    assert get(store) == first
    assert len(standin.requests) == asked
    assert len(standin.bodies()) == len(FILES)
    assert [(model.name, model.path) for model in cached_models(store)] == [("owner/name@ccccccc", first)]
    assert cached_models(store)[0].bytes == sum(map(len, FILES.values()))


def test_it_can_be_asked_for_by_its_pinned_commit_whole_or_short(standin, store):
    assert get(store, f"{NAME}@{COMMIT}") == get(store, f"{NAME}@{COMMIT[:7]}") == get(store)
    assert len(standin.bodies()) == len(FILES)


def test_a_cached_model_needs_neither_network_nor_huggingface_hub(standin, store, monkeypatch):
    first = get(store)
    get(store, "owner/name@main", pinned=False)
    monkeypatch.setattr(importlib, "import_module", without_huggingface_hub)
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    asked = len(standin.requests)
    assert get(store) == get(store, pinned=False) == get(store, offline=True) == first
    assert len(standin.requests) == asked


def without_huggingface_hub(name: str) -> ModuleType:
    raise ImportError(name)


def test_without_huggingface_hub_the_error_is_the_line_to_type(standin, store, monkeypatch):
    monkeypatch.setattr(importlib, "import_module", without_huggingface_hub)
    assert refusal(store).endswith("; pip install 'detr-onnx[export]'")


def test_the_start_of_a_cached_model_reads_no_whole_file(standin, store, monkeypatch):
    first = get(store)
    monkeypatch.setattr(hub.download, "sha256_of", None)
    monkeypatch.setattr(hub.store, "record_of", None)
    assert get(store) == first


def test_a_download_is_announced_in_one_line_and_a_cached_model_is_not(standin, store):
    notes: list[str] = []
    for _ in range(2):
        fetch(NAME, cache_dir=store, pinned=(PIN,), progress=notes.append)
    assert [note.split(" into ")[0] for note in notes] == ["fetching owner/name@ccccccc (0.3 MB)"]


def test_the_token_goes_to_the_hub_and_not_to_where_it_redirects(standin, store, monkeypatch):
    standin.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(store)
    elsewhere = [request for request in standin.requests if request.path.startswith("/cdn/")]
    assert [request.authorization for request in elsewhere] == [None]
    assert {r.authorization for r in standin.requests if r not in elsewhere} == {"Bearer hf_secret"}


def test_the_cache_is_the_variables_when_no_argument_says_otherwise(standin, tmp_path, monkeypatch):
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "elsewhere"))
    assert fetch(NAME, pinned=(PIN,)).is_relative_to(tmp_path / "elsewhere")


def test_a_trailing_slash_in_the_endpoint_does_no_harm(standin, store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", standin.url + "/")
    assert_complete(get(store))


def test_files_on_disk_are_served_streamed_and_resumed(standin, store, tmp_path):
    (tmp_path / "weights").write_bytes(bytes(range(256)) * 20_000)
    standin.add("owner/large", {"config.json": b"{}", "model.safetensors": tmp_path / "weights"})
    assert (get(store, "owner/large") / "model.safetensors").stat().st_size == 5_120_000


def test_two_processes_that_fetch_at_once_download_once(standin, store):
    command = [sys.executable, "-c", FETCHER, str(store)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=60)[0].strip() for process in both}
    assert answers == {str(store / "hub" / "models--owner--name" / "snapshots" / COMMIT)}
    assert len(standin.bodies()) == len(FILES)


# A cut, and damage


def test_a_connection_cut_half_way_is_taken_up_again(standin, store):
    standin.cut_after = 100_000
    assert_complete(get(store))
    assert ranges_of_weights(standin) == [None, "bytes=100000-"]


def test_a_download_that_broke_off_goes_on_where_it_stopped_at_the_next_call(standin, store):
    standin.cut_after, standin.cut_status = 100_000, 503
    assert "try again in a few minutes" in refusal(store)
    standin.get_status = None
    assert_complete(get(store))
    assert ranges_of_weights(standin) == [None, "bytes=100000-"]


def test_a_partial_file_that_is_too_long_is_started_over(standin, store):
    snapshot = store / "hub" / "models--owner--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors.partial").write_bytes(bytes(400_000))
    assert_complete(get(store))


def test_wrong_bytes_are_refused_removed_and_fetched_anew(standin, store):
    standin.wrong_bytes = True
    sentence = refusal(store)
    assert PIN.files["config.json"].sha256 in sentence
    assert "22 bytes" in sentence
    assert "try again" in sentence
    assert not list((store / "hub").rglob("*.partial"))
    standin.wrong_bytes = False
    assert_complete(get(store))


def test_wrong_bytes_of_an_unpinned_models_weights_are_noticed_by_the_hubs_own_sum(standin, store):
    standin.wrong_bytes = True
    assert "model.safetensors of owner/name did not arrive" in refusal(store, pinned=False)


def test_a_model_that_changed_behind_its_pin_is_refused(standin, store):
    standin.add(NAME, FILES | {"config.json": b"{}"}, commit=COMMIT)
    assert "found 2 bytes" in refusal(store)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_truncated_file_is_noticed_and_only_that_file_is_fetched_again(standin, store, pinned):
    weights = get(store, pinned=pinned) / "model.safetensors"
    fetched = len(standin.bodies())
    weights.write_bytes(weights.read_bytes()[:-1])
    assert_complete(get(store, pinned=pinned))
    assert "/cdn/owner/name/model.safetensors" in [request.path for request in standin.bodies()[fetched:]]
    assert len(standin.bodies()[fetched:]) == (1 if pinned else len(FILES))


@pytest.mark.parametrize("pinned", [True, False])
def test_an_altered_file_of_the_same_size_is_noticed(standin, store, pinned):
    weights = get(store, pinned=pinned) / "model.safetensors"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert_complete(get(store, pinned=pinned))


def test_a_lost_record_of_a_pinned_model_is_made_anew_from_the_files(standin, store):
    first = get(store)
    (store / "hub" / "models--owner--name" / "verified" / f"{COMMIT}.json").write_text("{half")
    asked = len(standin.requests)
    assert get(store) == first
    assert len(standin.requests) == asked
    assert len(cached_models(store)) == 1


# Not pinned


def test_an_unpinned_model_is_kept_by_the_commit_its_branch_led_to(standin, store):
    assert get(store, pinned=False).name == COMMIT
    standin.add(NAME, FILES, commit=NEWER)
    assert get(store, pinned=False).name == NEWER
    assert get(store, f"{NAME}@{COMMIT}", pinned=False).name == COMMIT


def test_an_unpinned_model_that_is_current_is_not_downloaded_again(standin, store):
    get(store, pinned=False)
    get(store, pinned=False)
    assert len(standin.bodies()) == len(FILES)


def test_a_branch_with_a_slash_and_a_missing_preprocessor_are_fine(standin, store):
    files = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    standin.add("owner/other", files, revision="refs/pr/1")
    found = get(store, "owner/other@refs/pr/1")
    assert {path.name for path in found.iterdir()} == set(files)
    assert get(store, "owner/other@refs/pr/1", offline=True) == found


@pytest.mark.parametrize("trouble", ["no network", "status 503"])
def test_when_the_hub_does_not_answer_a_cached_branch_is_used_and_said_so(standin, store, monkeypatch, trouble):
    first = get(store, pinned=False)
    if trouble == "no network":
        monkeypatch.setenv("HF_ENDPOINT", unused_address())
    standin.status = 503
    notes: list[str] = []
    assert fetch(NAME, cache_dir=store, pinned=(), progress=notes.append) == first
    assert "using the copy of ccccccc" in notes[0]


def test_a_repository_with_pickled_weights_only_says_how_to_convert(standin, store):
    standin.add("owner/old", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    sentence = refusal(store, "owner/old")
    assert "found pytorch_model.bin" in sentence
    assert "export/pth_to_safetensors.py" in sentence
    assert standin.bodies() == []


def test_a_repository_without_weights_or_without_config_says_what_is_missing(standin, store):
    standin.add("owner/bare", {"config.json": b"{}"})
    assert "lacks model.safetensors" in refusal(store, "owner/bare")
    standin.add("owner/data", {"README.md": b""})
    assert "no config.json" in refusal(store, "owner/data")


# Hugging Face's own cache


def their_snapshot(tmp_path: Path) -> Path:
    """A snapshot as huggingface_hub leaves it."""
    store = tmp_path / "hf-home" / "hub" / "models--owner--name"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(COMMIT)
    snapshot = store / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, content in FILES.items():
        assert isinstance(content, bytes)
        (snapshot / name).write_bytes(content)
    return snapshot


@pytest.mark.parametrize("pinned", [True, False])
def test_what_hugging_faces_cache_has_is_not_downloaded_again(standin, store, tmp_path, pinned):
    theirs = their_snapshot(tmp_path)
    assert get(store, pinned=pinned, offline=True) == theirs
    assert get(store, pinned=pinned) == theirs
    assert standin.bodies() == []


def test_a_damaged_file_there_is_left_alone_and_fetched_into_our_cache(standin, store, tmp_path):
    theirs = their_snapshot(tmp_path)
    (theirs / "model.safetensors").write_bytes(bytes(300_000))
    assert get(store).is_relative_to(store)
    assert (theirs / "model.safetensors").read_bytes() == bytes(300_000)


# Refusals


def test_without_network_and_cache_the_error_comes_soon_and_says_what_to_do(standin, store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    start = time.perf_counter()
    sentence = refusal(store)
    assert time.perf_counter() - start < NO_NETWORK_S
    assert "cannot be reached" in sentence
    assert "connect once" in sentence
    assert str(store) in sentence
    assert "pass a directory" in sentence


@pytest.mark.parametrize("variable", [True, False])
def test_offline_with_nothing_cached_makes_no_request_and_says_so(standin, store, monkeypatch, variable):
    if variable:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no request is to be made" in refusal(store, offline=not variable)
    assert standin.requests == []
    assert not store.exists()


def test_a_hub_that_accepts_and_says_nothing_is_given_up_on(standin, store, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in refusal(store)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/nmae", "check the name"), ("owner/name@v9", "has no revision v9"), (f"owner/name@{NEWER}", "no revision")],
)
def test_a_model_or_revision_that_is_not_there_asks_to_check_it(standin, store, name, expected):
    assert expected in refusal(store, name)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "HF_TOKEN"), (403, "accept its terms"), (404, "check the name"), (500, "few minutes"), (429, "few minutes")],
)
def test_a_status_of_refusal_is_told_with_its_remedy(standin, store, status, expected):
    standin.status = status
    sentence = refusal(store)
    assert f"found status {status}" in sentence
    assert expected in sentence


def test_a_gated_model_says_how_to_get_in(standin, store):
    standin.gated = True
    assert "accept its terms" in refusal(store)


def test_an_endpoint_that_is_no_hub_is_told_from_a_missing_model(standin, store):
    standin.is_hub = False
    assert "does not answer as a hub does; check HF_ENDPOINT" in refusal(store)


@pytest.mark.parametrize(
    "endpoint", ["localhost:1", "ftp://host", "http://", "http://h:99999", "http://[::1", "http://a b"]
)
def test_an_endpoint_that_is_no_address_is_named(standin, store, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert repr(endpoint) in refusal(store)


def test_a_cache_that_cannot_be_written_is_one_sentence(standin, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="DETR_ONNX_CACHE"):
        get(tmp_path / "file")


def test_a_disk_that_fills_up_during_a_download_is_one_sentence(standin, store, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["huggingface_hub.file_download"], "http_get", fill)
    with pytest.raises(OutputError, match="No space left"):
        get(store)


def test_a_read_only_cache_serves_what_it_has(standin, store):
    first = get(store)
    verified = store / "hub" / "models--owner--name" / "verified"
    (verified / f"{COMMIT}.json").unlink()
    verified.chmod(0o555)
    if os.access(verified, os.W_OK):
        pytest.skip("permissions do not bind here: an administrator, or Windows")
    try:
        assert get(store) == first
    finally:
        verified.chmod(0o755)
