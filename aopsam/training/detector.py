"""Train the class-agnostic box detector on embeddings, boxes and masks (Zhang et al. 2023, MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from aopsam._options import Count, Share
from aopsam.detector.assignment import Assignment, assign, near_priors
from aopsam.detector.inference import detect_in_frame
from aopsam.detector.network import BoxDetector, level_count, levels_of
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.box_iou import box_iou_matrix
from aopsam.training.detector_batch import DetectorBatch, Objects, collate, punishable
from aopsam.training.losses import dice_loss
from aopsam.training.task import Recipe, Task, Validation, cosine, shuffled

JUDGED = 100
"""Boxes of a photo that validation counts."""
PICTURES, SHOWN = 4, 20
"""Photos that validation draws, and boxes on each."""


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe(Recipe):
    """Hyper-parameters; the figures behind them are in benchmarks/LOG.md."""

    steps: Count = 1600
    batch: Count = 8
    """Rows of one batch."""
    learning_rate: float = 2e-3
    """Peak, of AdamW; after a linear warm-up it falls along a cosine to 0."""
    warmup: int = 50
    """Updates of the warm-up."""
    weight_decay: float = 0.02
    average: Share = 0.995
    clip: float | None = 10.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    box_weight: float = 2.0
    """Of the boxes' loss beside the scores'."""
    mask_share: Share = 0.5
    """Share of the updates in which masks are learnt beside boxes; after it boxes alone (MobileSAMv2, section 4.2; the
    paper does not say when). Short runs with and without masks measured the same."""
    mask_weight: float = 1.0
    """Of the masks' loss while they are learnt."""
    width: int = 64
    """Channels of the detector."""


class MaskHead(nn.Module):
    """Masks as all that is alike an object's mean key; learnt beside the boxes and thrown away.

    How alike the parts of an object are differs between a shirt and a person: three levels answer, the best counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 8.0))
        self.bias = nn.Parameter(-8.0 * torch.tensor([0.5, 0.7, 0.9]))

    def forward(self, keys: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Mean Dice loss of G objects of one photo, from its keys (C, r, c) and masks (G, r, c) in [0, 1]."""
        flat = keys.flatten(1)
        mean = F.normalize(masks.flatten(1) @ flat.T, dim=1)
        alike = (mean @ F.normalize(flat, dim=0)).unflatten(1, keys.shape[1:])
        logits = self.scale[:, None, None, None] * alike + self.bias[:, None, None, None]
        return dice_loss(logits, masks).amin(0).mean()


