"""DETR, written once: `detr` computes it with numpy or records its ONNX graph, depending on its `ops`.

The model, in the order to read it:

    detr          the whole network, and its heads: classes and boxes
    resnet        the backbone
    position      the sine position embedding
    transformer   encoder and decoder
    segmentation  the mask head of panoptic models
    attention     attention maps, from the queries and keys of the transformer
    config        the sizes in which one model differs from another

The operations that it is written in:

    ops           the protocol `Ops`: each operation with its shapes
    numpy_ops     computes them; numpy_conv, winograd, numpy_masks have the convolutions, workspace reuses memory
    onnx_ops      records them into a `graph.Graph`; onnx_recorder and onnx_masks are parts of it
    quantization  8-bit weights and activations, for int8 graphs
"""
