"""`python -m detr_onnx` is `detr-onnx`."""

import sys

from detr_onnx.cli import main

sys.exit(main())
