"""DETR, written once: `detr` computes it with numpy or records its ONNX graph, depending on its `ops`."""
