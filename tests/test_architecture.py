"""Imports go down the layers, heavy packages stay out, and files and functions stay short."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import detr_onnx
from detr_onnx import defaults, errors
from detr_onnx.engines.table import ENGINES
from detr_onnx.errors import DetrError
from detr_onnx.image.decode import ImageSource

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "detr_onnx"
FILES = sorted(PACKAGE.rglob("*.py"))
DIRECTORIES = (".ci/*", ".github/**/*", "benchmarks/**/*", "detr_onnx/**/*", "docs/*", "examples/**/*", "export/**/*",
               "tests/**/*", "weights/**/*")  # fmt: skip
"""Where files are that pages name: what is tracked, without environments and build directories."""
LAYERS = (
    ("errors", "defaults", "text", "paths", "read_ahead", "locks", "signals", "file_kinds"),
    ("arguments", "json_input", "labels", "atomic", "unexpected_errors"),
    ("network", "cache"),
    ("checkpoint", "image", "notebook", "rle"),
    ("boxes", "masks"),
    ("detections",),
    ("engines", "hub", "video"),
    ("panoptic", "attention"),
    ("evaluation",),
    ("exporter",),
    ("models",),
    ("pipeline",),
    ("detector",),
    ("bench", "jobs", "server", "verify"),
    ("cli", "ray"),
)
"""Packages and modules of detr_onnx, lowest first. Each imports from the layers below and from itself."""

ANYWHERE_BANNED = {"torch", "torchvision", "transformers", "optimum", "timm", "safetensors", "scipy", "cv2"}
MAY_IMPORT = {
    "bench/baselines/transformers_models": {"torch", "transformers"},  # it runs in environments that have them
    "checkpoint/convert_pth": {"torch"},
}
ONLY_IN_FUNCTIONS_OF = {
    "torch": {"bench/baselines/transformers_models", "checkpoint/convert_pth"},
    "transformers": {"bench/baselines/transformers_models"},
    "onnx": {"exporter/proto", "engines/optimized_graph"},
    "onnxruntime": {"engines/onnxruntime", "bench/baselines/exported_graphs"},
    "huggingface_hub": {"hub/download"},
    "openvino": {
        "engines/openvino_package",
        "engines/bfloat16",
        "engines/openvino_nodes",
        "bench/baselines/exported_graphs",
    },
    "pycocotools": {"evaluation/average_precision"},
    "tqdm": {"cli/console"},
    "supervision": {"detections", "video/track"},
    "trackers": {"video/track"},
    "av": {"video/pyav"},
    "pandas": {"detections"},
    "pyarrow": {"jobs/rows"},
}
ONLY_IN_THE_SERVER = {
    "starlette",
    "uvicorn",
    "h11",
    "prometheus_client",
    "anyio",
    "python_multipart",
}  # imported at the top there, as in any server
LONGEST_FILE, LONGEST_FUNCTION = 300, 45
LONG_FILES = {}


def module_of(file: Path) -> str:
    """`network/detr` for detr_onnx/network/detr.py, `engines` for detr_onnx/engines/__init__.py."""
    name = file.relative_to(PACKAGE).with_suffix("").as_posix()
    return name.removesuffix("/__init__")


TREES = {module_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


TYPES_ONLY = "TYPE_CHECKING"


def layer_of(module: str) -> int:
    """The layer of a module, by its package."""
    package = module.split("/")[0]
    return next(level for level, packages in enumerate(LAYERS) if package in packages)


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every dotted name that is imported, with its statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where things are"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def without_types_only(tree: ast.AST) -> ast.Module:
    """The tree without what only a type checker imports."""

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if ast.unparse(node.test) == TYPES_ONLY else node

    return Drop().visit(ast.parse(ast.unparse(tree)))


def own_imports(tree: ast.AST) -> set[str]:
    """The modules of this package that a module imports at run time."""
    dotted = [name.split(".")[1:] for name, _ in imports(without_types_only(tree)) if name.startswith("detr_onnx.")]
    candidates = ("/".join(parts[:n]) for parts in dotted for n in (len(parts), len(parts) - 1) if n)
    return {name for name in candidates if name in TREES}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Imports


INNER = sorted(set(TREES) - {"__init__", "__main__"})


@pytest.mark.parametrize("module", INNER)
def test_imports_go_down_the_layers(module):
    package = module.split("/")[0]
    imported = {name.split("/")[0] for name in own_imports(TREES[module])} - {package, "__init__"}
    assert {name for name in imported if layer_of(name) >= layer_of(package)} == set()


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: own_imports(tree) - {"__init__", module} for module, tree in TREES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_the_architecture_page_shows_these_layers():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| ((?:`[\w/]+`,? ?)+) \|", text, re.MULTILINE)
    assert [tuple(re.findall(r"`([\w/]+)`", row)) for row in rows] == list(LAYERS)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_that_the_pages_for_contributors_name_exist(page):
    """By their path in the checkout or in the package, or by the name alone."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"[`(]((?:[\w.]+/)*[\w.]+\.(?:py|yml|toml|md)|(?:[\w.]+/)+)[`)]", text)
    assert len(named) > 5
    there = {path.relative_to(ROOT).as_posix() for top in ("*", *DIRECTORIES) for path in ROOT.glob(top)}
    ends = tuple(f"/{path}" for path in there)
    assert [name for name in named if not any(end.endswith(f"/{name.strip('/')}") for end in ends)] == []


