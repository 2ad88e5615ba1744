"""From what the user calls a model to an engine: places, choices, the cache of graphs, and what describes a file."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detr_onnx.cache import list_entries
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import CheckpointError, EngineError, ModelFileError, OutputError, UsageError
from detr_onnx.exporter import onnx_file
from detr_onnx.exporter.onnx_file import ExportOptions
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.graph_cache import digest
from detr_onnx.models.load import Source
from detr_onnx.models.metadata import Description
from detr_onnx.models.open import choose, locate, open_model
from tests.small_model import CONFIG, LABELS, PREPROCESSING, write_config, write_foreign_onnx, write_small_checkpoint

SMALL = Preprocessing.from_json(PREPROCESSING, "the tests")
BUILDER = """
import logging, sys
from detr_onnx.engines.options import EngineOptions
from detr_onnx.models.open import open_model
logging.basicConfig(level=logging.INFO)
print(open_model(sys.argv[1], EngineOptions("onnxruntime"), cache_dir=sys.argv[2]).labels[0])
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DETR_ONNX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch) -> list[Path]:
    """Where graphs were written."""
    written, real = [], onnx_file.write_onnx
    monkeypatch.setattr(onnx_file, "write_onnx", lambda path, *a, **k: (written.append(path), real(path, *a, **k)))
    return written


def absent(monkeypatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


# Places


def test_an_empty_name_is_no_model():
    with pytest.raises(UsageError, match="there is no model ''"):
        locate("")


def test_a_directory_a_safetensors_and_an_onnx_file_are_located(small, graph, tmp_path):
    weights = small / "model.safetensors"
    assert locate(small) == locate(str(small)) == Source(small, None)
    assert locate(weights) == Source(weights, None)
    assert locate(graph) == Source(None, graph)
    assert locate("gone.ONNX") == Source(None, Path("gone.ONNX"))


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_a_directory_with_a_graph_alone_is_that_graph(tmp_path, place):
    (tmp_path / "onnx").mkdir()
    (tmp_path / place).write_bytes(b"")
    assert locate(tmp_path) == Source(None, tmp_path / place)


def test_of_a_directory_with_both_the_weights_count(small, tmp_path):
    both = shutil.copytree(small, tmp_path / "both")
    (both / "model.onnx").write_bytes(b"another model's")
    assert locate(both) == Source(both, None)
    assert open_model(both, EngineOptions("onnxruntime")).labels == LABELS


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("demi", "did you mean demo?"),
        ("demo-panoptc", "did you mean demo-panoptic?"),
        ("detr-resnet-50", "did you mean facebook/detr-resnet-50?"),
        ("weights/my.safetensors", "check the spelling"),
        ("x" * 5000, "check the spelling"),
    ],
)
def test_a_model_that_is_nowhere_is_told(name, remedy):
    with pytest.raises(UsageError, match="there is no model") as refused:
        locate(name)
    assert str(refused.value).endswith(remedy)
    assert len(str(refused.value)) < 400


def test_a_directory_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for engine in ("numpy", "onnxruntime"):
        with pytest.raises(
            CheckpointError, match=r"holds no checkpoint: found notes.txt, expected config.json and model"
        ):
            open_model(tmp_path, EngineOptions(engine))


@pytest.mark.parametrize("model", [None, 5, b"demo", ["demo"]])
def test_what_is_neither_a_name_nor_a_path_is_told(model):
    with pytest.raises(UsageError, match=f"the model is not a name or a path: found a {type(model).__name__}"):
        locate(model)


# Choices


def options(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name in ("engine", "providers", "precision", "threads")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "torch"}, "no such engine: found 'torch', expected one of auto, openvino, onnxruntime, numpy"),
        (
            {"precision": "int3"},
            "no such precision: found 'int3', expected one of fp32, bf16, bf16-mixed, bf16-backbone, fp16, fp16-",
        ),
        ({"threads": 0}, "the number of threads is wrong: found 0"),
        ({"threads": -1}, "the number of threads is wrong: found -1"),
        ({"threads": 100_000}, "the number of threads is wrong: found 100000, expected a whole number from 1 to 1024"),
        ({"threads": "2"}, "the number of threads is wrong: found '2'"),
        ({"threads": 2.5}, "the number of threads is wrong: found 2.5"),
        ({"config": Path("gone")}, "there is no config gone"),
        ({"engine": "numpy", "threads": 2}, "engine numpy does not take threads: found 2; set OMP_NUM_THREADS"),
        (
            {"engine": "numpy", "providers": ["CPU"]},
            "engine numpy does not take providers: found CPU; set OMP_NUM_THREADS",
        ),
    ],
)
def test_a_wrong_argument_names_what_there_is(small, arguments, message):
    with pytest.raises(UsageError, match=message):
        open_model(small, EngineOptions(**options(arguments)), **{k: v for k, v in arguments.items() if k == "config"})


