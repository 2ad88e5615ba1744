"""The programs that ours is compared with, each written as its own users would write it.

    python detr_onnx/bench/baselines KIND '{"model": …, "image": …, "threads": 2}' [once]

    kinds                every baseline by name
    exported_graphs      graphs of other exporters, in ONNX Runtime and OpenVINO
    transformers_models  models, image processor and pipeline of transformers, in PyTorch
    images               decoding and resizing by hand
    turns                one run of a contender, and the seconds of its parts
    protocol             what a contender reads and prints

The directory runs in environments where detr_onnx is not installed, so its modules import only one another.
`interleave.py` starts the program; `ours.py` is the same for this package, with the same turns and protocol.
"""
