"""Shares of a job: a stable hash of each input's name decides to which share it belongs.

So every machine finds its share by itself, whatever the order in which it reads the names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from detr_onnx.errors import UsageError

SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
MAX_SHARDS = 999_999


@dataclass(frozen=True, order=True)
class Shard:
    """Share `index` of `count`, from 0 up, as the index of a Kubernetes job or of a Slurm array."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a text such as "3/64".

        Raises:
            UsageError: it is not one.
        """
        match = SHARD.fullmatch(text.strip())
        index, count = map(int, match.groups()) if match else (0, 0)
        if index >= count:
            last = f"0/{count} to {count - 1}/{count}" if count else "K/N with K from 0 to N-1, such as 3/64"
            raise UsageError("--shard is wrong", found=repr(text[:100]), expected=last)
        return cls(index, count)

    def holds(self, name: str) -> bool:
        """Whether the input of this name belongs to the shard."""
        return self.count == 1 or int.from_bytes(digest(name)[:8], "big") % self.count == self.index

    @property
    def tag(self) -> str:
        """The part of its files' names that says which shard it is: "003-of-064-"; empty if there is only one."""
        return f"{self.index:03d}-of-{self.count:03d}-" if self.count > 1 else ""

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def digest(name: str) -> bytes:
    """16 bytes that stand for a name; two names never share them in practice."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