def test_numpy_does_not_run_a_graph(graph):
    with pytest.raises(EngineError, match=r"engine numpy runs checkpoints: found the graph .*small.onnx; give"):
        open_model(graph, EngineOptions("numpy"))


@pytest.mark.parametrize(
    ("missing", "source", "providers", "engine"),
    [
        (["openvino"], Source(Path("c"), None), None, "onnxruntime"),
        (["openvino", "onnx"], Source(Path("c"), None), None, "numpy"),
        (["openvino", "onnxruntime"], Source(Path("c"), None), None, "numpy"),
        (["openvino", "onnx"], Source(Path("c"), Path("g.onnx")), None, "onnxruntime"),
        (["openvino", "onnxruntime"], Source(Path("c"), Path("g.onnx")), None, "numpy"),
        (["openvino", "onnxruntime", "onnx"], Source(None, Path("g.onnx")), None, "onnxruntime"),
        (["openvino", "onnxruntime", "onnx"], Source(Path("c"), None), ["CPU"], "onnxruntime"),
    ],
)
def test_auto_takes_the_fastest_engine_that_can_run_the_model(monkeypatch, missing, source, providers, engine):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    absent(monkeypatch, *missing)
    assert choose(source, EngineOptions(providers=providers)).name == engine


def test_without_the_package_onnx_auto_runs_a_checkpoint_in_numpy_and_says_so(small, monkeypatch, caplog):
    absent(monkeypatch, "onnx")
    with caplog.at_level(logging.INFO, "detr_onnx"):
        assert open_model(small).engine.title.startswith("numpy ")
    assert "engine numpy, which is slower: " in caplog.text
    assert "onnxruntime needs onnx" in caplog.text


def test_without_the_package_onnx_asking_for_onnx_runtime_says_what_to_install(small, monkeypatch):
    absent(monkeypatch, "onnx")
    with pytest.raises(EngineError, match=r"needs the package onnx.*run pip install 'detr-onnx\[export\]'"):
        open_model(small, EngineOptions("onnxruntime"))


@pytest.mark.parametrize("arguments", [{"engine": "onnxruntime"}, {"providers": ["CPU"]}])
def test_without_onnx_runtime_asking_for_it_says_what_to_install(graph, monkeypatch, arguments):
    absent(monkeypatch, "onnxruntime")
    with pytest.raises(EngineError, match="run pip install onnxruntime"):
        open_model(graph, EngineOptions(**arguments))


def test_a_graph_of_another_precision_than_the_requested_one_is_an_error(graph):
    assert open_model(graph, EngineOptions(precision="fp32")).labels == LABELS
    with pytest.raises(EngineError, match="the graph does not have precision int8: found fp32"):
        open_model(graph, EngineOptions("onnxruntime", precision="int8"))


def test_a_graph_that_does_not_say_its_precision_is_not_called_what_was_requested(foreign):
    write_config(foreign.parent.parent)
    assert open_model(foreign, EngineOptions("onnxruntime", precision="fp32")).labels == LABELS
    for precision in ("fp16", "int8"):
        message = f"does not have precision {precision}: found no precision in its metadata; leave the precision out"
        with pytest.raises(EngineError, match=message):
            open_model(foreign, EngineOptions("onnxruntime", precision=precision))


def test_auto_takes_an_engine_that_has_the_requested_precision(small):
    assert choose(Source(small, None), EngineOptions(precision="fp16")).name == "onnxruntime"
    assert choose(Source(small, None), EngineOptions(precision="bf16-backbone")).name == "openvino"
    assert choose(Source(None, Path("m.xml")), EngineOptions()).name == "openvino"
    assert choose(Source(None, Path("m.ort")), EngineOptions()).name == "onnxruntime"


def test_a_precision_that_only_another_engine_has_is_an_error_that_names_it(small):
    with pytest.raises(
        EngineError, match="numpy has no precision bf16: expected one of fp32; use engine openvino or onnxruntime"
    ):
        open_model(small, EngineOptions("numpy", precision="bf16"))


