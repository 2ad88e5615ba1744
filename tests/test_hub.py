"""A model's name becomes a verified directory in Hugging Face's cache; a stand-in plays the hub."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detr_onnx.errors import HubError, MissingPackageError, OutputError
from detr_onnx.hub import fetch, snapshots
from detr_onnx.hub.names import PINNED, HubModel, PinnedFile, is_hub_name
from detr_onnx.hub.snapshots import cached_models
from tests.standin_hub import StandInHub

COMMIT, NEWER = "c" * 40, "d" * 40
FILES: dict[str, bytes | Path] = {
    "config.json": b'{"model_type": "detr"}',
    "preprocessor_config.json": b'{"size": 800}',
    "model.safetensors": random.Random(0).randbytes(300_000),
}
NAME = "owner/name"
PIN = HubModel(NAME, COMMIT, {n: PinnedFile(len(b), hashlib.sha256(b).hexdigest()) for n, b in FILES.items()})
INDEX = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
SHARDED: dict[str, bytes | Path] = {
    "config.json": FILES["config.json"],
    "model.safetensors.index.json": json.dumps(INDEX).encode(),
    "model-00001-of-00002.safetensors": b"first",
    "model-00002-of-00002.safetensors": b"second",
}
NO_NETWORK_S = 5.0  # a refused connection is noticed at once; importing huggingface_hub takes a while
FETCHER = """
from detr_onnx.hub import fetch
print(fetch("owner/name"))
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The stand-in with one model, as the environment's endpoint, without anybody's own settings."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "built"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("NO_PROXY", "*")
    # read once, when huggingface_hub is imported
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    # downloads are written ten megabytes at a time; the files here are smaller
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    with StandInHub() as hub:
        hub.add(NAME, FILES, commit=COMMIT)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Hugging Face's cache of `NAME`."""
    return tmp_path / "hf-home" / "hub" / "models--owner--name"


def get(name: str = NAME, *, pinned: bool = True, offline: bool = False) -> Path:
    return fetch(name, offline=offline, pinned=(PIN,) if pinned else ())


def refusal(name: str = NAME, *, pinned: bool = True, offline: bool = False) -> str:
    """The one line that a fetch ends with."""
    with pytest.raises(HubError) as error:
        get(name, pinned=pinned, offline=offline)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_complete(directory: Path) -> None:
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == FILES


def names_of_bodies(standin: StandInHub) -> list[str]:
    return [request.path.rsplit("/", 1)[-1] for request in standin.bodies()]


def unused_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def uninstall_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


# Names


def test_an_empty_cache_holds_no_models(tmp_path):
    assert cached_models(tmp_path) == []


@pytest.mark.parametrize("text", ["facebook/detr-resnet-50", "a/b@main", "a/b@refs/pr/1", f"a/b@{COMMIT}", "A.b/c_d.e"])
def test_a_name_of_the_hub_is_recognised(text):
    assert is_hub_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "demo", "a/b/c", "/a/b", "./a", "../a", "a/..", "a\\b", "a/b@", "a/b@../c", "a--b/c", "a b/c", "a/b\n", "ä/b"],
)
def test_other_text_is_not_a_name_of_the_hub(text):
    assert not is_hub_name(text)


@pytest.mark.parametrize("text", ["weights/x.safetensors", "models/detr.onnx", "models/DETR.ONNX", "a/" + "b" * 97])
def test_a_mistyped_path_is_not_a_name_of_the_hub(text):
    assert not is_hub_name(text)


def test_an_existing_directory_is_not_a_name_of_the_hub(tmp_path, monkeypatch):
    (tmp_path / "facebook" / "detr-resnet-50").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name("facebook/detr-resnet-50")


def test_fetching_what_is_not_a_name_is_refused():
    assert "expected owner/name" in refusal("no name")


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


# Downloads


def test_a_pinned_model_is_downloaded_once_and_then_needs_no_request(standin, store):
    first = get()
    assert first == store / "snapshots" / COMMIT
    assert_complete(first)
    requests = len(standin.requests)
    assert get() == first
    assert len(standin.requests) == requests
    assert sorted(names_of_bodies(standin)) == sorted(FILES)
    assert [(model.name, model.path) for model in cached_models()] == [("owner/name@ccccccc", first)]
    assert cached_models()[0].bytes == sum(map(len, FILES.values()))


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bars_are_shown_on_a_terminal_only(standin, monkeypatch, terminal):
    shown = io.StringIO()
    shown.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", shown)
    get()
    assert ("Fetching" in shown.getvalue()) == terminal
    assert terminal or not shown.getvalue()


