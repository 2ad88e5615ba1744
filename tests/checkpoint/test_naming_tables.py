"""The naming tables hold the names of real checkpoints."""

from __future__ import annotations

import pytest

from detr_onnx.checkpoint.naming import Naming
from detr_onnx.checkpoint.naming_tables import BACKBONES, TRANSFORMERS
from tests.parity.seeded import SPELLINGS

NAMINGS = SPELLINGS | {"detectron2": Naming("detr.", BACKBONES[5], TRANSFORMERS[0])}

# One row a tensor, as the files of each origin name it: facebookresearch's .pth, the hub's revisions main and no_timm,
# and what transformers 5 has in memory.
ROWS = [
    ("backbone.conv1.weight", {
        "original": "backbone.0.body.conv1.weight",
        "huggingface-timm": "model.backbone.conv_encoder.model.conv1.weight",
        "huggingface-native": "model.backbone.conv_encoder.model.embedder.embedder.convolution.weight",
        "transformers5-timm": "model.backbone.model.conv1.weight",
        "transformers5-native": "model.backbone.model.embedder.embedder.convolution.weight",
        "detectron2": "detr.backbone.0.backbone.stem.conv1.weight",
    }),
    ("backbone.layer4.2.bn3.running_var", {
        "original": "backbone.0.body.layer4.2.bn3.running_var",
        "huggingface-timm": "model.backbone.conv_encoder.model.layer4.2.bn3.running_var",
        "transformers5-native": "model.backbone.model.encoder.stages.3.layers.2.layer.2.normalization.running_var",
        "detectron2": "detr.backbone.0.backbone.res5.2.conv3.norm.running_var",
    }),
    ("backbone.layer1.0.downsample.1.bias", {
        "original": "backbone.0.body.layer1.0.downsample.1.bias",
        "huggingface-native": "model.backbone.conv_encoder.model.encoder.stages.0.layers.0.shortcut.normalization.bias",
        "detectron2": "detr.backbone.0.backbone.res2.0.shortcut.norm.bias",
    }),
    ("encoder.layers.5.final_layer_norm.weight", {
        "original": "transformer.encoder.layers.5.norm2.weight",
        "huggingface-timm": "model.encoder.layers.5.final_layer_norm.weight",
    }),
    ("decoder.layers.5.encoder_attn_layer_norm.weight", {
        "original": "transformer.decoder.layers.5.norm2.weight",
        "huggingface-timm": "model.decoder.layers.5.encoder_attn_layer_norm.weight",
    }),
    ("decoder.layers.5.final_layer_norm.weight", {"original": "transformer.decoder.layers.5.norm3.weight"}),
    ("decoder.layers.0.encoder_attn.out_proj.bias", {
        "original": "transformer.decoder.layers.0.multihead_attn.out_proj.bias",
        "huggingface-timm": "model.decoder.layers.0.encoder_attn.out_proj.bias",
        "transformers5-native": "model.decoder.layers.0.encoder_attn.o_proj.bias",
    }),
    ("encoder.layers.0.fc1.weight", {
        "original": "transformer.encoder.layers.0.linear1.weight",
        "huggingface-native": "model.encoder.layers.0.fc1.weight",
        "transformers5-timm": "model.encoder.layers.0.mlp.fc1.weight",
    }),
    ("decoder.layernorm.bias", {
        "original": "transformer.decoder.norm.bias", "huggingface-timm": "model.decoder.layernorm.bias",
    }),
    ("encoder.layernorm.bias", {
        "original": "transformer.encoder.norm.bias", "huggingface-timm": "model.encoder.layernorm.bias",
    }),
    ("input_projection.weight", {
        "original": "input_proj.weight", "huggingface-timm": "model.input_projection.weight",
    }),
    ("query_position_embeddings.weight", {
        "original": "query_embed.weight", "huggingface-timm": "model.query_position_embeddings.weight",
    }),
    ("class_labels_classifier.bias", {
        "original": "class_embed.bias", "huggingface-timm": "class_labels_classifier.bias",
    }),
    ("bbox_predictor.layers.2.weight", {
        "original": "bbox_embed.layers.2.weight", "transformers5-native": "bbox_predictor.layers.2.weight",
    }),
]  # fmt: skip


@pytest.mark.parametrize(("canonical", "names"), ROWS, ids=[canonical for canonical, _ in ROWS])
def test_each_naming_has_the_names_of_real_files(canonical, names):
    assert {title: NAMINGS[title].name_in_file(canonical) for title in names} == names


@pytest.mark.parametrize("naming", [*BACKBONES, *TRANSFORMERS], ids=lambda naming: naming.title)
def test_no_two_modules_share_a_name(naming):
    assert len(set(naming.modules.values())) == len(naming.modules)
