"""The small DETR in torch, for training, and its parameters under the names of a Hugging Face checkpoint.

What differs from the checkpoint that ships: batch norm learns its statistics, the decoder runs several groups of
queries beside one another (each with its own one-to-one matching; group 0 ships), and linear heads read a class and
a box from every encoder cell. All of that only helps training; `hugging_face_parameters` leaves it out.

Letters: B batch, G groups, Q queries of a group, D model, h,w cells, N = h*w, L decoder layers, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPS = 1e-5
QUERY_SCALE, LOCAL_GAIN = 1.5, 2.5  # how local the attention of a new query is


@dataclass(frozen=True)
class DemoConfig:
    """Sizes of the model, and of the parts that only training uses."""

    embedding: int = 32
    widths: tuple[int, ...] = (48, 96, 192)
    depths: tuple[int, ...] = (1, 2, 2)
    d_model: int = 128
    heads: int = 8
    ffn: int = 512
    encoder_layers: int = 3
    decoder_layers: int = 3
    queries: int = 30
    classes: int = 91  # COCO's ids 0..90; the head has one more, no-object
    groups: int = 4  # training only


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, and a ReLU unless `relu` is false."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, relu: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(outer, eps=BATCH_NORM_EPS)
        self.relu = relu
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B,inner,H,W] -> [B,outer,H/stride,W/stride]."""
        x = self.normalization(self.convolution(x))
        return functional.relu(x, inplace=True) if self.relu else x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(ConvNorm(inner, outer, 3, stride), ConvNorm(outer, outer, 3, 1, relu=False))
        self.shortcut = ConvNorm(inner, outer, 1, stride, relu=False) if inner != outer or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """[B,inner,H,W] -> [B,outer,H/stride,W/stride]."""
        residual = x if self.shortcut is None else self.shortcut(x)
        return functional.relu(self.layer(x) + residual, inplace=True)


class Stage(nn.Module):
    """Basic blocks of one width; the first has the stride."""

    def __init__(self, inner: int, outer: int, stride: int, depth: int) -> None:
        super().__init__()
        blocks = [BasicBlock(inner if i == 0 else outer, outer, stride if i == 0 else 1) for i in range(depth)]
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inner,H,W] -> [B,outer,H/stride,W/stride]."""
        out: Tensor = self.layers(x)
        return out


class Backbone(nn.Module):
    """A ResNet of three stages: [B,3,H,W] -> [B,192,H/16,W/16]."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.embedder = ConvNorm(3, config.embedding, 7, 2)
        inner = (config.embedding, *config.widths[:-1])
        strides = (1, 2, 2)
        self.stages = nn.ModuleList(
            Stage(*sizes) for sizes in zip(inner, config.widths, strides, config.depths, strict=True)
        )

    def freeze_stem(self) -> None:
        """Freezes stem and first stage, with the batch norm statistics gathered so far."""
        self.embedder.eval()
        self.stages[0].eval()

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,192,ceil(H/16),ceil(W/16)]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.embedder.training):
            x = self.stages[0](functional.max_pool2d(self.embedder(x), 3, 2, 1))
        for stage in self.stages[1:]:
            x = stage(x)
        return x


class Attention(nn.Module):
    """Multi-head attention; positions are added to queries and keys, not to values."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.k_proj = nn.Linear(config.d_model, config.d_model)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None = None) -> Tensor:
        """[B,T,D], [B,N,D], [B,N,D], `valid` [B,1,1,N] bool -> [B,T,D]."""
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(key)), self._split(self.v_proj(value))
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=valid)  # [B,M,T,D/M]
        out: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """[B,T,D] -> [B,M,T,D/M]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Self-attention over the cells, then a feed-forward; norms come after the sums."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.ffn)
        self.fc2 = nn.Linear(config.ffn, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, position: Tensor, valid: Tensor | None) -> Tensor:
        """[B,N,D] -> [B,N,D]."""
        qk = x + position
        x = self.self_attn_layer_norm(x + self.self_attn(qk, qk, x, valid))
        out: Tensor = self.final_layer_norm(x + self.fc2(functional.relu(self.fc1(x))))
        return out


class DecoderLayer(nn.Module):
    """Self-attention within each group of queries, attention to the cells, a feed-forward."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.encoder_attn = Attention(config)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.ffn)
        self.fc2 = nn.Linear(config.ffn, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def forward(
        self, x: Tensor, query: Tensor, memory: Tensor, position: Tensor, valid: Tensor | None, groups: int
    ) -> Tensor:
        """`x` and `query` [B,G*Q,D], `memory` and `position` [B,N,D] -> [B,G*Q,D]."""
        batch, total, d = x.shape
        qk = (x + query).reshape(batch * groups, total // groups, d)
        value = x.reshape(batch * groups, total // groups, d)
        x = self.self_attn_layer_norm(x + self.self_attn(qk, qk, value).reshape(batch, total, d))
        x = self.encoder_attn_layer_norm(x + self.encoder_attn(x + query, memory + position, memory, valid))
        out: Tensor = self.final_layer_norm(x + self.fc2(functional.relu(self.fc1(x))))
        return out


class BoxHead(nn.Module):
    """Three linear layers and a sigmoid: [...,D] -> cxcywh [...,4] in 0..1."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Linear(d_model, d_model), nn.Linear(d_model, d_model), nn.Linear(d_model, 4)))

    def forward(self, x: Tensor) -> Tensor:
        """[...,D] -> cxcywh [...,4] in 0..1."""
        first, second, last = self.layers
        out: Tensor = last(functional.relu(second(functional.relu(first(x))))).sigmoid()
        return out


