"""Names of models on the hub, and the models whose files are pinned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detr_onnx.checkpoint.files import PICKLES
from detr_onnx.errors import HubError
from detr_onnx.paths import exists

COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w.][\w./-]{0,199}))?", re.ASCII)
FILE_SUFFIXES = (".onnx", ".safetensors", ".json", *PICKLES)


@dataclass(frozen=True)
class PinnedFile:
    """The size and the sha256 that a file must have."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class HubModel:
    """A model at a revision; `files` is empty unless the files are pinned."""

    name: str
    revision: str
    files: Mapping[str, PinnedFile] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"models--{self.name.replace('/', '--')}"


PINNED = (
    HubModel(
        "facebook/detr-resnet-50",
        "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b",
        {
            "config.json": PinnedFile(4592, "e7bcf3992363f27717a863f14b193140ad2e41d4338ee012730e58a92cae17e6"),
            "preprocessor_config.json": PinnedFile(
                290, "0673fea2a6d3cf92cdbab3c7426c0ecdf8a4729a2a4d5199033dcd66a2b8759b"
            ),
            "model.safetensors": PinnedFile(
                166587896, "830f5e2eeaada8c8c8281779dcc8ab12833972eb8514ed0a35be6c1d4420ad81"
            ),
        },
    ),
)
"""Models whose name without a revision means this commit, with these files."""


def is_hub_name(text: str) -> bool:
    """Whether the text is `owner/name` or `owner/name@revision`, and neither an existing path nor a file's name."""
    name = NAME.fullmatch(text)
    if name is None or ".." in text or "--" in name[1] or text.lower().endswith(FILE_SUFFIXES):
        return False
    return not exists(text)


def parse_name(text: str, pinned: Sequence[HubModel]) -> HubModel:
    """The model of a name. A pinned model may be named with its commit, of which seven digits are enough."""
    match = NAME.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise HubError(f"{text!r} is not a name of the hub", expected="owner/name or owner/name@revision")
    name, revision = match[1], match[2]
    for model in pinned:
        if model.name == name and (not revision or (len(revision) >= 7 and model.revision.startswith(revision))):
            return model
    return HubModel(name, revision or "main")