# The cache of graphs


def test_a_graph_is_written_once_and_found_again(small, builds, own_cache):
    for _ in range(3):
        assert open_model(small, EngineOptions("onnxruntime")).labels == LABELS
    assert len(builds) == 1
    (entry,) = list_entries()
    assert entry.path.parent.parent == own_cache
    assert (entry.path / "model.onnx").exists()


def test_a_directory_given_for_the_cache_wins(small, builds, tmp_path):
    open_model(small, EngineOptions("onnxruntime"), cache_dir=tmp_path / "mine")
    assert len(list_entries(tmp_path / "mine")) == 1
    assert list_entries() == []


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "overwritten", "gone"])
def test_a_damaged_graph_is_written_again(small, builds, name, harm):
    open_model(small, EngineOptions("onnxruntime"))
    file = list_entries()[0].path / name
    content = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if harm == "cut" else b"\0" * len(content))
    assert open_model(small, EngineOptions("onnxruntime")).labels == LABELS
    assert len(builds) == 2
    assert len(list_entries()) == 1


def test_other_weights_or_configs_are_another_graph(small, tmp_path):
    digests = {digest(small)}
    for name in ("config.json", "preprocessor_config.json"):
        other = shutil.copytree(small, tmp_path / name)
        (other / name).write_text((other / name).read_text() + " ")
        digests.add(digest(other))
        (other / name).unlink()
        digests.add(digest(other))
    digests.add(digest(write_small_checkpoint(tmp_path / "seed", seed=2)))
    assert len(digests) == 6


def test_a_checkpoint_that_cannot_be_built_leaves_nothing_behind(small, tmp_path, own_cache):
    broken = shutil.copytree(small, tmp_path / "broken")
    (broken / "config.json").write_text(json.dumps(json.loads((broken / "config.json").read_text()) | {"d_model": 32}))
    with pytest.raises(CheckpointError, match="does not fit its config"):
        open_model(broken, EngineOptions("onnxruntime"))
    assert list_entries() == []


def full(*_: object, **__: object) -> None:
    raise OutputError("a draft cannot be written", found="No space left on device", remedy="choose another file")


def stream_error(*_: object, **__: object) -> None:
    raise RuntimeError("basic_ios::clear: iostream error")


def failed_write(*_: object, **__: object) -> None:
    raise ModelFileError("cannot load", found="Failed to write external initializers", remedy="export it again")


@pytest.mark.parametrize(
    ("engine", "fails", "how", "found"),
    [
        ("onnxruntime", "detr_onnx.exporter.onnx_file.write_onnx", full, "No space left"),
        ("onnxruntime", "detr_onnx.engines.optimized_graph.new_session", failed_write, "Failed to write"),
        ("openvino", "openvino.save_model", stream_error, "basic_ios::clear"),
        ("openvino", "openvino.serialize", stream_error, "basic_ios::clear"),
    ],
)
def test_a_disk_that_is_full_is_an_error_of_the_cache_whoever_writes(
    small, tmp_path, monkeypatch, engine, fails, how, found
):
    pytest.importorskip(engine)
    if engine == "openvino":
        import openvino

        monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: ["FP32", "BF16"])
    monkeypatch.setattr(fails, how)
    message = (
        rf"the cache directory {tmp_path}\S* cannot be written: found {found}.*; free some space or allow writing there"
    )
    with pytest.raises(OutputError, match=message):
        open_model(small, EngineOptions(engine), cache_dir=tmp_path)
    assert list_entries(tmp_path) == []


