"""The name and the shape of every tensor of a model, by its config."""

from __future__ import annotations

from collections.abc import Iterator

from detr_onnx.checkpoint.naming import PACKED_PARTS
from detr_onnx.network.config import DetrConfig
from detr_onnx.network.segmentation import ADAPTERS, mask_head_channels

Shape = tuple[int, ...]


def expected_shapes(config: DetrConfig) -> dict[str, Shape]:
    """Canonical name -> shape of every tensor that a model of this config has."""
    D = config.d_model
    shapes = dict(_backbone_shapes(config))
    shapes |= {"input_projection.weight": (D, config.backbone.widths[-1], 1, 1), "input_projection.bias": (D,)}
    for i in range(config.encoder_layers):
        shapes |= _layer_shapes(f"encoder.layers.{i}", ("self_attn",), D, config.encoder_ffn)
    for i in range(config.decoder_layers):
        shapes |= _layer_shapes(f"decoder.layers.{i}", ("self_attn", "encoder_attn"), D, config.decoder_ffn)
    if config.pre_norm:
        shapes |= _norm("encoder.layernorm", D)
    shapes |= _norm("decoder.layernorm", D)
    shapes["query_position_embeddings.weight"] = (config.queries, D)
    shapes |= _linear("class_labels_classifier", D, len(config.labels) + 1)
    for i, width in enumerate((D, D, 4)):
        shapes |= _linear(f"bbox_predictor.layers.{i}", D, width)
    return shapes | (_mask_head_shapes(config) if config.masks else {})


def _linear(module: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{module}.weight": (outputs, inputs), f"{module}.bias": (outputs,)}


def _norm(module: str, width: int) -> dict[str, Shape]:
    return {f"{module}.weight": (width,), f"{module}.bias": (width,)}


def _layer_shapes(layer: str, attentions: tuple[str, ...], D: int, ffn: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for attention in attentions:
        for projection in (*PACKED_PARTS, "out_proj"):
            shapes |= _linear(f"{layer}.{attention}.{projection}", D, D)
        shapes |= _norm(f"{layer}.{attention}_layer_norm", D)
    return (
        shapes
        | _linear(f"{layer}.fc1", D, ffn)
        | _linear(f"{layer}.fc2", ffn, D)
        | _norm(f"{layer}.final_layer_norm", D)
    )


def _mask_head_shapes(config: DetrConfig) -> dict[str, Shape]:
    D, channels = config.d_model, mask_head_channels(config)
    shapes = _linear("bbox_attention.q_linear", D, D) | _linear("bbox_attention.k_linear", D, D)
    for k, (inputs, outputs) in enumerate(zip((channels[0], *channels), channels, strict=False), start=1):
        shapes[f"mask_head.lay{k}.weight"], shapes[f"mask_head.lay{k}.bias"] = (outputs, inputs, 3, 3), (outputs,)
        shapes |= _norm(f"mask_head.gn{k}", outputs)
    for k, outputs in enumerate(channels[1:4], start=1):
        inputs = config.backbone.widths[ADAPTERS - k]
        shapes[f"mask_head.adapter{k}.weight"] = (outputs, inputs, 1, 1)
        shapes[f"mask_head.adapter{k}.bias"] = (outputs,)
    return shapes | {"mask_head.out_lay.weight": (1, channels[4], 3, 3), "mask_head.out_lay.bias": (1,)}


def _backbone_shapes(config: DetrConfig) -> Iterator[tuple[str, Shape]]:
    resnet = config.backbone
    yield from _conv_shapes("backbone.conv1", "backbone.bn1", 3, resnet.stem_width, 7)
    inputs = resnet.stem_width
    for s, (depth, width) in enumerate(zip(resnet.depths, resnet.widths, strict=True), start=1):
        for i in range(depth):
            block = f"backbone.layer{s}.{i}"
            for k, (channels, outputs, kernel) in enumerate(_convs(resnet.block, inputs, width), start=1):
                yield from _conv_shapes(f"{block}.conv{k}", f"{block}.bn{k}", channels, outputs, kernel)
            if i == 0 and (s > 1 or inputs != width):
                yield from _conv_shapes(f"{block}.downsample.0", f"{block}.downsample.1", inputs, width, 1)
            inputs = width


def _convs(block: str, inputs: int, width: int) -> list[tuple[int, int, int]]:
    """Channels in, channels out and kernel of each convolution of a block."""
    if block == "basic":
        return [(inputs, width, 3), (width, width, 3)]
    return [(inputs, width // 4, 1), (width // 4, width // 4, 3), (width // 4, width, 1)]


def _conv_shapes(conv: str, norm: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{conv}.weight", (outputs, inputs, kernel, kernel)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{leaf}", (outputs,)
