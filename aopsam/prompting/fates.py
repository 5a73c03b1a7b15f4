"""Fates of a photo's prompts: decoded in a round, or dropped for a reason; counted, and written down where asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aopsam.sam.prompts import Prompts


@dataclass(frozen=True)
class ConfidenceMap:
    """Map that prompts were proposed from.

    Attributes:
        crop_box: part of the photo that it covers, XYWH px.
        confidence: (h, w) float32 in [0, 1].
    """

    crop_box: list[int]
    confidence: np.ndarray


@dataclass
class Trace:
    """Record of how a photo was prompted.

    Attributes:
        prompts: of each prompt proposed, in the order in which its fate was decided: `point_coords` [x, y] px, or None;
            `box` XYXY px, or None; `confidence`, the strategy's own; `round`, in which it was decoded or after which it
            was dropped, from 1, 0 before the first; `dropped`, the reason, or None if it was decoded.
        maps: confidence maps, in the order of the parts; none of strategies that have none.
    """

    prompts: list[dict[str, Any]] = field(default_factory=list)
    maps: list[ConfidenceMap] = field(default_factory=list)


class Fates:
    """Counts what becomes of the prompts of one photo, part by part and round by round.

    Attributes:
        decoded: prompts sent to the decoder.
        dropped: prompts proposed and not sent, by reason.
        trace: in which they are written down, if asked for.
    """

    def __init__(self, trace: Trace | None = None) -> None:
        """Start a photo; `trace` is filled as its prompts meet their fates."""
        self.decoded = 0
        self.dropped: Counter[str] = Counter()
        self.trace = trace
        self._round = 0
        self._part_xyxy_px = (0, 0, 0, 0)

    def enter(self, part_xyxy_px: tuple[int, int, int, int]) -> None:
        """Go on to a part of the photo, in whose pixels the next prompts are; rounds are counted on."""
        self._part_xyxy_px = part_xyxy_px

    def show(self, confidence: np.ndarray) -> None:
        """Take the map of the part, (h, w) float32 in [0, 1] without padding, that prompts are proposed from."""
        if self.trace is not None:
            x0, y0, x1, y1 = self._part_xyxy_px
            self.trace.maps.append(ConfidenceMap([x0, y0, x1 - x0, y1 - y0], confidence))

    def send(self, prompts: Prompts) -> None:
        """Begin a round of prompts that are decoded."""
        self.decoded += len(prompts)
        self._round += bool(len(prompts))
        self._write_down(prompts, None)

    def drop(self, prompts: Prompts, reason: str) -> None:
        """Give up prompts that were proposed."""
        if len(prompts):
            self.dropped[reason] += len(prompts)
            self._write_down(prompts, reason)

    def _write_down(self, prompts: Prompts, dropped: str | None) -> None:
        if self.trace is None:
            return
        placed = prompts.coords_px + np.array(self._part_xyxy_px[:2], np.float32)
        for coords, confidence in zip(placed, prompts.confidence.tolist(), strict=True):
            self.trace.prompts.append(
                {
                    "point_coords": None if prompts.are_boxes else coords[0].tolist(),
                    "box": coords.reshape(-1)[:4].tolist() if prompts.are_boxes else None,
                    "confidence": confidence,
                    "round": self._round,
                    "dropped": dropped,
                }
            )
