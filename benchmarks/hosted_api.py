"""`python -m benchmarks.hosted_api IMAGES` is `detr-onnx compare-hosted IMAGES`: the hosted API beside us."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from detr_onnx.cli import main as cli


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    return cli.main(["compare-hosted", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
