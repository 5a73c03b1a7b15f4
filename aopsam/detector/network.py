"""Box detector network: takes SAM's embedding, gives scored class-agnostic boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

SIZE = 2.5
"""Side of a square prior in steps of its level; sizes of levels differ by a factor of two."""
ASPECTS = (0.45, 1.0, 2.2)
"""Width / height of the priors at one position; nested regions of one size can be predicted by different ones."""
COARSEST = 8
"""Most positions along a side of the coarsest level."""
NUMBERS = 5
"""Outputs of one prediction: score, shift in x and y, log scale of width and height."""
KEYS = 8
"""Channels of the key of a quarter-cell square, which is compared with keys around it."""
REACH = (1, 2, 3, 5)
"""Distances, in half steps of a level, at which a position is compared with its surroundings."""
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_RARE = -4.0  # initial logit of scores: objects are rare


class Boxes(NamedTuple):
    """N predictions on each of B photos.

    Attributes:
        logits: (B, N); their `sigmoid` estimates the IoU of the box with an object's.
        boxes: (B, N, 4) XYXY in cells of the embedding.
    """

    logits: torch.Tensor
    boxes: torch.Tensor


class Level(NamedTuple):
    """Grid of positions for one size of boxes.

    Attributes:
        step: distance between positions, in cells of the embedding.
        rows: rows of positions.
        columns: columns of positions.
        start: number of the level's first prediction; predictions are ordered by row, column and aspect.
    """

    step: float
    rows: int
    columns: int
    start: int


def levels_of(rows: int, columns: int, count: int) -> list[Level]:
    """Return the levels of an embedding of rows x columns cells, the finest (two positions a cell) first."""
    levels, start, height, width = [], 0, 2 * rows, 2 * columns
    for number in range(count):
        levels.append(Level(0.5 * 2**number, height, width, start))
        start += height * width * len(ASPECTS)
        height, width = -(-height // 2), -(-width // 2)
    return levels


def level_count(cells: int) -> int:
    """Return how many levels an embedding of cells x cells needs for the coarsest one to cover the whole photo."""
    count = 2
    while 2 * cells > COARSEST * 2 ** (count - 1):
        count += 1
    return count


def priors(levels: list[Level], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the prior boxes of all predictions, (N, 4): centre x and y, width and height in cells."""
    parts = []
    for level in levels:
        y, x = torch.meshgrid(
            (torch.arange(level.rows, dtype=torch.float32, device=device) + 0.5) * level.step,
            (torch.arange(level.columns, dtype=torch.float32, device=device) + 0.5) * level.step,
            indexing="ij",
        )
        aspect = torch.tensor(ASPECTS, dtype=torch.float32, device=device).sqrt()
        size = torch.stack([aspect, 1 / aspect], dim=1) * SIZE * level.step
        at = torch.stack([x, y], dim=-1)[:, :, None].expand(-1, -1, len(ASPECTS), -1)
        parts.append(torch.cat([at, size.expand(*at.shape)], dim=-1).reshape(-1, 4))
    return torch.cat(parts)


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _answer(width: int) -> nn.Conv2d:
    layer = nn.Conv2d(width, len(ASPECTS) * NUMBERS, 1)
    nn.init.normal_(layer.weight, std=0.01)
    bias = torch.zeros(len(ASPECTS), NUMBERS)
    bias[:, 0] = _RARE
    layer.bias = nn.Parameter(bias.flatten())
    return layer


