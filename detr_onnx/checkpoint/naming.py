"""From a file's names to canonical ones and back, in whatever dialect the file speaks (`dialects.py`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

from detr_onnx.checkpoint.naming_tables import BACKBONES, PREFIXES, TRANSFORMERS, Names, Naming

PACKED_PARTS = ("q_proj", "k_proj", "v_proj")  # the order of the rows of in_proj_weight

_DIGITS = re.compile(r"[0-9]+")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Spelling:
    """How one file spells its names: a prefix, the naming of its backbone and that of its transformer."""

    prefix: str
    backbone: Naming
    transformer: Naming

    @property
    def title(self) -> str:
        return f"backbone in the naming of {self.backbone.title}, transformer of {self.transformer.title}"

    def canonical(self, name: str) -> str | None:
        """The canonical name; None for a name that this spelling does not have, and for packed projections."""
        if not name.startswith(self.prefix):
            return None
        bare = name.removeprefix(self.prefix)
        return _read(self.backbone, bare) or _read(self.transformer, bare)

    def spelled(self, name: str) -> str:
        """How the file spells a canonical name; q, k and v have one name where it packs them."""
        return self.prefix + (
            _written(self.backbone, name) or _written(self.transformer, name) or self._packed(name) or name
        )

    def _packed(self, name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        attention, _, part = module.rpartition(".")
        if part not in PACKED_PARTS or not self.transformer.packed:
            return None
        theirs = _renamed(_rules(self.transformer)["pack"], attention)
        return f"{theirs}.in_proj_{leaf}" if theirs else None


def spelling_of(names: Collection[str]) -> Spelling:
    """The spelling that explains the most of these names."""
    prefix = max(PREFIXES, key=lambda p: sum(name.startswith(p) for name in names) if p else len(names) / 2)
    bare = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

    def explained(naming: Naming) -> int:
        return sum(_read(naming, name) is not None for name in bare)

    return Spelling(prefix, max(BACKBONES, key=explained), max(TRANSFORMERS, key=explained))


def _read(naming: Naming, name: str) -> str | None:
    """The canonical name of a dialect's name."""
    return _with_leaf(_rules(naming)["read"], name)


def _written(naming: Naming, name: str) -> str | None:
    """The dialect's name of a canonical name."""
    return _with_leaf(_rules(naming)["write"], name)


@dataclass(frozen=True)
class _Rule:
    """One row of a table, in one direction."""

    pattern: re.Pattern[str]
    template: str


_Rules = Mapping[str, tuple[_Rule, ...]]
"""Rules by the skeleton of what they read: 80 patterns a name, tried one by one, would take longer than the file."""


@cache
def _rules(naming: Naming) -> Mapping[str, _Rules]:
    """A naming's tables, ready to `read` a file's names, to `write` canonical ones, and to `pack` an attention's."""
    return {
        "read": _by_skeleton({theirs: ours for ours, theirs in naming.modules.items()}),
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
        if found := rule.pattern.fullmatch(module):
            return rule.template.format(**_counted_both_ways(found.groupdict()))
    return None


def _counted_both_ways(texts: Mapping[str, str]) -> dict[str, int]:
    """Numbers by placeholder: s0 and k0 count from 0 what s and k count from 1."""
    numbers = {key: int(text) for key, text in texts.items()}
    for one in ("s", "k"):
        if one in numbers:
            numbers[f"{one}0"] = numbers[one] - 1
        elif f"{one}0" in numbers:
            numbers[one] = numbers[f"{one}0"] + 1
    return numbers
