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
    """Number of images left out, by their status."""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        line = f"exported {self.images} images, {self.annotations} annotations to {self.path}"
        if self.left_out:
            parts = ", ".join(f"{n} {status}" for status, n in sorted(self.left_out.items()))
            line += f" (left out: {parts})"
        return line
