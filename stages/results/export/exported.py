"""Result of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Exported:
    """Result of an export: what it wrote and what it left out."""

    path: str
    """The file or folder written."""
    images: int
    annotations: int
    left_out: Mapping[str, int]
    """Number of images left out, by their status or the reason."""
    masks_left_out: int = 0
    """Number of masks of exported images that the selection left out."""
    gone: str | None = None
    """Line of the first image that is gone or has changed."""
    inexact: int = 0
    """Number of exported masks whose polygon may come back with an IoU below 0.95."""

    def __str__(self) -> str:
        """Return one line for a terminal, one for poor polygons, and one for the first image that is gone."""
        line = f"exported {self.images} images, {self.annotations} annotations to {self.path}"
        parts = [f"{n} {status}" for status, n in sorted(self.left_out.items())]
        parts += [f"{self.masks_left_out} masks"] if self.masks_left_out else []
        if parts:
            line += f" (left out: {', '.join(parts)})"
        if self.inexact:
            line += f"\n{self.inexact} masks are in parts too far apart for one polygon: their IoU may be below 0.95"
        return line if self.gone is None else f"{line}\n{self.gone}"
