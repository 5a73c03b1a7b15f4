"""`grid-N`: N × N points at the centres of equal cells, blind to the photo (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from segment_anything.utils.amg import build_point_grid

from aopsam.prompting.strategy import Decoded, Trace
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class Grid:
    """The same points, relative to the photo's size, for every photo, in one round."""

    def __init__(self, points: np.ndarray) -> None:
        """`points` is (N, 2), XY in [0, 1] of the photo's width and height."""
        self.points = np.asarray(points, dtype=np.float64).reshape(-1, 2)

    @classmethod
    def per_side(cls, n: int) -> Grid:
        """N points per side, at cell centres."""
        if n < 1:
            raise ValueError(f"grid-{n}: a grid needs at least 1 point per side")
        return cls(build_point_grid(n))

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """All points, row by row."""
        height, width = photo.hw
        trace.proposed += len(self.points)
        yield Prompts.from_points(self.points * [width, height])