@dataclass(frozen=True)
class Outputs:
    """Outputs for the losses: `logits` [L,B,G*Q,C+1], `boxes` [L,B,G*Q,4]; cells' [B,N,C+1], [B,N,4], `valid` [B,N].

    `places` [2,B,N,2]: where each cell thinks it is, xy in 0..1, before and after the encoder.
    """

    logits: Tensor
    boxes: Tensor
    cell_logits: Tensor
    cell_boxes: Tensor
    places: Tensor
    valid: Tensor
    cells_hw: tuple[int, int]


class DemoDetr(nn.Module):
    """Pixels and mask -> classes and boxes of every decoder layer."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.backbone = Backbone(config)
        self.input_projection = nn.Conv2d(config.widths[-1], d, 1)
        self.query_position_embeddings = nn.Embedding(config.groups * config.queries, d)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_layernorm = nn.LayerNorm(d)
        self.class_labels_classifier = nn.Linear(d, config.classes + 1)
        self.bbox_predictor = BoxHead(d)
        self.cell_classifier = nn.Linear(d, config.classes + 1)
        self.cell_box = BoxHead(d)
        self.cell_place = nn.Linear(d, 2)
        self.early_cell_place = nn.Linear(d, 2)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Xavier for every matrix; queries on a grid, looking around their points."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "backbone" not in name:
                nn.init.xavier_uniform_(parameter)
        grids = [grid_queries(self.config.queries, self.config.d_model) for _ in range(self.config.groups)]
        self.query_position_embeddings.weight.copy_(QUERY_SCALE * torch.cat(grids))
        for layer in self.decoder:
            nn.init.orthogonal_(layer.encoder_attn.q_proj.weight)
            layer.encoder_attn.q_proj.weight.mul_(_sharpness(self.config.d_model))
            layer.encoder_attn.k_proj.weight.copy_(layer.encoder_attn.q_proj.weight)

    def forward(self, pixels: Tensor, mask: Tensor, groups: int) -> Outputs:
        """`pixels` [B,3,H,W] normalised, `mask` [B,H,W] bool, true where valid; the first `groups` of G run."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            feature = self.input_projection(self.backbone(pixels)).float()  # [B,D,h,w]
        cells_hw = (int(feature.shape[2]), int(feature.shape[3]))
        valid_hw = functional.interpolate(mask[:, None].float(), size=cells_hw)[:, 0] > 0.5  # [B,h,w]
        position = sine_position(valid_hw, self.config.d_model)  # [B,N,D]
        valid = valid_hw.flatten(1)
        keys = None if bool(valid.all()) else valid[:, None, None, :]
        cells = feature.flatten(2).transpose(1, 2)  # [B,N,D]
        memory = self.encode(cells, position, keys)
        logits, boxes = self.decode(memory, position, keys, groups)
        places = torch.stack((self.early_cell_place(cells), self.cell_place(memory)))
        return Outputs(logits, boxes, self.cell_classifier(memory), self.cell_box(memory), places, valid, cells_hw)

    def encode(self, cells: Tensor, position: Tensor, keys: Tensor | None) -> Tensor:
        """The projected cells and their positions [B,N,D] -> memory [B,N,D]; `keys` [B,1,1,N] bool, None: all valid."""
        memory = cells
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            for encoder_layer in self.encoder:
                memory = encoder_layer(memory, position, keys)
        return memory.float()

    def decode(self, memory: Tensor, position: Tensor, keys: Tensor | None, groups: int) -> tuple[Tensor, Tensor]:
        """Logits [L,B,G*Q,C+1] and boxes [L,B,G*Q,4] after every decoder layer."""
        query = self.query_position_embeddings.weight[: groups * self.config.queries]
        query = query.expand(memory.shape[0], -1, -1)  # [B,G*Q,D]
        x = torch.zeros_like(query)
        states = []
        for decoder_layer in self.decoder:
            x = decoder_layer(x, query, memory, position, keys, groups)
            states.append(self.decoder_layernorm(x))
        stacked = torch.stack(states)
        return self.class_labels_classifier(stacked), self.bbox_predictor(stacked)