@pytest.mark.parametrize("package", ["checkpoint", "engines", "evaluation", "exporter", "image", "models", "network"])
def test_a_package_lists_its_modules(package):
    listed = set(re.findall(r"\w+", ast.get_docstring(TREES[package])))
    modules = {module.split("/")[1] for module in TREES if module.startswith(f"{package}/")}
    assert modules - listed == set()


@pytest.mark.parametrize("module", sorted(TREES))
def test_heavy_packages_are_imported_only_where_they_are_needed(module):
    tree = TREES[module]
    lazy = {id(node) for function in functions(tree) for node in ast.walk(function)}
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == TYPES_ONLY
        for node in ast.walk(block)
    }
    for name, node in imports(tree):
        top = name.split(".")[0]
        assert top not in ANYWHERE_BANNED - MAY_IMPORT.get(module, set())
        assert top not in ONLY_IN_THE_SERVER or module.startswith("server/"), f"{module} imports {top}"
        if name.startswith("detr_onnx.server") and not module.startswith("server"):
            assert id(node) in lazy, f"{module} imports the server when it is imported itself"
        if top in ONLY_IN_FUNCTIONS_OF and id(node) not in for_types:
            assert module in ONLY_IN_FUNCTIONS_OF[top], f"{module} imports {top}"
            assert id(node) in lazy, f"{module} imports {top} when it is imported itself"


def test_what_runs_in_the_environments_of_others_imports_nothing_else_of_ours():
    alone = {module for module in TREES if module.startswith("bench/baselines")}
    assert len(alone) > 1
    assert {name for module in alone for name in own_imports(TREES[module])} <= alone


def test_importing_the_package_pulls_in_nothing():
    loaded = python("import detr_onnx, sys; print(*sys.modules)").split()
    assert not {"numpy", "onnxruntime", "PIL", "onnx", "huggingface_hub"} & set(loaded)


def test_importing_the_detector_pulls_in_numpy_and_pillow_but_no_engine_hub_or_plug_in():
    loaded = set(python("from detr_onnx import Detector; import sys; print(*sys.modules)").split())
    assert {"numpy", "PIL.Image"} <= loaded
    assert not {"onnxruntime", "onnx", "huggingface_hub", "requests", "httpx", "openvino"} & loaded
    assert not {"importlib.metadata", "PIL.ImageDraw", "PIL.ImageFont"} & loaded  # 6 MB
    assert [name for name in loaded if name.startswith("PIL.") and name.endswith("ImagePlugin")] == []


