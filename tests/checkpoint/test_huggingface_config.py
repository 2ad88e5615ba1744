"""Every config.json that a DETR was published with gives a config; anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from detr_onnx.checkpoint.huggingface_config import config_from_huggingface
from detr_onnx.errors import CheckpointError
from detr_onnx.labels import numbered_labels
from detr_onnx.network.config import DetrConfig, ResNetConfig
from tests.parity.seeded import CONFIGS, huggingface_config

RESNET18 = ResNetConfig("basic", (2, 2, 2, 2), (64, 128, 256, 512))


def read(**fields: Any) -> DetrConfig:
    return config_from_huggingface({"model_type": "detr", **fields}, "config.json")


def refusal(**fields: Any) -> str:
    with pytest.raises(CheckpointError) as error:
        config_from_huggingface({"model_type": "detr", **fields}, "config.json")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_empty_config_is_refused_for_its_model_type():
    with pytest.raises(CheckpointError, match=r"found model_type None, expected model_type detr or table-transformer"):
        config_from_huggingface({}, "config.json")


def test_absent_fields_are_those_of_detr_resnet_50_with_two_numbered_labels():
    assert read() == DetrConfig(labels=("LABEL_0", "LABEL_1"))


@pytest.mark.parametrize("name", [name for name in CONFIGS if not (name.startswith("small") and "dc5" in name)])
def test_a_config_that_hugging_face_would_write_is_read_back(name):
    fields = json.loads(json.dumps(huggingface_config(CONFIGS[name])))
    assert config_from_huggingface(fields, "config.json") == CONFIGS[name]


@pytest.mark.parametrize(("fields", "backbone"), [
    ({"backbone": "resnet50", "use_timm_backbone": True, "dilation": False}, ResNetConfig()),
    ({"backbone": "resnet50", "use_timm_backbone": True, "dilation": True}, ResNetConfig(dilation=True)),
    ({"backbone": "resnet101", "backbone_config": None}, ResNetConfig(depths=(3, 4, 23, 3))),
    ({"backbone": "resnet18", "backbone_kwargs": {"out_indices": [1, 2, 3, 4]}}, RESNET18),
    ({"backbone": "resnet50", "backbone_kwargs": {"output_stride": 16}}, ResNetConfig(dilation=True)),
    ({"backbone": "resnet50.a1_in1k"}, ResNetConfig()),
    ({"backbone": "resnet50", "backbone_kwargs": {"out_indices": [1, 2, 3]}},
     ResNetConfig(depths=(3, 4, 6), widths=(256, 512, 1024))),
    ({"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "out_indices": [1, 2, 3, 4]}},
     ResNetConfig()),
    ({"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "out_indices": [-1]}}, ResNetConfig()),
    ({"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50", "output_stride": 16}},
     ResNetConfig(dilation=True)),
    ({"backbone_config": {"model_type": "resnet"}}, ResNetConfig()),
    ({"backbone_config": {"model_type": "resnet", "out_features": ["stage2", "stage3"]}},
     ResNetConfig(depths=(3, 4, 6), widths=(256, 512, 1024))),
    ({"backbone_config": {"model_type": "resnet", "layer_type": "basic", "depths": [2, 2, 2, 2],
                          "hidden_sizes": [64, 128, 256, 512], "out_features": ["stage4"]}}, RESNET18),
])  # fmt: skip
def test_every_way_to_give_a_backbone_is_understood(fields, backbone):
    assert read(**fields).backbone == backbone


def test_table_transformer_is_pre_norm():
    assert config_from_huggingface({"model_type": "table-transformer"}, "config.json").pre_norm


def test_labels_are_ordered_by_number_not_by_spelling():
    names = [f"thing {i}" for i in range(12)]
    assert read(id2label={str(i): names[i] for i in sorted(range(12), key=str)}).labels == tuple(names)


def test_absent_labels_are_numbered():
    assert read(num_labels=3).labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert read(id2label=None, num_labels=None).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(("fields", "complaint"), [
    ({"model_type": "conditional_detr"}, "model_type 'conditional_detr'"),
    ({"position_embedding_type": "learned"}, "position_embedding_type 'learned'"),
    ({"activation_function": "gelu"}, "activation_function 'gelu'"),
    ({"num_channels": 1}, "num_channels 1"),
    ({"scale_embedding": True}, "scale_embedding True"),
    ({"backbone": "resnest50d"}, "'resnest50d' up to stage 4"),
    ({"backbone_config": {"model_type": "swin"}}, "model_type 'swin'"),
    ({"backbone_config": "resnet50"}, "'resnet50'"),
    ({"backbone": "resnet50", "backbone_kwargs": {"out_indices": [0, 1]}}, "up to stage 1"),
    ({"backbone": "resnet50", "backbone_kwargs": {"out_indices": "all"}}, "up to stage 0"),
    ({"backbone": "resnet50", "backbone_kwargs": {"output_stride": 8}}, "output_stride 8"),
    ({"backbone": "resnet50", "backbone_kwargs": {"out_indices": [3], "output_stride": 16}}, "up to stage 3"),
    ({"backbone_config": {"model_type": "resnet", "layer_type": "wide"}}, "layer_type 'wide'"),
    ({"backbone_config": {"model_type": "resnet", "out_features": ["stem"]}}, "up to stage 0"),
    ({"backbone_config": {"model_type": "resnet", "out_features": 4}}, "up to stage 0"),
    ({"backbone_config": {"model_type": "resnet", "hidden_act": "gelu"}}, "hidden_act 'gelu'"),
    ({"backbone_config": {"model_type": "resnet", "downsample_in_bottleneck": True}}, "downsample_in_bottleneck True"),
    ({"backbone_config": {"model_type": "resnet", "depths": "3463"}}, "depths is wrong"),
    ({"backbone_config": {"model_type": "resnet", "depths": [3, 4, None, 3]}}, "depths is wrong: found None"),
    ({"backbone_config": {"model_type": "resnet", "depths": [3, 4]}}, "depths [3, 4]"),
    ({"d_model": 250}, "d_model 250 with 8 heads"),
    ({"d_model": 8, "decoder_attention_heads": 3}, "d_model 8 with 3 and 8 heads"),
    ({"d_model": 0}, "d_model is wrong: found 0"),
    ({"d_model": "256"}, "d_model is wrong: found '256'"),
    ({"num_queries": True}, "num_queries is wrong: found True"),
    ({"id2label": {}}, "id2label does not number the classes"),
    ({"id2label": ["cat"]}, "id2label does not number the classes"),
    ({"id2label": {"0": None}}, "id2label does not name class 0: found None, expected a name"),
    ({"id2label": {"0": "cat", "1": {"name": "dog"}}}, "id2label does not name class 1: found {'name': 'dog'}"),
    ({"id2label": {"0": ["cat"]}}, "does not name class 0"),
    ({"id2label": {"0": True}}, "does not name class 0"),
    ({"id2label": {"1.0": "cat"}}, "found keys 1.0"),
    ({"num_labels": "2"}, "num_labels is wrong"),
    ({"num_labels": 0}, "num_labels is wrong"),
    ({"num_labels": "2", "id2label": {"0": "cat", "1": "dog"}}, "num_labels is wrong"),
    ({"id2label": {"cat": 0}}, "found keys cat"),
])  # fmt: skip
def test_an_unsupported_config_is_refused_with_the_field_at_fault(fields, complaint):
    message = refusal(**fields)
    assert complaint in message
    assert "config.json" in message


def test_all_unsupported_fields_are_named_at_once():
    message = refusal(position_embedding_type="learned", activation_function="gelu")
    assert "position_embedding_type 'learned'; activation_function 'gelu'" in message


@pytest.mark.parametrize(("names", "labels", "warned"), [
    ({"0": "cat", "1": "dog"}, ("cat", "dog"), False),
    ({"1": "cat", "2": "dog"}, ("LABEL_0", "cat"), True),
    ({"0": "cat", "5": "dog"}, ("cat", "LABEL_1"), True),
    ({"-1": "cat", "0": "dog"}, ("dog", "LABEL_1"), True),
    ({"01": "cat", "0": "dog"}, ("dog", "cat"), False),
    ({"0": 5, "1": ""}, ("5", ""), False),
    (None, ("LABEL_0", "LABEL_1"), False),
])  # fmt: skip
def test_id2label_is_read_as_transformers_reads_it_with_a_note_where_ids_are_odd(names, labels, warned, caplog):
    assert read(id2label=names).labels == labels
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned


@pytest.mark.parametrize("count", [1, 3])
def test_a_num_labels_that_contradicts_id2label_counts_and_drops_the_names(count, caplog):
    fields = {"id2label": {"0": "cat", "1": "dog"}, "num_labels": count}
    assert read(**fields).labels == numbered_labels(count)
    assert caplog.messages == [
        f"config.json: num_labels {count} contradicts id2label, which has 2 names: the classes are called LABEL_…"
    ]
    given = ("a", "b", "c")
    assert config_from_huggingface({"model_type": "detr", **fields}, "config.json", given).labels == (
        given if count == 3 else numbered_labels(count)
    )


@pytest.mark.parametrize("count", [2, None])
def test_a_num_labels_that_agrees_with_id2label_changes_nothing(count, caplog):
    assert read(id2label={"0": "cat", "1": "dog"}, num_labels=count).labels == ("cat", "dog")
    assert caplog.messages == []


@pytest.mark.oracle
@pytest.mark.parametrize("count", [1, 2, 3])
def test_transformers_has_the_same_names_with_a_num_labels(count, tmp_path):
    transformers = pytest.importorskip("transformers", "5")
    fields = {"id2label": {"0": "cat", "1": "dog"}, "num_labels": count, "model_type": "detr"}
    (tmp_path / "config.json").write_text(json.dumps(fields | {"use_timm_backbone": False}))
    theirs = transformers.DetrConfig.from_pretrained(tmp_path).id2label
    assert theirs == dict(enumerate(read(**fields).labels))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "names", [{"1": "cat", "2": "dog"}, {"0": "cat", "5": "dog"}, {"0": "cat"}, {"0": 5, "1": 0.5}, None]
)
def test_transformers_has_as_many_classes_and_the_same_names(names):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.DetrConfig(id2label=names)
    labels = read(id2label=names).labels
    assert theirs.num_labels == len(labels)
    assert {i: str(name) for i, name in theirs.id2label.items() if 0 <= i < len(labels)}.items() <= dict(
        enumerate(labels)
    ).items()
