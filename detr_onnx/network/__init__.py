"""DETR, written once: `detr` runs it in numpy or records its ONNX graph, whichever vocabulary of ops it is given."""