class DetectorTask(Task):
    """Only the detector learns: scores estimate the boxes' IoU, boxes learn by GIoU, and in the first part, beside
    them, masks; the SAM that made the embeddings is not there."""

    model: BoxDetector
    heads: MaskHead
    recipe: DetectorRecipe

    def __init__(self, dataset: Objects, recipe: DetectorRecipe, held_out: Objects | None = None) -> None:
        """Set up an untrained detector.

        Args:
            dataset: rows to train on.
            recipe: hyper-parameters.
            held_out: rows to validate on.

        Raises:
            ValueError: no rows.
        """
        if len(dataset) == 0:
            raise ValueError("no prompt maps to train on")
        self.dataset, self.recipe, self.held_out = dataset, recipe, held_out
        channels, rows, columns = dataset[0]["embedding"].shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = BoxDetector(channels, level_count(max(rows, columns)), recipe.width)
            self.heads = MaskHead()

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.recipe.batch)

    def batch(self, index: int) -> DetectorBatch:
        """The next rows of an endless stream of shuffled epochs."""
        size = self.recipe.batch
        return collate(self.dataset, shuffled(len(self.dataset), self.recipe.seed, index * size, size))

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over detector and mask head."""
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        group = {"params": parameters, "part": "detector"}
        return torch.optim.AdamW([group], lr=0.0, weight_decay=self.recipe.weight_decay)

    def rates(self, step: int) -> Mapping[str, float]:
        """One rate for all."""
        recipe = self.recipe
        return {"detector": recipe.learning_rate * cosine(step, recipe.steps, recipe.warmup)}

    def loss(
        self, batch: DetectorBatch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Scores and boxes of the answers that each object teaches, and in the first part its mask."""
        with_masks = step < self.recipe.mask_share * self.recipe.steps
        with self.recipe.mixed(batch.embedding.device):
            features = self.model.features(batch.embedding)
            answers = self.model.boxes(features)
            keys = F.avg_pool2d(self.model.describe(batch.embedding), 2).float() if with_masks else None
        rows, columns = batch.embedding.shape[-2:]
        levels = levels_of(rows, columns, self.model.levels)
        punish = punishable(batch.valid, self.model.levels)
        parts: dict[str, list[torch.Tensor]] = {"score": [], "box": [], "mask": [], "iou": []}
        for photo, objects in enumerate(batch.boxes):
            logits, boxes = answers.logits[photo], answers.boxes[photo]
            with torch.no_grad():
                taught = assign(boxes, objects, near_priors(objects, levels))
            parts["score"].append(score_loss(logits, taught, punish[photo]) * batch.weight[photo])
            box = generalized_box_iou_loss(boxes[taught.answers], objects[taught.objects])
            parts["box"].append((box * taught.iou).sum() * batch.weight[photo])
            parts["iou"].append(taught.iou)
            if keys is not None and len(objects):
                parts["mask"].append(self.heads(keys[photo], batch.masks[photo]) * batch.weight[photo])
        iou = torch.cat(parts["iou"])
        score, box = (torch.stack(parts[name]).sum() / iou.sum().clamp_min(1) for name in ("score", "box"))
        loss = score + self.recipe.box_weight * box
        mask = torch.stack(parts["mask"]).mean() if parts["mask"] else torch.zeros_like(loss)
        loss = loss + self.recipe.mask_weight * mask
        return loss, {"score": score, "box": box, "mask": mask, "iou": iou.sum() / max(1, len(iou))}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Validation | None:
        """Box AR@100 over all objects of the rows held out."""
        assert isinstance(model, BoxDetector)
        if self.held_out is None or not len(self.held_out):
            return None
        recalls, counts, pictures = [], [], {}
        for index in range(len(self.held_out)):
            row = self.held_out[index]
            objects, _ = self.held_out.objects(index)
            boxes = boxes_of_row(model, row)
            recall = average_recall(box_iou_matrix(boxes, objects), JUDGED)
            if recall is not None:
                recalls.append(recall)
                counts.append(len(objects))
            if index < PICTURES:
                pictures[f"boxes/{index}"] = draw(row["image"], boxes[:SHOWN])
        if not counts:
            return None
        score = float(np.average(recalls, weights=counts))
        return Validation(score, {"ar_100": score, "ar_100_by_photo": float(np.mean(recalls))}, pictures)


def boxes_of_row(model: BoxDetector, row: Mapping[str, np.ndarray]) -> np.ndarray:
    """(K, 4) XYXY in pixels of the row's frame, by falling score."""
    embedding = torch.from_numpy(row["embedding"])[None].to(next(model.parameters()))
    frame, cells = row["valid"].shape[-1], embedding.shape[-1]
    rows, columns = (float(side) * cells / frame for side in row["content_hw"])
    boxes, _ = detect_in_frame(model, embedding, (rows, columns))
    return boxes.cpu().numpy() * (frame / cells)


def draw(rgb: np.ndarray, boxes_xyxy_px: np.ndarray) -> np.ndarray:
    """The photo (H, W, 3) uint8 with the outlines of boxes."""
    picture = Image.fromarray(rgb)
    pen = ImageDraw.Draw(picture)
    for box in boxes_xyxy_px.tolist():
        pen.rectangle(box, outline=(255, 40, 0))
    return np.asarray(picture)


def score_loss(logits: torch.Tensor, taught: Assignment, punish: torch.Tensor) -> torch.Tensor:
    """Quality focal loss (Li et al. 2020): each logit learns its box's IoU, 0 where nothing was assigned.

    Args:
        logits: (N,).
        taught: the answers with an object.
        punish: (N,) weight of the others.
    """
    target = torch.zeros_like(logits)
    target[taught.answers] = taught.iou
    weight = punish.clone()
    weight[taught.answers] = 1
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (cross * (logits.sigmoid() - target).square() * weight).sum()
