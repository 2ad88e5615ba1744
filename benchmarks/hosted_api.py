"""`python -m benchmarks.hosted_api` is `detr-onnx compare-hosted`: the hosted API and this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from detr_onnx.cli import main as cli


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return cli.main(["compare-hosted", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
