"""Files of results: checked before the work begins, and written so that nothing of a result is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detr_onnx.cli.console import STDOUT, check_keeps_inputs, check_output_file, print_result, write_file
from detr_onnx.errors import ModelFileError, OutputError, UsageError
from detr_onnx.paths import is_directory, is_file

MODEL_JSON = ("config.json", "preprocessor_config.json", "processor_config.json")
"""The .json files that a model in Hugging Face's layout is read from, beside indices of its weights."""


def check_destination(
    path: Path | None, option: str, models: Sequence[str | None], *inputs: Path | None, or_stdout: bool = False
) -> None:
    """Raises OutputError if a file of results cannot be written, or is one of the files that are read.

    Args:
        path: the file; None for no file.
        option: the option that names it.
        models: that are read, as `--model` names them.
        inputs: other files that are read.
        or_stdout: whether - means stdout, as `write_results` takes it; otherwise it is a UsageError.
    """
    if path is not None and not (or_stdout and str(path) == STDOUT):
        check_is_not_stdout(path, option)
        check_output_file(path)
        of_models = [file for model in models if model for file in files_of_model(model)]
        check_keeps_inputs(path, option, *inputs, *of_models)


def check_is_not_stdout(path: Path, option: str) -> None:
    """Raises UsageError for -, where stdout has other results or the files are several."""
    if str(path) == STDOUT:
        raise UsageError(f"{option} does not write to stdout", found=repr(STDOUT), remedy="name a file or a directory")


def files_of_model(model: str) -> list[Path]:
    """The local files that a model may be read from, whether they exist or not."""
    from detr_onnx.engines.external_data import external_files

    path = Path(model)
    if is_directory(path):
        with contextlib.suppress(OSError):
            return [file for file in path.iterdir() if _belongs_to_model(file)]
    weights: list[Path] = []
    if is_file(path):
        with contextlib.suppress(OSError, ValueError, ModelFileError):  # which opening the model tells
            weights = external_files(path)
    return [path, *weights]


def _belongs_to_model(file: Path) -> bool:
    return file.suffix != ".json" or file.name in MODEL_JSON or file.name.endswith(".index.json")


def write_results(text: str, files: Mapping[Path, Callable[[], str]]) -> None:
    """Prints the text and writes the files. Each is tried, whatever happens to the others.

    Args:
        text: for stdout, unless one of the files is -, which is printed in its place.
        files: the content of each file, which is made when its turn comes.

    Raises:
        Exception: the last of those that were raised.
    """
    with contextlib.ExitStack() as last_first:
        for path, content in reversed([*files.items()]):
            last_first.callback(_write, path, content)
        if Path(STDOUT) not in files:
            last_first.callback(print_result, text)


def failure_of(write: Callable[[], None]) -> OutputError | None:
    """Writes a result; the error, if it cannot be written, is for the caller to raise once nothing else is lost."""
    try:
        write()
    except OutputError as error:
        return error
    return None


def write_result(path: Path, text: str) -> None:
    """Writes the text to a file or, for -, to stdout."""
    if str(path) == STDOUT:
        print_result(text)
    else:
        write_file(path, text)


def _write(path: Path, content: Callable[[], str]) -> None:
    write_result(path, content())
