"""Exporters side by side, and their comparison. The package's own exporter is `detr_onnx.exporter`.

    detr_resnet_50     converts facebook/detr-resnet-50 with our exporter, in a few lines
    optimum_export     optimum's export;  torch_export  torch's old and new exporter;  nncf_quantize  NNCF's int8
    compare            the graphs of all exporters;  compare_panoptic  of a panoptic model;  compare_int8  of int8 files

docs/files.md has the results, benchmarks/README.md the commands.
"""
