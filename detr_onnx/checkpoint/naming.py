"""From the names of a file's tensors to canonical names and back, by the tables of `naming_tables.py`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

from detr_onnx.checkpoint.naming_tables import (
    BACKBONES,
    MASK_HEAD_ROOTS,
    PANOPTIC,
    TRANSFORMERS,
    WRAPPERS,
    Names,
    PartNaming,
)

PACKED_PARTS = ("q_proj", "k_proj", "v_proj")  # the order of the rows of in_proj_weight

_DIGITS = re.compile(r"[0-9]+")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Naming:
    """How a file names its tensors: a prefix, the naming of its backbone and that of its transformer."""

    prefix: str
    backbone: PartNaming
    transformer: PartNaming

    @property
    def title(self) -> str:
        return f"backbone in the naming of {self.backbone.title}, transformer of {self.transformer.title}"

    def canonical_name(self, name: str) -> str | None:
        """The canonical name of a file's name; None where this naming has no such name, and for packed projections."""
        prefix = self._prefix_of(name)
        if not name.startswith(prefix):
            return None
        bare = name.removeprefix(prefix)
        return _canonical(self.backbone, bare) or _canonical(self.transformer, bare)

    def name_in_file(self, name: str) -> str:
        """The file's name of a canonical name; q, k and v share one where the file packs them."""
        return self._prefix_of(name) + (
            _in_naming(self.backbone, name) or _in_naming(self.transformer, name) or self._packed(name) or name
        )

    def _prefix_of(self, name: str) -> str:
        """The prefix of a name, canonical or of the file: the mask head of a panoptic model is outside its DETR."""
        outer = self.prefix.removesuffix(PANOPTIC)
        return outer if name.removeprefix(outer).partition(".")[0] in MASK_HEAD_ROOTS else self.prefix

    def _packed(self, name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        attention, _, part = module.rpartition(".")
        if part not in PACKED_PARTS:
            return None
        packed = _renamed(_rules(self.transformer)["pack"], attention)
        return f"{packed}.in_proj_{leaf}" if packed else None


def detect_naming(names: Collection[str]) -> Naming:
    """The naming that explains the most of these names; of equals, the one with the shortest prefix."""
    return max((_naming_with(prefix, names) for prefix in _prefixes(names)), key=lambda scored: scored[0])[1]


def _prefixes(names: Collection[str]) -> list[str]:
    """No prefix, and the wrappers' prefixes that at least half of the names have, shortest first."""
    prefixes = [""]
    for prefix in prefixes:  # grows while it is read: wrappers may be nested
        for wrapper in WRAPPERS:
            count = sum(name.startswith(prefix + wrapper) for name in names)
            if count and count >= len(names) / 2:
                prefixes.append(prefix + wrapper)
    return prefixes


def _naming_with(prefix: str, names: Collection[str]) -> tuple[int, Naming]:
    """The naming with this prefix whose parts each explain the most names, and how many they explain."""
    modules = (name.removeprefix(prefix).rpartition(".")[0] for name in names if name.startswith(prefix))
    skeletons = Counter(map(_skeleton, modules))

    def explained(naming: PartNaming) -> int:
        return sum(skeletons[skeleton] for skeleton in _rules(naming)["read"])

    backbone, transformer = max(BACKBONES, key=explained), max(TRANSFORMERS, key=explained)
    return explained(backbone) + explained(transformer), Naming(prefix, backbone, transformer)


def without_wrappers(name: str) -> str:
    """A name without the prefixes of wrappers."""
    while wrapper := next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), None):
        name = name.removeprefix(wrapper)
    return name


def _canonical(naming: PartNaming, name: str) -> str | None:
    """The canonical name of a name in this naming."""
    return _with_leaf(_rules(naming)["read"], name)


def _in_naming(naming: PartNaming, name: str) -> str | None:
    """The name in this naming of a canonical name."""
    return _with_leaf(_rules(naming)["write"], name)


@dataclass(frozen=True)
class _Rule:
    """A row of a table, in one direction."""

    pattern: re.Pattern[str]
    template: str


_Rules = Mapping[str, tuple[_Rule, ...]]
"""Rules by the skeleton of the names they match: trying 80 patterns a name would take longer than reading the file."""


@cache
def _rules(naming: PartNaming) -> Mapping[str, _Rules]:
    """A naming's tables as rules: to `read` a file's names, to `write` canonical ones, to `pack` an attention."""
    return {
        "read": _by_skeleton({in_file: canonical for canonical, in_file in naming.modules.items()}),
        "write": _by_skeleton(naming.modules),
        "pack": _by_skeleton(naming.packed),
    }


def _by_skeleton(table: Names) -> _Rules:
    rules: dict[str, tuple[_Rule, ...]] = {}
    for source, target in table.items():
        skeleton = _skeleton(_PLACEHOLDER.sub("0", source))
        rules[skeleton] = (*rules.get(skeleton, ()), _Rule(_pattern(source), target))
    return rules


def _skeleton(module: str) -> str:
    """`layer1.0.conv2` -> `layer#.#.conv#`."""
    return _DIGITS.sub("#", module)


def _pattern(template: str) -> re.Pattern[str]:
    """`layer{s}.{i}.conv{k}` as a regular expression with the groups s, i and k."""
    literals = _PLACEHOLDER.split(template)  # text, placeholder, text, …
    return re.compile(
        "".join(f"(?P<{part}>[0-9]{{1,4}})" if odd % 2 else re.escape(part) for odd, part in enumerate(literals))
    )


def _with_leaf(rules: _Rules, name: str) -> str | None:
    module, _, leaf = name.rpartition(".")
    renamed = _renamed(rules, module)
    return f"{renamed}.{leaf}" if renamed else None


def _renamed(rules: _Rules, module: str) -> str | None:
    for rule in rules.get(_skeleton(module), ()):
        if match := rule.pattern.fullmatch(module):
            return rule.template.format(**_counted_from_each(match.groupdict()))
    return None


def _counted_from_each(texts: Mapping[str, str]) -> dict[str, int]:
    """Numbers by placeholder: s counts from 1, s0 and s2 count the same from 0 and from 2; likewise k."""
    numbers = {key: int(text) for key, text in texts.items()}
    for letter in "sk":
        for key, offset in ((letter, 0), (f"{letter}0", -1), (f"{letter}2", 1)):
            if key in numbers:
                first = numbers[key] - offset
                numbers |= {letter: first, f"{letter}0": first - 1, f"{letter}2": first + 1}
                break
    return numbers
