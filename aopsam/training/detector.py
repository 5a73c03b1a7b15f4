"""Train the class-agnostic box detector on stored embeddings, boxes and masks (Zhang et al. 2023, MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F

from aopsam._torchvision import torchvision
from aopsam.detector.assignment import Assignment, assign, near_priors
from aopsam.detector.inference import detect_in_frame
from aopsam.detector.network import BoxDetector, level_count, levels_of
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.box_iou import box_iou_matrix
from aopsam.training.detector_batch import DetectorBatch, Objects, collate, punishable
from aopsam.training.losses import dice_loss
from aopsam.training.recipes import DetectorRecipe
from aopsam.training.task import Task, Validation, cosine, shuffled

JUDGED = 100
"""Most boxes of a photo that validation counts."""
PICTURES, SHOWN = 4, 20
"""Photos that validation draws, and boxes drawn on each."""


class MaskHead(nn.Module):
    """Head that predicts an object's mask as all positions whose key resembles the object's mean key; discarded later.

    The parts of a shirt are more alike than those of a person: of three learnt thresholds the best one counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 8.0))
        self.bias = nn.Parameter(-8.0 * torch.tensor([0.5, 0.7, 0.9]))

    def forward(self, keys: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return the mean Dice loss of G objects of a photo, from its keys (C, r, c) and masks (G, r, c) in [0, 1]."""
        flat = keys.flatten(1)
        mean = F.normalize(masks.flatten(1) @ flat.T, dim=1)
        alike = (mean @ F.normalize(flat, dim=0)).unflatten(1, keys.shape[1:])
        logits = self.scale[:, None, None, None] * alike + self.bias[:, None, None, None]
        return dice_loss(logits, masks).amin(0).mean()


class DetectorTask(Task):
    """Training of the detector on stored embeddings, without the SAM that made them.

    Scores learn the boxes' IoU, boxes learn by GIoU; the first part of the run trains masks as well.
    """

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
            ValueError: the dataset has no rows.
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
        """Return the next rows of an endless stream of shuffled epochs."""
        size = self.recipe.batch
        return collate(self.dataset, shuffled(len(self.dataset), self.recipe.seed, index * size, size))

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW of detector and mask head."""
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        group = {"params": parameters, "part": "detector"}
        return torch.optim.AdamW([group], lr=0.0, weight_decay=self.recipe.weight_decay)

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rate of an update, one for all parameters."""
        recipe = self.recipe
        return {"detector": recipe.learning_rate * cosine(step, recipe.steps, recipe.warmup)}

    def loss(
        self, batch: DetectorBatch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the loss of scores, of the boxes assigned to each object, and in the first part of its mask."""
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
            box = torchvision.ops.generalized_box_iou_loss(boxes[taught.answers], objects[taught.objects])
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
        """Measure box AR@100 over all objects of the held-out rows."""
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
    """Return the detector's boxes of a row, (K, 4) XYXY in pixels of its frame, by falling score."""
    embedding = torch.from_numpy(row["embedding"])[None].to(next(model.parameters()))
    frame, cells = row["valid"].shape[-1], embedding.shape[-1]
    rows, columns = (float(side) * cells / frame for side in row["content_hw"])
    boxes, _ = detect_in_frame(model, embedding, (rows, columns))
    return boxes.cpu().numpy() * (frame / cells)


def draw(rgb: np.ndarray, boxes_xyxy_px: np.ndarray) -> np.ndarray:
    """Draw the outlines of boxes on a photo (H, W, 3) uint8."""
    picture = Image.fromarray(rgb)
    pen = ImageDraw.Draw(picture)
    for box in boxes_xyxy_px.tolist():
        pen.rectangle(box, outline=(255, 40, 0))
    return np.asarray(picture)


def score_loss(logits: torch.Tensor, taught: Assignment, punish: torch.Tensor) -> torch.Tensor:
    """Compute the quality focal loss (Li et al. 2020): the target of a logit is its box's IoU, 0 without an object.

    Args:
        logits: (N,).
        taught: predictions that were assigned to an object.
        punish: (N,) weight of the other predictions.
    """
    target = torch.zeros_like(logits)
    target[taught.answers] = taught.iou
    weight = punish.clone()
    weight[taught.answers] = 1
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (cross * (logits.sigmoid() - target).square() * weight).sum()
