"""How checkpoints name their tensors, as tables; `naming.py` reads them.

Each table maps a *canonical* module (left; the names this package uses) to the module's name in one naming (right).
The leaf (`weight`, `bias`, `running_mean`, `running_var`) follows the module in both. Placeholders:

    {s}  stage of the backbone, 1..4            {s0}  the same, counted from 0   {s2}  counted from 2
    {i}  block of a stage, or layer             {k}   convolution of a block, 1..3   {k0}  the same, counted from 0

The naming of the backbone and that of the transformer are chosen independently, each by how many of the file's tensors
it explains: the four namings of Hugging Face and the original one are the pairs that occur.

Trap: the *second* norm of an encoder layer is `final_layer_norm`, the second of a decoder layer is
`encoder_attn_layer_norm`; hence one table for each kind of layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Names = Mapping[str, str]


@dataclass(frozen=True, eq=False)  # hashed by identity
class PartNaming:
    """One way to name the tensors of a backbone or of a transformer.

    Attributes:
        title: for messages.
        modules: canonical module -> the module in this naming.
        packed: canonical module that holds q_proj, k_proj, v_proj -> the module in this naming whose `in_proj_weight`
            and `in_proj_bias` hold the three stacked, rows in this order.
    """

    title: str
    modules: Names
    packed: Names


def _timm_resnet(prefix: str) -> Names:
    """The names of torchvision and timm: the canonical ones after a prefix."""
    modules = ("conv1", "bn1", "layer{s}.{i}.conv{k}", "layer{s}.{i}.bn{k}",
               "layer{s}.{i}.downsample.0", "layer{s}.{i}.downsample.1")  # fmt: skip
    return {f"backbone.{module}": f"{prefix}.{module}" for module in modules}


def _native_resnet(prefix: str) -> Names:
    """The names of transformers' own ResNet."""
    block = f"{prefix}.encoder.stages.{{s0}}.layers.{{i}}"
    return {
        "backbone.conv1": f"{prefix}.embedder.embedder.convolution",
        "backbone.bn1": f"{prefix}.embedder.embedder.normalization",
        "backbone.layer{s}.{i}.conv{k}": f"{block}.layer.{{k0}}.convolution",
        "backbone.layer{s}.{i}.bn{k}": f"{block}.layer.{{k0}}.normalization",
        "backbone.layer{s}.{i}.downsample.0": f"{block}.shortcut.convolution",
        "backbone.layer{s}.{i}.downsample.1": f"{block}.shortcut.normalization",
    }


def _detectron2_resnet(prefix: str) -> Names:
    """The names of detectron2's ResNet, as facebookresearch/detr's d2/converter.py writes them."""
    block = f"{prefix}.res{{s2}}.{{i}}"
    return {
        "backbone.conv1": f"{prefix}.stem.conv1",
        "backbone.bn1": f"{prefix}.stem.conv1.norm",
        "backbone.layer{s}.{i}.conv{k}": f"{block}.conv{{k}}",
        "backbone.layer{s}.{i}.bn{k}": f"{block}.conv{{k}}.norm",
        "backbone.layer{s}.{i}.downsample.0": f"{block}.shortcut",
        "backbone.layer{s}.{i}.downsample.1": f"{block}.shortcut.norm",
    }


BACKBONES = (
    PartNaming("original (torchvision)", _timm_resnet("backbone.0.body"), {}),
    PartNaming("Hugging Face, timm", _timm_resnet("model.backbone.conv_encoder.model"), {}),
    PartNaming("Hugging Face, native", _native_resnet("model.backbone.conv_encoder.model"), {}),
    PartNaming("transformers 5, timm", _timm_resnet("model.backbone.model"), {}),
    PartNaming("transformers 5, native", _native_resnet("model.backbone.model"), {}),
    PartNaming("detectron2", _detectron2_resnet("backbone.0.backbone"), {}),
)