def test_a_pinned_model_can_be_named_with_its_commit_whole_or_short(standin):
    assert get(f"{NAME}@{COMMIT}") == get(f"{NAME}@{COMMIT[:7]}") == get()
    assert len(standin.bodies()) == len(FILES)


def test_only_the_files_of_a_detr_are_downloaded(standin):
    standin.add(NAME, FILES | {"pytorch_model.bin": b"pickle", "README.md": b"", "onnx/model.onnx": b""})
    get(pinned=False)
    assert sorted(names_of_bodies(standin)) == sorted(FILES)


def test_a_cached_model_needs_neither_network_nor_huggingface_hub(standin, monkeypatch):
    first = get()
    get("owner/name@main", pinned=False)
    uninstall_huggingface_hub(monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    requests = len(standin.requests)
    assert get() == get(pinned=False) == get(offline=True) == first
    assert len(standin.requests) == requests


def test_without_huggingface_hub_the_error_says_what_to_install(standin, monkeypatch):
    uninstall_huggingface_hub(monkeypatch)
    with pytest.raises(MissingPackageError, match=r"; run pip install 'detr-onnx\[export\]'$"):
        get()


def test_verifying_a_cached_model_does_not_read_whole_files(standin, monkeypatch):
    first = get()
    monkeypatch.setattr(snapshots, "record_of", None)
    assert get() == first


def test_a_download_is_announced_in_one_line_and_a_cached_model_is_not(standin, caplog):
    caplog.set_level(logging.INFO, "detr_onnx")
    for _ in range(2):
        get()
    messages = [record.message for record in caplog.records if record.name == "detr_onnx.hub.download"]
    assert [message.split(" into ")[0] for message in messages] == ["fetching owner/name@ccccccc"]


def test_the_token_is_sent_to_the_hub(standin, monkeypatch):
    standin.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert_complete(get())


def test_models_go_to_the_directory_that_the_environment_or_the_argument_names(standin, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "variable"))
    assert get().is_relative_to(tmp_path / "variable")
    assert fetch(NAME, cache_dir=tmp_path / "argument", pinned=(PIN,)).is_relative_to(tmp_path / "argument" / "hub")
    assert [entry.name for entry in cached_models(tmp_path / "argument")] == ["owner/name@ccccccc"]


def test_a_trailing_slash_in_the_endpoint_does_no_harm(standin, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", standin.url + "/")
    assert_complete(get())


def test_a_download_that_broke_off_goes_on_at_once_or_at_the_next_call(standin):
    standin.cut_after = 100_000
    try:
        get()
    except HubError as error:  # old versions of huggingface_hub do not retry
        assert "broke off" in str(error) and "try again" in str(error)  # noqa: PT017, PT018
    assert_complete(get())


def test_two_processes_that_fetch_at_once_get_the_same_directory(standin, store):
    command = [sys.executable, "-c", FETCHER]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=60)[0].strip() for process in both}
    assert paths == {str(store / "snapshots" / COMMIT)}
    assert_complete(store / "snapshots" / COMMIT)


def test_sharded_weights_are_downloaded_and_found_again(standin):
    standin.add("owner/sharded", SHARDED)
    directory = get("owner/sharded")
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == SHARDED
    assert get("owner/sharded", offline=True) == directory
    (directory / "model-00002-of-00002.safetensors").unlink()
    assert "is not cached" in refusal("owner/sharded", offline=True)


# Wrong bytes


def test_wrong_bytes_of_a_pinned_file_are_refused_and_downloaded_again(standin):
    standin.wrong_bytes = True
    for _ in range(2):
        sentence = refusal()
        assert PIN.files["config.json"].sha256 in sentence
        assert "22 bytes" in sentence
        assert "download it again" in sentence
    assert "is not the pinned file" in refusal(offline=True)
    standin.wrong_bytes = False
    assert_complete(get())


def test_a_model_that_changed_behind_its_pin_is_refused(standin):
    standin.add(NAME, FILES | {"config.json": b"{}"}, commit=COMMIT)
    assert "found 2 bytes" in refusal()


