"""The mask head in torch, for training on the frozen demo model [Carion et al., 2020, figure 8].

The demo model's backbone has three stages. As in transformers' DetrForSegmentation with such a backbone, the mask head
adds the feature maps of stages 3, 2 and 1; the last of them has the size of the projection.

Letters: T objects of one scene, D model, M heads, h,w cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from weights.training.loss import Targets, match
from weights.training.model import DemoConfig, DemoDetr, sine_position

GROUPS = 8  # of channels, which are normalised together
ALPHA, GAMMA = 0.25, 2  # of the focal loss, as in the paper
ATTENTION_GAIN = 1000.0  # in training: one softmax over thousands of cells is tiny beside the projection


@dataclass(frozen=True)
class Frozen:
    """What the frozen detector makes of one scene.

    Attributes:
        projection: [1,D,h,w].
        memory: [1,D,h,w], from the encoder.
        stages: feature maps of stages 3, 2 and 1.
        objects: [T,D], from the decoder: of the queries that are matched with the scene's objects.
    """

    projection: Tensor
    memory: Tensor
    stages: tuple[Tensor, ...]
    objects: Tensor


class AttentionMap(nn.Module):
    """Where each query looks: one softmax over heads and cells."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_linear = nn.Linear(config.d_model, config.d_model)
        self.k_linear = nn.Linear(config.d_model, config.d_model)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, objects: Tensor, memory: Tensor) -> Tensor:
        """[T,D], [1,D,h,w] -> [T,M,h,w], of sum 1 for each object."""
        q = self.q_linear(objects).unflatten(1, (self.heads, -1))  # [T,M,D/M]
        k = self.k_linear(memory[0].flatten(1).T).unflatten(1, (self.heads, -1))  # [N,M,D/M]
        scores = torch.einsum("tmd,nmd->tmn", q * q.shape[2] ** -0.5, k)
        return scores.flatten(1).softmax(1).reshape(len(q), self.heads, *memory.shape[2:])


class MaskHead(nn.Module):
    """Five convolutions with group norm; before each of the last three, a stage of the backbone is added."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.d_model = d = config.d_model
        inputs = (d + config.heads, d + config.heads, d // 2, d // 4, d // 8)
        outputs = (*inputs[1:], d // 16)
        for k, (inner, outer) in enumerate(zip(inputs, outputs, strict=True), start=1):
            self.add_module(f"lay{k}", nn.Conv2d(inner, outer, 3, padding=1))
            self.add_module(f"gn{k}", nn.GroupNorm(GROUPS, outer))
        for k, (inner, outer) in enumerate(zip(config.widths[::-1], inputs[2:], strict=True), start=1):
            self.add_module(f"adapter{k}", nn.Conv2d(inner, outer, 1))
        self.out_lay = nn.Conv2d(outputs[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, projection: Tensor, attention: Tensor, stages: tuple[Tensor, ...]) -> Tensor:
        """[1,D,h,w], [T,M,h,w] and the feature maps of stages 3, 2, 1 -> logits [T,4h,4w]."""
        first, d = self.lay1, self.d_model  # linear: its part over the projection is the same for all objects
        shared = functional.conv2d(projection, first.weight[:, :d], first.bias, padding=1)
        x = shared + functional.conv2d(attention * ATTENTION_GAIN, first.weight[:, d:], padding=1)
        x = functional.relu(self.gn2(self.lay2(functional.relu(self.gn1(x)))))
        for k, stage in enumerate(stages, start=1):
            adapted = self.get_submodule(f"adapter{k}")(stage)
            x = adapted + functional.interpolate(x, size=adapted.shape[2:], mode="nearest")
            x = functional.relu(self.get_submodule(f"gn{k + 2}")(self.get_submodule(f"lay{k + 2}")(x)))
        return self.out_lay(x)[:, 0]


class Masks(nn.Module):
    """All that is trained, under the names of a checkpoint."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.bbox_attention = AttentionMap(config)
        self.mask_head = MaskHead(config)

    def forward(self, seen: Frozen) -> Tensor:
        """Logits [T,H/4,W/4] of the masks of a scene's objects."""
        return self.mask_head(seen.projection, self.bbox_attention(seen.objects, seen.memory), seen.stages)


def shipped_parameters(model: Masks) -> dict[str, Tensor]:
    """The parameters of a checkpoint, whose first layer contains the gain."""
    shipped = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shipped["mask_head.lay1.weight"][:, model.mask_head.d_model :] *= ATTENTION_GAIN
    return shipped


@torch.no_grad()
def see(model: DemoDetr, pixels: Tensor, targets: Targets) -> tuple[Frozen, Tensor]:
    """What the detector makes of one scene, and [T] the number of the object that each of its matched queries is for.

    Args:
        model: frozen.
        pixels: [1,3,H,W], without padding.
        targets: the scene's objects.
    """
    backbone = model.backbone
    x = functional.max_pool2d(backbone.embedder(pixels), 3, 2, 1)
    stages = []
    for stage in backbone.stages:
        x = stage(x)
        stages.append(x)
    projection = model.input_projection(x)
    cells_hw = projection.shape[2:]
    position = sine_position(torch.ones(1, *cells_hw, dtype=torch.bool), model.config.d_model)
    memory = model.encode(projection.flatten(2).transpose(1, 2), position, None)
    query = model.query_position_embeddings.weight[None]
    states = torch.zeros_like(query)
    for layer in model.decoder:
        states = layer(states, query, memory, position, None, 1)
    states = model.decoder_layernorm(states)
    logits, boxes = model.class_labels_classifier(states), model.bbox_predictor(states)
    _, queries, objects = match(logits[None, :, None], boxes[None, :, None], targets)
    memory = memory.transpose(1, 2).reshape(1, -1, *cells_hw)
    return Frozen(projection, memory, tuple(stages[::-1]), states[0, queries]), objects


def mask_losses(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's focal and dice losses, summed over objects, of logits [T,h,w] and true masks [T,2h,2w] of 0 and 1."""
    logits = functional.interpolate(logits[:, None], size=masks.shape[1:], mode="bilinear")[:, 0].flatten(1)
    masks = masks.flatten(1)
    probabilities = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    wrong = probabilities + masks - 2 * probabilities * masks  # 1 - p of the true class
    alpha = ALPHA * masks + (1 - ALPHA) * (1 - masks)
    focal = (alpha * wrong**GAMMA * entropy).mean(1).sum()
    dice = 1 - (2 * (probabilities * masks).sum(1) + 1) / (probabilities.sum(1) + masks.sum(1) + 1)
    return focal, dice.sum()


def attention_losses(attention: Tensor, masks: Tensor) -> Tensor:
    """[T] the cross entropy of the attention [T,M,h,w], summed over heads, with the densities of masks [T,8h,8w]."""
    share = functional.adaptive_avg_pool2d(masks.float(), attention.shape[2:]).flatten(1)
    density = share / share.sum(1, keepdim=True).clamp(min=1e-6)
    return -(density * (attention.sum(1).flatten(1) + 1e-8).log()).sum(1)


@torch.inference_mode()
def mask_ious(logits: Tensor, masks: Tensor) -> Tensor:
    """[T] the IoU of each predicted mask with the true one."""
    logits = functional.interpolate(logits[:, None], size=masks.shape[1:], mode="bilinear")[:, 0]
    predicted, true = logits > 0, masks > 0
    return (predicted & true).sum((1, 2)) / (predicted | true).sum((1, 2)).clamp(min=1)
