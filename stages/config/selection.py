"""Which masks are exported, and the formats of other tools by name; without Arrow, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from aopsam._options import Count, Limits

Overlap = Literal["nested", "flat", "largest"]
FormatName = Literal["coco", "yolo", "label-studio", "cvat", "webdataset", "png", "sa1b", "hf", "fiftyone"]
CorrectedName = Literal["coco", "label-studio", "cvat"]
"""Formats that come back corrected."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rules for masks that are exported."""

    overlap: Overlap | None = None
    """nested: all, with links from parts to wholes; flat: each pixel in the smallest mask alone; largest: without those
    that lie in a larger one. By default nested, and flat for png."""
    min_score: float | None = None
    """Least score, or predicted IoU without a scorer."""
    min_area: Count = 1
    """Least pixels of a mask."""
    max_area: Count | None = None
    """Most pixels of a mask."""
    max_masks: Count | None = None
    """The best so many masks of a photo."""
    min_masks: Annotated[int, Limits(0)] = 0
    """Leave out photos with fewer masks."""