@pytest.mark.parametrize("size", [300_000, 299_999])
def test_a_damaged_file_of_a_pinned_model_is_downloaded_again_and_the_others_are_not(standin, size):
    weights = get() / "model.safetensors"
    downloads = len(standin.bodies())
    weights.write_bytes(bytes(size))
    assert "is not the pinned file" in refusal(offline=True)
    assert_complete(get())
    assert names_of_bodies(standin)[downloads:] == ["model.safetensors"]


def test_a_lost_file_is_downloaded_again(standin):
    (get() / "model.safetensors").unlink()
    assert "is not cached" in refusal(offline=True)
    assert_complete(get())


def test_a_lost_record_of_verified_files_is_made_again(standin, tmp_path):
    first = get()
    (record,) = (tmp_path / "built" / "verified").iterdir()
    record.write_text("{half")
    requests = len(standin.requests)
    assert get() == first
    assert len(standin.requests) == requests
    assert COMMIT in record.name
    assert PIN.files["model.safetensors"].sha256 in record.read_text()


def test_a_cached_file_that_cannot_be_read_is_one_sentence(standin, tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    get()
    shutil.rmtree(tmp_path / "built")
    monkeypatch.setattr(snapshots, "record_of", refuse)
    assert "config.json cannot be read: found Permission denied" in refusal()


# Models that are not pinned


def test_a_branch_follows_the_hub_and_a_commit_stays(standin):
    assert get(pinned=False).name == COMMIT
    standin.add(NAME, FILES, commit=NEWER)
    assert get(pinned=False).name == NEWER
    requests = len(standin.requests)
    assert get(f"{NAME}@{COMMIT}", pinned=False).name == COMMIT
    assert len(standin.requests) == requests


def test_a_branch_that_has_not_moved_is_not_downloaded_again(standin):
    get(pinned=False)
    get(pinned=False)
    assert len(standin.bodies()) == len(FILES)


def test_a_branch_with_a_slash_and_a_missing_preprocessor_are_fine(standin):
    files = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    standin.add("owner/other", files, revision="refs/pr/1")
    directory = get("owner/other@refs/pr/1")
    assert {path.name for path in directory.iterdir()} == set(files)
    assert get("owner/other@refs/pr/1", offline=True) == directory


@pytest.mark.parametrize("trouble", ["no network", "status 503"])
def test_when_the_hub_does_not_answer_the_cached_branch_is_used_with_a_note(standin, monkeypatch, caplog, trouble):
    first = get(pinned=False)
    if trouble == "no network":
        monkeypatch.setenv("HF_ENDPOINT", unused_address())
    standin.status = 503
    caplog.set_level(logging.INFO, "detr_onnx")
    caplog.clear()
    assert get(pinned=False) == first
    assert "using the cached copy of commit ccccccc" in caplog.records[-1].message


def test_a_repository_with_pickled_weights_only_says_how_to_convert(standin):
    standin.add("owner/old", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    sentence = refusal("owner/old")
    assert "found pytorch_model.bin" in sentence
    assert "run detr-onnx convert pytorch_model.bin -o DIRECTORY" in sentence
    assert standin.bodies() == []


def test_a_repository_with_an_adapter_only_says_how_to_merge_it(standin):
    standin.add(
        "owner/lora", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"", "training_args.bin": b""}
    )
    assert "owner/lora is an adapter, not a whole model" in refusal("owner/lora")
    assert "merge_and_unload()" in refusal("owner/lora")


def test_a_repository_without_weights_or_without_config_says_what_is_missing(standin):
    standin.add("owner/bare", {"config.json": b"{}"})
    assert "has no model.safetensors at main" in refusal("owner/bare")
    standin.add("owner/data", {"README.md": b""})
    assert "has no config.json and no model.safetensors at main" in refusal("owner/data")


# A cache shared with transformers


def snapshot_of_transformers(store: Path, *names: str) -> Path:
    """A snapshot as huggingface_hub leaves it."""
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(COMMIT)
    snapshot = store / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in names:
        content = FILES[name]
        assert isinstance(content, bytes)
        (snapshot / name).write_bytes(content)
    return snapshot


@pytest.mark.parametrize("pinned", [True, False])
def test_a_model_that_transformers_downloaded_is_not_downloaded_again(standin, store, pinned):
    snapshot = snapshot_of_transformers(store, *FILES)
    assert get(pinned=pinned, offline=True) == snapshot
    assert get(pinned=pinned) == snapshot
    assert standin.bodies() == []


@pytest.mark.parametrize("name", [NAME, f"{NAME}@{COMMIT}"])
def test_an_image_processor_that_transformers_did_not_load_is_downloaded(standin, store, name):
    snapshot = snapshot_of_transformers(store, "config.json", "model.safetensors")
    assert get(name, pinned=False, offline=True) == snapshot
    assert_complete(get(name, pinned=False))
    assert names_of_bodies(standin) == ["preprocessor_config.json"]


@pytest.mark.parametrize("names", [("config.json", "preprocessor_config.json"), ("model.safetensors",)])
def test_a_snapshot_without_weights_or_config_is_not_a_model_and_is_completed(standin, store, names):
    snapshot_of_transformers(store, *names)
    assert cached_models() == []
    with pytest.raises(HubError, match="is not cached and requests are switched off"):
        get(pinned=False, offline=True)
    assert_complete(get(pinned=False))
    assert len(cached_models()) == 1


def test_models_of_other_kinds_in_the_shared_cache_are_not_listed(standin, store):
    snapshot = snapshot_of_transformers(store, "config.json", "model.safetensors")
    assert len(cached_models()) == 1
    (snapshot / "config.json").write_text('{"model_type": "llama"}')
    assert cached_models() == []


# Refusals


def test_without_network_and_cache_the_error_comes_soon_and_says_what_to_do(standin, store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    start = time.perf_counter()
    sentence = refusal()
    assert time.perf_counter() - start < NO_NETWORK_S
    assert "cannot be reached" in sentence
    assert "connect once" in sentence
    assert str(store.parent) in sentence
    assert "pass a directory" in sentence


@pytest.mark.parametrize("variable", [True, False])
def test_offline_with_nothing_cached_makes_no_request_and_says_so(standin, store, monkeypatch, variable):
    if variable:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "requests are switched off" in refusal(offline=not variable)
    assert standin.requests == []
    assert not store.exists()


def test_a_hub_that_does_not_answer_times_out(standin, monkeypatch):
    monkeypatch.setattr("detr_onnx.hub.download.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "cannot be reached" in refusal()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/nmae", "check the name"), ("owner/name@v9", "has no revision v9"), (f"owner/name@{NEWER}", "no revision")],
)
def test_a_missing_model_or_revision_asks_to_check_it(standin, name, expected):
    assert expected in refusal(name)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "HF_TOKEN"), (403, "accept its terms"), (404, "check the name"), (500, "few minutes"), (429, "few minutes")],
)
def test_a_status_of_refusal_is_explained_with_a_remedy(standin, status, expected):
    standin.status = status
    sentence = refusal()
    assert f"found status {status}" in sentence
    assert expected in sentence


