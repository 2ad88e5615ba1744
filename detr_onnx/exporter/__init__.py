"""Parameters -> self-describing .onnx files: fp32, fp16, int8, end-to-end, and ONNX Runtime's own format."""
