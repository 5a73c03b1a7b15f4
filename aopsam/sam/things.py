"""Find things in a photo, such as people, animals, cars and cups: boxes from the trunk of `tiny`'s encoder.

The trunk comes from a detector, NanoDet-g. `tiny` has trained it on, and what NanoDet's deeper stages knew of things is
lost there; `ThingHead` branches off at stride 8 with those stages, neck and heads as NanoDet has them (RangiLyu,
Apache-2.0; a path aggregation network, Liu et al. 2018, and the distance distributions of generalised focal loss, Li et
al. 2020), taught by NanoDet itself (`aopsam/training/thing_head.py`). A box is a prompt that a decoder answers better
than a point, and tells which of many masks show a whole object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from aopsam._as_loaded import as_loaded
from aopsam._half_weights import load_half, of_the_model, save_half
from aopsam.masks.nms import box_nms
from aopsam.sam.encoders.nanodet import CHANNELS, LEAK, STAGES, Stage
from aopsam.sam.registry import digest_of

BUNDLED = Path(__file__).parent.parent / "weights" / "things-tiny.safetensors"
"""Weights file of the head for the bundled `tiny` SAM."""
STRIDES = (8, 16, 32)
WIDTH = 128
"""Channels of the neck."""
ADAPTED = 64
"""Channels between the two convolutions that bring the trunk's map back to what NanoDet's was like."""
CLASSES = 80
"""COCO's; only the surest of a position counts."""
BINS = 11
"""Distances that a box's side may have from its position: 0 to 10 strides."""
LEAST_SCORE = 0.02
"""Boxes below it are hardly ever things."""
NMS_THRESH = 0.7
"""IoU above which non-maximum suppression drops the box with the lower score."""
MOST = 100
"""Most things of a photo."""


class Things(NamedTuple):
    """Boxes of the K things found in a photo, by falling score, on the CPU.

    Attributes:
        boxes_px: (K, 4) float32 XYXY in pixels of the photo, inside it.
        scores: (K,) float32 in [0, 1].
    """

    boxes_px: Tensor
    scores: Tensor