def test_two_processes_that_build_at_once_do_no_harm(small, tmp_path):
    pytest.importorskip("onnx")
    command = [sys.executable, "-c", BUILDER, str(small), str(tmp_path / "shared")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [(out, code) for (out, _), code in ended] == [(f"{LABELS[0]}\n", 0)] * 2
    assert sum("writing the ONNX graph" in notes for (_, notes), _ in ended) == 1
    assert len(list_entries(tmp_path / "shared")) == 1


# What describes a model


def test_what_describes_nothing_is_detr_itself(tmp_path):
    nothing = Description.of(tmp_path)
    assert nothing == Description(None, None)
    assert nothing.read_config() is None
    assert nothing.read_preprocessing() == Preprocessing()


def test_a_graph_of_ours_describes_itself_wherever_it_lies(graph, tmp_path):
    moved = shutil.copy(graph, tmp_path / "moved.onnx")
    (tmp_path / "config.json").write_text("not even JSON")
    opened = open_model(moved)
    assert (opened.labels, opened.preprocessing) == (LABELS, SMALL)


def test_damaged_metadata_is_told(graph, tmp_path):
    onnx = pytest.importorskip("onnx")
    for key, wrong in (("detr_onnx.config", '{"labels": 3}'), ("detr_onnx.preprocessing", '{"size": -1}')):
        for text in ("", "{", "[]", "{}x", "3", wrong):
            model = onnx.load(graph)
            next(item for item in model.metadata_props if item.key == key).value = text
            onnx.save(model, tmp_path / "m.onnx")
            with pytest.raises(ModelFileError, match=r"has metadata that cannot be read: .*; export the file again"):
                open_model(tmp_path / "m.onnx")


@pytest.fixture
def foreign(small, tmp_path) -> Path:
    """Another exporter's file, alone in a directory."""
    (tmp_path / "theirs" / "onnx").mkdir(parents=True)
    return write_foreign_onnx(tmp_path / "theirs" / "onnx" / "model.onnx", small, ExportOptions(mask=False))


def test_a_foreign_graph_alone_asks_for_its_config(foreign):
    with pytest.raises(ModelFileError, match=r"does not contain its class names: .* no config.json .*--config"):
        open_model(foreign)


def test_a_foreign_graph_finds_the_config_of_its_repository(foreign):
    write_config(foreign.parent.parent)
    for name in (foreign, foreign.parent.parent):
        opened = open_model(name)
        assert (opened.labels, opened.preprocessing) == (LABELS, SMALL)


def test_a_config_further_up_is_not_taken(foreign):
    flat = foreign.parent.parent / "sub" / "model.onnx"
    flat.parent.mkdir()
    shutil.copy(foreign, flat)
    write_config(foreign.parent.parent)
    with pytest.raises(ModelFileError, match="does not contain its class names"):
        open_model(flat)


@pytest.mark.parametrize("named", ["directory", "config.json", "another name"])
def test_a_config_can_be_given(foreign, tmp_path, named):
    place = write_config(tmp_path / "described")
    if named != "directory":
        place = place / "config.json"
    if named == "another name":
        place = place.rename(place.with_name("small.json"))
    opened = open_model(foreign, config=place)
    assert (opened.labels, opened.preprocessing) == (LABELS, SMALL)


def test_labels_given_need_no_config(foreign):
    names = tuple("abcdefg")
    assert open_model(foreign, labels=names).labels == names
    (foreign.parent.parent / "config.json").write_text("{}")  # of something else
    assert open_model(foreign, labels=names).preprocessing == Preprocessing()


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
@pytest.mark.parametrize("labels", [(), ("cat",), (*LABELS, "dog")])
def test_names_that_do_not_fit_the_classes_are_an_error_at_once(small, engine, labels):
    with pytest.raises(ModelFileError, match=f"do not fit the model: found {len(labels)} names for 7 classes"):
        open_model(small, EngineOptions(engine), labels=labels)


def test_a_config_of_other_classes_is_an_error_at_once(foreign, tmp_path):
    place = write_config(tmp_path / "described")
    fields = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(fields | {"id2label": {"0": "cat"}}))
    with pytest.raises(ModelFileError, match=r"found 1 names for 7 classes; give the config.json that belongs to it"):
        open_model(foreign, config=place)


@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_a_bare_file_of_weights_takes_the_config_that_is_given(small, tmp_path, engine):
    bare = Path(shutil.copy(small / "model.safetensors", tmp_path / "weights.safetensors"))
    opened = open_model(bare, EngineOptions(engine), config=small)
    assert (opened.labels, opened.preprocessing) == (LABELS, SMALL)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type 'bert'"):
        open_model(bare, EngineOptions(engine))
    assert open_model(bare, EngineOptions(engine), config=small / "config.json").labels == LABELS


@pytest.mark.parametrize("text", ["", "null", "[1]", '"x"', "{", "\xff", "[" * 5000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_config_that_is_none_is_told(small, tmp_path, name, text):
    broken = shutil.copytree(small, tmp_path / "broken")
    (broken / name).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError) as refused:
        open_model(broken, EngineOptions("numpy"))
    assert name in str(refused.value)


def test_the_config_of_these_tests_has_labels_worth_testing():
    assert CONFIG.labels == LABELS