def test_one_image_loads_no_module_that_only_other_work_needs():
    code = """
import sys
from detr_onnx.cli.main import main
main(["detect", "examples/demo-scene.jpg", "-m", "weights/demo/model.onnx", "--engine", "onnxruntime"])
print(*sys.modules)
"""
    needed = set(python("import numpy, onnxruntime, PIL.Image, sys; print(*sys.modules)").split())
    loaded = set(python(code).splitlines()[-1].split()) - needed
    assert "detr_onnx.engines.onnxruntime" in loaded
    unneeded = {"concurrent.futures", "difflib", "importlib.metadata", "random", "tempfile", "xml.parsers.expat"}
    assert not (unneeded | {"PIL.ImageDraw", "PIL.ImageFont", "onnx", "openvino", "huggingface_hub"}) & loaded


def test_the_version_is_told_without_numpy():
    code = """
import sys
from detr_onnx.cli.main import main
try:
    main(["--version"])
except SystemExit as ended:
    print(ended.code, *sys.modules)
"""
    first, second = python(code).splitlines()
    assert first == f"detr-onnx {detr_onnx.__version__}"
    assert second.split()[0] == "0"
    assert not {"numpy", "PIL", "onnxruntime"} & set(second.split())


# Names


def test_the_public_names_are_the_detector_what_it_returns_and_every_error():
    kinds = [kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DetrError)]
    names = ["Box", "Detection", "Detections", "Detector", "ImageSource", "__version__", *kinds]
    assert detr_onnx.__all__ == dir(detr_onnx) == sorted(names)
    assert all(getattr(detr_onnx, kind) is getattr(errors, kind) for kind in kinds)
    assert detr_onnx.Detector.__name__ == "Detector"
    assert detr_onnx.ImageSource is ImageSource


def test_a_name_that_the_package_does_not_have_says_which_it_has():
    with pytest.raises(AttributeError, match=r"no attribute 'Detektor'; it has Box, .*Detector"):
        detr_onnx.Detektor  # noqa: B018 - the look-up is what is tested


def test_the_engines_and_precisions_of_the_command_line_are_those_of_the_table():
    assert (defaults.DEFAULT_ENGINE, *ENGINES) == defaults.ENGINES
    assert ENGINES["onnxruntime"].precisions == (*defaults.EXPORT_PRECISIONS, "bf16")


def test_the_version_stands_in_one_place_and_the_changelog_has_it():
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in pyproject
    assert not re.search(r"^version\s*=", pyproject, re.MULTILINE)
    texts = [file.read_text(encoding="utf-8") for file in FILES]
    assert sum(f'"{detr_onnx.__version__}"' in text for text in texts) == 1
    assert f"## {detr_onnx.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_installed_distribution_has_the_version_of_the_source():
    try:
        installed = importlib.metadata.version("detr-onnx")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert installed == detr_onnx.__version__


# Manner


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_file_is_too_long(module):
    file = PACKAGE / f"{module}.py" if (PACKAGE / f"{module}.py").exists() else PACKAGE / module / "__init__.py"
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE or module in LONG_FILES


def test_the_list_of_long_files_holds_no_short_one():
    lines = {module: len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()) for module in LONG_FILES}
    assert {module for module, count in lines.items() if count <= LONGEST_FILE} == set()


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_function_is_too_long(module):
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(TREES[module]) if f.end_lineno}
    assert {name: count for name, count in long.items() if count > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_function_takes_keywords_that_it_does_not_name(module):
    assert [f.name for f in functions(TREES[module]) if f.args.kwarg] == []


PROTOCOLS = {"Protocol", "Protocol[V]"}
RECORDS = {"NamedTuple", "TypedDict", "Generic[V]"}
IN_SEVERAL_FILES = {"Recorder", "MaskRecorder", "Pipeline"}  # the bases of OnnxOps, and of Detector
CLASSES = {module: [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)] for module, tree in TREES.items()}
ERRORS = {node.name for classes in CLASSES.values() for node in classes if node.name.endswith("Error")}


@pytest.mark.parametrize("module", sorted(TREES))
def test_only_errors_protocols_records_and_classes_in_several_files_inherit(module):
    allowed = {"Exception", "ValueError", "ImportError"} | ERRORS | PROTOCOLS | RECORDS | IN_SEVERAL_FILES
    assert {ast.unparse(base) for node in CLASSES[module] for base in node.bases} <= allowed


@pytest.mark.parametrize("module", sorted(TREES))
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(TREES[module])