class BoxDetector(nn.Module):
    """One-stage detector on the embedding: a pyramid of levels, at each position a score and a box for every aspect.

    Boxes are offsets from prior boxes, as in SSD (Liu et al. 2016), and coarse levels' features are added to those of
    fine ones, as in FPN (Lin et al. 2017). The finest level has twice the embedding's resolution: sub-pixel
    convolutions (Shi et al. 2016) read the detail that an encoder such as `tiny` packs into a cell. The extent of
    regions is an input feature: cosines of every position with its surroundings (`likeness`; box AR@100 0.148 with it,
    0.124 without after as many updates, benchmarks/LOG.md). The score is an estimate of the box's IoU, not of a class
    (Kim et al. 2022, object localization network).

    Attributes:
        sam: name of the SAM whose embeddings the detector was trained on.
        sam_sha256: hex digest of that SAM's weights.
        sha256: hex digest of the weights file; empty for weights that were not read from a file.
    """

    def __init__(self, embedding_channels: int = 256, levels: int = 4, width: int = 64) -> None:
        super().__init__()
        self.sam = ""
        self.sam_sha256 = ""
        self.sha256 = ""
        self.embedding_channels, self.levels, self.width = embedding_channels, levels, width
        self.fine = nn.Sequential(
            nn.Conv2d(embedding_channels, 4 * width, 1, bias=False),
            nn.PixelShuffle(2),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.cell = _conv(embedding_channels, width, 1)
        self.down = nn.ModuleList(_conv(width, width, stride=2) for _ in range(levels - 2))
        self.describe = nn.Sequential(nn.Conv2d(embedding_channels, 16 * KEYS, 1), nn.PixelShuffle(4))
        self.likeness = nn.ModuleList(_conv(len(DIRECTIONS) * len(REACH), width, 1) for _ in range(levels))
        self.merge = nn.ModuleList(_conv(width, width) for _ in range(levels))
        self.tower = nn.ModuleList(_conv(width, width) for _ in range(levels))
        self.answer = nn.ModuleList(_answer(width) for _ in range(levels))

    def features(self, embedding: torch.Tensor) -> list[torch.Tensor]:
        """Compute each level's features (B, width, rows, columns), finest first, from an embedding (B, C, h, w)."""
        levels = [self.fine(embedding), self.cell(embedding)]
        for down in self.down:
            levels.append(down(levels[-1]))
        keys = self.describe(embedding)
        for number in range(self.levels):
            levels[number] = levels[number] + self.likeness[number](likeness(keys))
            keys = F.avg_pool2d(keys, 2, ceil_mode=True)
        for number in range(self.levels - 1, -1, -1):
            if number < self.levels - 1:
                coarse = F.interpolate(levels[number + 1], size=levels[number].shape[-2:], mode="nearest")
                levels[number] = levels[number] + coarse
            levels[number] = self.merge[number](levels[number])
        return [tower(level) for tower, level in zip(self.tower, levels, strict=True)]

    def boxes(self, features: list[torch.Tensor]) -> Boxes:
        """Predict scores and boxes from the levels' features."""
        raw = torch.cat(
            [by_answer(layer(level), NUMBERS) for layer, level in zip(self.answer, features, strict=True)], dim=1
        ).float()
        rows, columns = features[1].shape[-2:]
        start = priors(levels_of(rows, columns, self.levels), raw.device)
        centre = start[:, :2] + raw[..., 1:3] * start[:, 2:]
        half = start[:, 2:] * raw[..., 3:].clamp(-4, 4).exp() / 2
        return Boxes(raw[..., 0], torch.cat([centre - half, centre + half], dim=-1))

    def forward(self, embedding: torch.Tensor) -> Boxes:
        """Predict scores and boxes from SAM's embedding (B, C, h, w) of the padded square; any h and w."""
        return self.boxes(self.features(embedding))


def likeness(keys: torch.Tensor) -> torch.Tensor:
    """Compute the cosine of each position's key with keys around it, in eight directions at the distances `REACH`.

    Args:
        keys: (B, C, 2r, 2c), two to a position and axis; the last may be missing.

    Returns:
        (B, 8 * len(REACH), r, c) cosines, by distance, then row by row around the position; 0 beyond the edge.
    """
    own = F.normalize(F.avg_pool2d(keys, 2, ceil_mode=True), dim=1).to(keys.dtype).contiguous()
    rows, columns = own.shape[-2:]
    far = max(REACH)
    around = F.pad(F.normalize(keys, dim=1).to(keys.dtype), [far, far + 1] * 2).contiguous()
    alike = []
    for reach in REACH:
        places = (1 - reach, 0, reach)  # a position's own keys are 0 and 1
        for down, right in DIRECTIONS:
            y, x = far + places[1 + down], far + places[1 + right]
            alike.append((own * around[..., y : y + 2 * rows : 2, x : x + 2 * columns : 2]).sum(1))
    return torch.stack(alike, dim=1)


def by_answer(output: torch.Tensor, numbers: int) -> torch.Tensor:
    """Reorder (B, aspects * numbers, rows, columns) to one row a prediction: (B, rows * columns * aspects, numbers)."""
    return output.unflatten(1, (-1, numbers)).permute(0, 3, 4, 1, 2).flatten(1, 3)
