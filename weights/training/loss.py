"""DETR's set loss for all decoder layers and groups of queries at once, and an auxiliary loss on encoder cells.

Letters: L decoder layers, B batch, G groups, Q queries of a group, T most objects in a scene, C classes, N cells.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from weights.training.model import Outputs

CLASS_COST, L1_COST, GIOU_COST = 1.0, 5.0, 2.0  # DETR's, for both matching and loss
PLACE_COST = 10.0
STRIDE_PX = 16  # of an encoder cell


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch: `classes` [B,T] (C where there is no object), `boxes` [B,T,4] cxcywh in 0..1."""

    classes: Tensor
    boxes: Tensor
    sizes_hw: Tensor  # [B,2] in pixels, without padding
    no_object: int

    @property
    def present(self) -> Tensor:
        """[B,T] bool: which rows hold an object."""
        return self.classes != self.no_object


@dataclass(frozen=True)
class Losses:
    """The loss, and its parts for the log."""

    total: Tensor
    classes: float
    boxes: float
    cells: float


@dataclass(frozen=True)
class Weights:
    """Weights of the box loss and of the auxiliary encoder loss."""

    boxes: float = 1.0
    cells: float = 1.0


def losses(outputs: Outputs, targets: Targets, groups: int, eos: float, weights: Weights) -> Losses:
    """The training loss; `eos` is the weight of no-object."""
    class_loss, box_loss = query_losses(outputs.logits, outputs.boxes, targets, groups, eos)
    cells = cell_loss(outputs, targets, eos)
    layers = outputs.logits.shape[0]
    weighted_sum = CLASS_COST * class_loss + weights.boxes * box_loss + weights.cells * cells
    return Losses(
        weighted_sum, float(class_loss.detach()) / layers, float(box_loss.detach()) / layers, float(cells.detach())
    )


def query_losses(
    all_logits: Tensor, all_boxes: Tensor, targets: Targets, groups: int, eos: float
) -> tuple[Tensor, Tensor]:
    """DETR's loss of classes and of boxes, summed over layers, of logits [L,B,G*Q,C+1] and boxes [L,B,G*Q,4]."""
    layers, batch, total, classes_1 = all_logits.shape
    queries = total // groups
    logits = all_logits.reshape(layers, batch, groups, queries, classes_1)
    boxes = all_boxes.reshape(layers, batch, groups, queries, 4)
    rows, query, target = match(logits.detach(), boxes.detach(), targets)  # rows index L*B*G
    flat_logits = logits.reshape(-1, queries, classes_1)
    image = rows // groups % batch
    expected = torch.full(flat_logits.shape[:2], targets.no_object, dtype=torch.long)
    expected[rows, query] = targets.classes[image, target]
    weight = torch.ones(classes_1)
    weight[-1] = eos
    class_loss = functional.cross_entropy(flat_logits.flatten(0, 1), expected.flatten(), weight) * layers
    predicted, true = boxes.reshape(-1, queries, 4)[rows, query], targets.boxes[image, target]
    count = max(1.0, len(rows) / layers)
    l1 = (predicted - true).abs().sum() / count
    giou = (1 - paired_giou(predicted, true)).sum() / count
    return class_loss, L1_COST * l1 + GIOU_COST * giou


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Index arrays (row of L*B*G, query, target) of the one-to-one matching; inputs [L,B,G,Q,...]."""
    layers, batch, groups, queries, _ = logits.shape
    slots = targets.classes.shape[1]
    expected = targets.classes.clamp(max=targets.no_object)[None, :, None, None, :]
    expected = expected.expand(layers, batch, groups, queries, slots)
    cost = -CLASS_COST * logits.softmax(-1).gather(-1, expected)
    predicted, true = boxes[..., None, :], targets.boxes[None, :, None, None]  # [L,B,G,Q,1,4], [1,B,1,1,T,4]
    cost = cost + L1_COST * (predicted - true).abs().sum(-1) - GIOU_COST * paired_giou(predicted, true)
    costs = cost.reshape(-1, queries, slots).numpy()
    counts = targets.present.sum(1).numpy()
    rows, matched_queries, matched_targets = [], [], []
    for row, cost_matrix in enumerate(costs):
        present = int(counts[row // groups % batch])
        query, target = linear_sum_assignment(cost_matrix[:, :present])
        rows.append(np.full(len(query), row))
        matched_queries.append(query)
        matched_targets.append(target)
    first, second, third = (torch.from_numpy(np.concatenate(part)) for part in (rows, matched_queries, matched_targets))
    return first, second, third


def cell_loss(outputs: Outputs, targets: Targets, eos: float) -> Tensor:
    """Each encoder cell predicts the smallest object whose box contains its centre: class, box and own position."""
    target, inside, centres = cell_targets(outputs, targets)
    expected = torch.where(inside, targets.classes.gather(1, target), targets.no_object)
    weight = torch.ones(outputs.cell_logits.shape[-1])
    weight[-1] = eos
    class_loss = functional.cross_entropy(outputs.cell_logits[outputs.valid], expected[outputs.valid], weight)
    predicted = outputs.cell_boxes[inside]
    true = targets.boxes.gather(1, target[..., None].expand(-1, -1, 4))[inside]
    count = max(1, len(true))
    l1, giou = (predicted - true).abs().sum() / count, (1 - paired_giou(predicted, true)).sum() / count
    place = (outputs.places - centres).abs().sum(-1)[:, outputs.valid].mean()
    return class_loss + L1_COST * l1 + GIOU_COST * giou + PLACE_COST * place


@torch.no_grad()
def cell_targets(outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell: the smallest object around its centre [B,N], whether one exists [B,N], the centre [B,N,2]."""
    rows, columns = outputs.cells_hw
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    cells_px = torch.stack((x, y), -1).reshape(1, -1, 2) * STRIDE_PX
    centres = cells_px / targets.sizes_hw.flip(1)[:, None, :]  # [B,N,2]
    centre, size = targets.boxes[:, None, :, :2], targets.boxes[:, None, :, 2:]
    inside = ((centres[:, :, None] - centre).abs() < size / 2).all(-1)  # [B,N,T]
    inside &= targets.present[:, None, :] & outputs.valid[..., None]
    areas = torch.where(inside, targets.boxes[..., 2:].prod(-1)[:, None, :], torch.inf)
    smallest, target = areas.min(-1)
    return target, smallest.isfinite(), centres


def paired_giou(a_cxcywh: Tensor, b_cxcywh: Tensor) -> Tensor:
    """Generalised IoU, in -1..1, of boxes [...,4] that broadcast."""
    a0, a1 = a_cxcywh[..., :2] - a_cxcywh[..., 2:] / 2, a_cxcywh[..., :2] + a_cxcywh[..., 2:] / 2
    b0, b1 = b_cxcywh[..., :2] - b_cxcywh[..., 2:] / 2, b_cxcywh[..., :2] + b_cxcywh[..., 2:] / 2
    shared = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    union = (a1 - a0).prod(-1) + (b1 - b0).prod(-1) - shared
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).prod(-1)
    return shared / (union + 1e-7) - (hull - union) / (hull + 1e-7)