def sine_position(valid: Tensor, d_model: int) -> Tensor:
    """Sine embedding [B,h*w,D] of the place among the valid cells of `valid` [B,h,w]; first y, then x."""
    feature = torch.arange(d_model // 2)
    frequency = 10000 ** (2 * torch.div(feature, 2, rounding_mode="floor") / (d_model // 2))
    parts = []
    for axis in (1, 2):
        place = valid.cumsum(axis, dtype=torch.float32)
        place = place / (place.select(axis, -1).unsqueeze(axis) + 1e-6) * (2 * torch.pi)
        angle = place[..., None] / frequency  # [B,h,w,D/2]
        parts.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=4).flatten(3))
    return torch.cat(parts, dim=3).flatten(1, 2)


def grid_queries(queries: int, d_model: int) -> Tensor:
    """Sine embeddings [Q,D] of points, one drawn from each cell of a grid of 5 rows (Q a multiple of 5)."""
    rows, columns, fine = 5, queries // 5, 20
    positions = sine_position(torch.ones(1, rows * fine, columns * fine, dtype=torch.bool), d_model)[0]
    positions = positions.unflatten(0, (rows * fine, columns * fine))
    y = torch.arange(rows)[:, None] * fine + torch.randint(fine, (rows, columns))
    x = torch.arange(columns)[None] * fine + torch.randint(fine, (rows, columns))
    return positions[y, x].flatten(0, 1)


def _sharpness(d_model: int) -> Tensor:
    """Weights [D] that favour the features of a sine embedding that change most across the image."""
    axis = torch.full((d_model // 2,), 0.5)
    axis[:16] = LOCAL_GAIN
    return axis.repeat(2)


# Hugging Face's names

_PREFIXES = {
    "backbone.embedder": "model.backbone.conv_encoder.model.embedder.embedder",
    "backbone.stages": "model.backbone.conv_encoder.model.encoder.stages",
    "input_projection": "model.input_projection",
    "query_position_embeddings": "model.query_position_embeddings",
    "encoder": "model.encoder.layers",
    "decoder": "model.decoder.layers",
    "decoder_layernorm": "model.decoder.layernorm",
    "class_labels_classifier": "class_labels_classifier",
    "bbox_predictor": "bbox_predictor",
}
_TRAINING_ONLY = ("cell_classifier.", "cell_box.", "cell_place.", "early_cell_place.")


def hugging_face_names(names: Iterable[str]) -> dict[str, str]:
    """Our name -> the checkpoint's, of the tensors that ship."""
    shipped: dict[str, str] = {}
    for name in names:
        if not name.startswith(_TRAINING_ONLY) and not name.endswith("num_batches_tracked"):
            prefix = max((p for p in _PREFIXES if name.startswith(p + ".")), key=len)
            shipped[name] = _PREFIXES[prefix] + name[len(prefix) :]
    return shipped


def hugging_face_parameters(parameters: dict[str, Tensor], queries: int) -> dict[str, Tensor]:
    """The tensors that ship, named as in a DETR checkpoint with a native backbone; statistics are the frozen terms."""
    shipped: dict[str, Tensor] = {}
    for name, theirs in hugging_face_names(parameters).items():
        tensor = parameters[name]
        kept = tensor[:queries] if name.startswith("query_position_embeddings.") else tensor
        shipped[theirs] = kept.detach().clone().contiguous()
    return shipped


def own_parameters(shipped: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The inverse: the checkpoint's tensors in float32 under our names, of those of `names` that ship.

    The checkpoint has the queries of one group, so they fit a model with `groups=1`.
    """
    return {name: shipped[theirs].float() for name, theirs in hugging_face_names(names).items()}


def load_weights(directory: Path) -> DemoDetr:
    """The checkpoint's model, in float32, with one group of queries; what only training uses is random."""
    model = DemoDetr(DemoConfig(groups=1))
    shipped = load_file(directory / "model.safetensors")
    model.load_state_dict(own_parameters(shipped, model.state_dict()), strict=False)
    return model


def save_weights(model: DemoDetr, directory: Path) -> None:
    """Writes model.safetensors in the layout of Hugging Face, with float16 parameters."""
    shipped = hugging_face_parameters(model.state_dict(), model.config.queries)
    path = directory / "model.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in shipped.items()}, path, {"format": "pt"})
    path.chmod(0o644)


def hugging_face_config(config: DemoConfig, id2label: dict[str, str]) -> dict[str, object]:
    """The `config.json` of the checkpoint."""
    backbone = {
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": config.embedding,
        "hidden_sizes": list(config.widths),
        "depths": list(config.depths),
        "layer_type": "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
        "out_features": [f"stage{len(config.widths)}"],
    }
    return {
        "architectures": ["DetrForObjectDetection"],
        "model_type": "detr",
        "is_encoder_decoder": True,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": backbone,
        "dilation": False,
        "num_channels": 3,
        "num_queries": config.queries,
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.ffn,
        "decoder_layers": config.decoder_layers,
        "decoder_attention_heads": config.heads,
        "decoder_ffn_dim": config.ffn,
        "num_hidden_layers": config.encoder_layers,
        "activation_function": "relu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        "auxiliary_loss": False,
        "position_embedding_type": "sine",
        "scale_embedding": False,
        "id2label": id2label,
        "label2id": {label: int(i) for i, label in id2label.items()},
    }
