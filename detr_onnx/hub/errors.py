"""Errors for a model that cannot be fetched: huggingface_hub's, translated to ours, and those for wrong files."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from detr_onnx.cache import record_of
from detr_onnx.errors import HubError, OutputError
from detr_onnx.hub.names import HubModel
from detr_onnx.text import one_line

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
                  errno.ENOTDIR, errno.EEXIST}  # fmt: skip


class UnreachableError(HubError):
    """The hub did not answer, or its answer says nothing about the model; a cached copy may be used instead."""


class WrongFileError(HubError):
    """A file of a pinned model is not the pinned one; `snapshot` is the directory with the model's files."""

    snapshot = Path()


@contextlib.contextmanager
def translated_errors(
    library: ModuleType, model: HubModel, endpoint: str | None, models_dir: Path, step: str
) -> Iterator[None]:
    """Turns errors of huggingface_hub, and of the HTTP library below it, into ours; `step` is connect or download."""
    errors, endpoint = library.errors, endpoint or "huggingface.co"
    # requests, httpx or httpx2, by the version of huggingface_hub
    transport = next(
        kind for kind in errors.HfHubHTTPError.__mro__ if not kind.__module__.startswith("huggingface_hub")
    )
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, transport) as error:  # RuntimeError: hf_xet's
        cause = (error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None) or error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status and isinstance(cause, errors.HfHubHTTPError):
            raise _refusal(cause, status, errors, model, endpoint) from error
        found = one_line(cause)
        if getattr(cause, "errno", None) in STORAGE_ERRORS:
            remedy = "make room or give permission there, or set HF_HOME to a directory that can be written"
            raise OutputError(
                f"the cache of models {models_dir} cannot be written", found=found, remedy=remedy
            ) from error
        if isinstance(cause, ValueError | KeyError | TypeError):  # an answer that is not the hub's JSON
            remedy = "check HF_ENDPOINT and the proxy settings"
            raise HubError(f"{endpoint} does not answer as a hub does", found=found, remedy=remedy) from error
        if step == "download":
            what = f"the download of {model.name} from {endpoint} broke off"
            raise UnreachableError(what, found=found, remedy="try again") from error
        raise not_cached(f"{model.name} is not cached and {endpoint} cannot be reached", models_dir, found) from error


def _refusal(error: BaseException, status: int, errors: ModuleType, model: HubModel, endpoint: str) -> HubError:
    """The error to raise for the status of the hub's answer."""
    found = f"status {status}"
    if isinstance(error, errors.RevisionNotFoundError):
        remedy = "check what follows the @, or leave it out"
        return HubError(f"{model.name} has no revision {model.revision} on the hub", remedy=remedy)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        remedy = "accept its terms on its page, then set HF_TOKEN to a token that may read it"
        return HubError(f"{model.name} is not open to everybody", found=found, remedy=remedy)
    if status in (401, 404):
        remedy = "check the name; for a private model set HF_TOKEN to a token that may read it"
        return HubError(f"{endpoint} has no model {model.name}", found=found, remedy=remedy)
    return UnreachableError(
        f"{endpoint} could not serve {model.name}", found=found, remedy="try again in a few minutes"
    )


def not_cached(what: str, models_dir: Path, found: str | None = None) -> HubError:
    """The error for a model that is neither cached nor reachable."""
    remedy = f"connect once (the model is then kept in {models_dir}), or pass a directory that holds it"
    return UnreachableError(what, found=found, remedy=remedy)


def wrong_file(model: HubModel, snapshot: Path, file: str) -> WrongFileError:
    """The error for a file of a snapshot that is not the pinned one."""
    found, pin = record_of(snapshot / file), model.files[file]
    error = WrongFileError(
        f"{file} of {model.name} is not the pinned file",
        found=f"{found.bytes} bytes with sha256 {found.sha256}",
        expected=f"{pin.bytes} bytes with sha256 {pin.sha256}",
        remedy="download it again; if it stays so, the hub or HF_ENDPOINT serves another file",
    )
    error.snapshot = snapshot
    return error