_ORIGINAL_ENCODER_LAYER = {
    "self_attn.out_proj": "self_attn.out_proj",
    "self_attn_layer_norm": "norm1",
    "fc1": "linear1",
    "fc2": "linear2",
    "final_layer_norm": "norm2",
}
_ORIGINAL_DECODER_LAYER = {
    "self_attn.out_proj": "self_attn.out_proj",
    "self_attn_layer_norm": "norm1",
    "encoder_attn.out_proj": "multihead_attn.out_proj",
    "encoder_attn_layer_norm": "norm2",
    "fc1": "linear1",
    "fc2": "linear2",
    "final_layer_norm": "norm3",
}
_ORIGINAL_REST = {
    "encoder.layernorm": "transformer.encoder.norm",
    "decoder.layernorm": "transformer.decoder.norm",
    "input_projection": "input_proj",
    "query_position_embeddings": "query_embed",
    "class_labels_classifier": "class_embed",
    "bbox_predictor.layers.{i}": "bbox_embed.layers.{i}",
}
# The mask head has the original names in Hugging Face's files, too.
_MASK_HEAD = (
    "bbox_attention.q_linear", "bbox_attention.k_linear", *(f"mask_head.{layer}{k}" for k in range(1, 6)
    for layer in ("lay", "gn")), *(f"mask_head.adapter{k}" for k in range(1, 4)), "mask_head.out_lay",
)  # fmt: skip
_ORIGINAL_REST |= {module: module for module in _MASK_HEAD}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_ENCODER_LAYER = (
    *(f"self_attn.{p}" for p in (*_PROJECTIONS, "out_proj")), "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm",
)  # fmt: skip
_DECODER_LAYER = (
    *_ENCODER_LAYER, *(f"encoder_attn.{p}" for p in (*_PROJECTIONS, "out_proj")), "encoder_attn_layer_norm",
)  # fmt: skip
# transformers 5 in memory, and in files written without its reverse conversion
_RENAMED_IN_5 = {
    "self_attn.out_proj": "self_attn.o_proj",
    "encoder_attn.out_proj": "encoder_attn.o_proj",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
    "bbox_attention.q_linear": "bbox_attention.q_proj",
    "bbox_attention.k_linear": "bbox_attention.k_proj",
    **{f"mask_head.lay{k}": f"mask_head.conv{k}.conv" for k in (1, 2)},
    **{f"mask_head.gn{k}": f"mask_head.conv{k}.norm" for k in (1, 2)},
    **{f"mask_head.lay{k}": f"mask_head.fpn_stages.{k - 3}.refine.conv" for k in (3, 4, 5)},
    **{f"mask_head.gn{k}": f"mask_head.fpn_stages.{k - 3}.refine.norm" for k in (3, 4, 5)},
    **{f"mask_head.adapter{k}": f"mask_head.fpn_stages.{k - 1}.fpn_adapter" for k in (1, 2, 3)},
    "mask_head.out_lay": "mask_head.output_conv",
}


def _layers(side: str, prefix: str, layer: Names) -> Names:
    """The table for every layer of the encoder or decoder, from the table for one layer."""
    return {f"{side}.layers.{{i}}.{ours}": f"{prefix}.layers.{{i}}.{theirs}" for ours, theirs in layer.items()}


def _huggingface(renamed: Names) -> Names:
    """The transformer in Hugging Face's names: the canonical ones after a prefix, but for those in `renamed`."""
    encoder = {module: renamed.get(module, module) for module in _ENCODER_LAYER}
    decoder = {module: renamed.get(module, module) for module in _DECODER_LAYER}
    inner = ("encoder.layernorm", "decoder.layernorm", "input_projection", "query_position_embeddings")
    heads = ("class_labels_classifier", "bbox_predictor.layers.{i}")
    return {
        **_layers("encoder", "model.encoder", encoder),
        **_layers("decoder", "model.decoder", decoder),
        **{module: f"model.{module}" for module in inner},
        **{module: module for module in heads},
        **{module: renamed.get(module, module) for module in _MASK_HEAD},
    }


TRANSFORMERS = (
    PartNaming(
        "original",
        {
            **_layers("encoder", "transformer.encoder", _ORIGINAL_ENCODER_LAYER),
            **_layers("decoder", "transformer.decoder", _ORIGINAL_DECODER_LAYER),
            **_ORIGINAL_REST,
        },
        {
            **_layers("encoder", "transformer.encoder", {"self_attn": "self_attn"}),
            **_layers("decoder", "transformer.decoder", {"self_attn": "self_attn", "encoder_attn": "multihead_attn"}),
        },
    ),
    PartNaming("Hugging Face", _huggingface({}), {}),
    PartNaming("transformers 5", _huggingface(_RENAMED_IN_5), {}),
)

PANOPTIC = "detr."  # comes before every name of a panoptic model but those of its mask head
# What comes before every name in a panoptic model or detectron2's wrapper, Lightning, DataParallel, torch.compile.
WRAPPERS = (PANOPTIC, "model.", "module.", "_orig_mod.")
# The first words of the names of a DETR's tensors; other tensors belong to heads for other tasks.
ROOTS = {
    "backbone", "encoder", "decoder", "transformer", "input_proj", "input_projection", "query_embed",
    "query_position_embeddings", "class_embed", "class_labels_classifier", "bbox_embed", "bbox_predictor",
    "bbox_attention", "mask_head",
}  # fmt: skip
MASK_HEAD_ROOTS = {"bbox_attention", "mask_head"}
KNOWN_EXTRAS = {"criterion"}  # left out without a note: the loss of the original training script
IGNORED_LEAVES = ("num_batches_tracked",)