def test_a_gated_model_says_how_to_get_access(standin):
    standin.gated = True
    assert "accept its terms" in refusal()
    assert "accept its terms" in refusal(pinned=False)


def test_an_endpoint_that_is_not_a_hub_is_told_from_a_missing_model(standin):
    standin.is_hub = False
    sentence = refusal()
    assert "does not answer as a hub does" in sentence
    assert "check HF_ENDPOINT" in sentence


@pytest.mark.parametrize("endpoint", ["localhost:1", "ftp://host", "http://", "http://[::1", "http://a b", "nonsense"])
def test_an_endpoint_that_is_not_an_address_is_named(standin, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert repr(endpoint.rstrip("/")) in refusal()


def test_a_cache_that_cannot_be_written_is_one_sentence(standin, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="file cannot be written"):
        get()


def test_a_disk_that_fills_up_during_a_download_is_one_sentence(standin, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", fill)
    with pytest.raises(OutputError, match=r"No space left.*; make room .*HF_HOME"):
        get()


def test_a_read_only_cache_is_read(standin, store, tmp_path):
    first = get()
    verified = tmp_path / "built" / "verified"
    next(verified.iterdir()).unlink()
    verified.chmod(0o555)
    if os.access(verified, os.W_OK):
        pytest.skip("permissions do not bind here: an administrator, or Windows")
    try:
        assert get() == first
    finally:
        verified.chmod(0o755)
