"""`python -m detr_onnx` is `detr-onnx`."""

import sys

from detr_onnx.cli.main import main

sys.exit(main())
