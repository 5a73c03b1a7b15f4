"""Make batches for the detector's training: embeddings, boxes and masks of photos."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from aopsam.detector.network import ASPECTS


class Objects(Protocol):
    """A map-style dataset of embeddings and objects; `stages.prompt_maps.rows.PromptMapRows` is one."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return a row: `image` (S, S, 3) uint8, `content_hw` (2,) int, `embedding` (C, h, w) float16, `valid` (S, S)
        uint8, `weight` () float32, among others."""

    def objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, 4) float32 XYXY boxes and (N, S, S) bool masks of a row, in pixels of its frame of S x S."""


@dataclass(frozen=True)
class DetectorBatch:
    """Rows of one batch.

    Attributes:
        embedding: (B, C, h, w) float32.
        valid: (B, 2h, 2w) float32, share of each half cell where the annotation is complete enough to penalise extra
            boxes.
        boxes: B tensors (N, 4) XYXY in cells.
        masks: B tensors (N, 2h, 2w) float32 in [0, 1].
        weight: (B,) weight of each row.
    """

    embedding: torch.Tensor
    valid: torch.Tensor
    boxes: list[torch.Tensor]
    masks: list[torch.Tensor]
    weight: torch.Tensor

    def to(self, device: torch.device) -> DetectorBatch:
        """Return the batch on a device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = [one.to(device) for one in value] if isinstance(value, list) else value.to(device)
        return DetectorBatch(**moved)


def punishable(valid: torch.Tensor, levels: int) -> torch.Tensor:
    """Return how complete the annotation is around each prediction's position, from `valid` (B, 2h, 2w): (B, N)."""
    parts, level = [], valid[:, None]
    for number in range(levels):
        if number:
            level = F.avg_pool2d(level, 2, ceil_mode=True)
        parts.append(level.flatten(1).repeat_interleave(len(ASPECTS), dim=1))
    return torch.cat(parts, dim=1)


def collate(rows: Objects, indices: list[int]) -> DetectorBatch:
    """Stack rows: boxes in cells, masks and validity at two positions a cell."""
    taken = [rows[index] for index in indices]
    height, width = taken[0]["embedding"].shape[-2:]
    frame = taken[0]["valid"].shape[-1]
    boxes, masks = [], []
    for index in indices:
        found, drawn = rows.objects(index)
        boxes.append(torch.from_numpy(found * (width / frame)).float())
        masks.append(_shrink(torch.from_numpy(drawn), (2 * height, 2 * width)))
    return DetectorBatch(
        torch.from_numpy(np.stack([row["embedding"] for row in taken])).float(),
        _shrink(torch.from_numpy(np.stack([row["valid"] for row in taken])), (2 * height, 2 * width)),
        boxes,
        masks,
        torch.from_numpy(np.stack([row["weight"] for row in taken])).float(),
    )


def _shrink(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Shrink pictures (N, S, S) to (N, *size) float32, by area."""
    return F.adaptive_avg_pool2d(pictures.float(), size)