class ThingHead(nn.Module):
    """NanoDet from stride 8 on, on the trunk of `tiny`'s encoder.

    Attributes:
        sam: name of the SAM whose encoder it reads.
        sam_sha256: digest of that SAM's weights.
        sha256: digest of its own weights file, empty where it comes from none.
    """

    def __init__(self) -> None:
        super().__init__()
        at8 = CHANNELS[1]
        self.adapt = nn.Sequential(nn.Conv2d(at8, ADAPTED, 3, 1, 1), nn.LeakyReLU(LEAK), nn.Conv2d(ADAPTED, at8, 1))
        self.stages = nn.ModuleList(Stage(*stage) for stage in STAGES[2:])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for channels in CHANNELS[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), nn.LeakyReLU(LEAK), nn.Conv2d(WIDTH, CLASSES + 4 * BINS, 1))
            for _ in STRIDES
        )
        # It begins as NanoDet is.
        nn.init.zeros_(self.adapt[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.adapt[2].bias)  # type: ignore[arg-type]
        self.sam = self.sam_sha256 = self.sha256 = ""

    def forward(self, at8: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the head says of N positions, those of stride 8 first.

        Args:
            at8: the trunk's map at stride 8, (B, 128, h, w), h and w multiples of 4.

        Returns:
            (B, CLASSES, N) logits of the scores, and (B, 4, BINS, N) logits of the distances of a box's left, top,
            right and bottom from the position.
        """
        levels = [at8 + self.adapt(at8)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        p8, p16, p32 = (lateral(level) for lateral, level in zip(self.lateral, levels, strict=True))
        p16 = _onto(p32, p16)
        p8 = _onto(p16, p8)
        p16 = _onto(p8, p16)
        p32 = _onto(p16, p32)
        answers = torch.cat([head(x).flatten(2) for head, x in zip(self.heads, (p8, p16, p32), strict=True)], dim=2)
        scores, distances = answers.float().split([CLASSES, 4 * BINS], dim=1)
        return scores, distances.unflatten(1, (4, BINS))

    def load_nanodet(self, state: Mapping[str, Tensor]) -> None:
        """Load NanoDet's weights.

        Raises:
            ValueError: a weight is missing or has another shape.
        """
        own = self.state_dict()
        for name in own:
            if name.startswith("adapt."):
                continue
            published = name
            for ours, theirs in (("stages.1.", "stages.3."), ("stages.0.", "stages.2.")):
                published = published.replace(ours, theirs) if name.startswith(ours) else published
            published = re.sub(r"^(heads\.\d)\.2\.", r"\1.1.", published)
            if published not in state or state[published].shape != own[name].shape:
                found = f"is {list(state[published].shape)}" if published in state else "is missing"
                raise ValueError(f"not NanoDet's weights: {published} {found}, expected {list(own[name].shape)}")
            own[name] = state[published].float()
        self.load_state_dict(own)


def boxes_of(distances: Tensor, side: int) -> Tensor:
    """Return the boxes (B, N, 4) XYXY in pixels of the square of a side, from the distances of `ThingHead`."""
    x, y, stride = positions(side, distances.device).unbind(1)
    bins = torch.arange(BINS, dtype=torch.float32, device=distances.device)
    left, top, right, bottom = ((distances.softmax(2) * bins[:, None]).sum(2) * stride).unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)


def positions(side: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the N positions of a square of `side` pixels, (N, 3): x and y of their centres, and their stride."""
    found = []
    for stride in STRIDES:
        along = (torch.arange(side // stride, dtype=torch.float32, device=device) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        found.append(torch.stack([x, y, torch.full_like(x, stride)], dim=-1).flatten(0, 1))
    return torch.cat(found)


@torch.inference_mode()
def find_things(head: ThingHead, at8: Tensor, input_hw: tuple[int, int], hw: tuple[int, int]) -> Things:
    """Find the things of one photo.

    Args:
        head: of the encoder that gave the map, on its device.
        at8: (1, 128, h, w), the trunk's map of the padded square.
        input_hw: rows and columns of the square that show the photo, in pixels.
        hw: rows and columns of the photo.
    """
    with as_loaded(head):
        logits, distances = head(at8.float())
    side = STRIDES[0] * at8.shape[-1]
    scores, boxes = logits[0].amax(0).sigmoid().cpu(), boxes_of(distances, side)[0].cpu()
    limit = torch.tensor(input_hw[::-1], dtype=torch.float32)
    here = (scores >= LEAST_SCORE) & (positions(side)[:, :2] < limit).all(1)
    boxes, scores = torch.minimum(boxes[here].clamp_min(0), limit.repeat(2)), scores[here]
    wide = (boxes[:, 2:] > boxes[:, :2] + 1).all(1)
    boxes, scores = boxes[wide], scores[wide]
    kept = box_nms(boxes, scores, NMS_THRESH, MOST)
    scale = torch.tensor(hw[::-1], dtype=torch.float32) / limit
    return Things(boxes[kept] * scale.repeat(2), scores[kept])


def save_thing_head(head: ThingHead, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
    """Write a head's weights in half precision, its `sam`, `sam_sha256` and the notes with them.

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    save_half(head, path, dict(notes or {}) | {"sam": head.sam, "sam_sha256": head.sam_sha256})


def load_thing_head(path: Path | str) -> ThingHead:
    """Read a head written by `save_thing_head`: eval mode, float32, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors file, or not one of a thing head.
    """
    head, _ = load_half(path, "thing_head", lambda _metadata, _tensors: ThingHead().float())
    return head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def find_thing_head(model: Sam, path: str | None = None) -> ThingHead | None:
    """Return the thing head that belongs to a model's very weights, on its device.

    Args:
        model: the SAM whose trunk it reads.
        path: the head's file; by default the bundled one, if it belongs to the model, else there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no thing head, or one of other weights.
    """
    if path is not None:
        return of_the_model(load_thing_head(path), model, "thing_head", path)
    head = _bundled(model.device)
    return head if head.sam_sha256 == digest_of(model) else None


@cache
def _bundled(device: torch.device) -> ThingHead:
    return load_thing_head(BUNDLED).to(device)


def _onto(level: Tensor, other: Tensor) -> Tensor:
    return other + F.interpolate(level, other.shape[-2:], mode="bilinear", align_corners=False)
