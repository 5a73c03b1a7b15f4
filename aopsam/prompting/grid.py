"""`grid-N`: N × N points at the centres of equal cells, blind to the photo (Kirillov et al. 2023)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

import numpy as np
from segment_anything.utils.amg import build_point_grid

from aopsam.prompting.fates import Fates
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts

MOST_PER_SIDE = 1024


class Grid(Strategy):
    """The same points, relative to the photo's size, for every photo, in one round."""

    def __init__(self, points: np.ndarray) -> None:
        """Take `points` (N, 2), XY in [0, 1] of the photo's width and height."""
        self.points = np.asarray(points, dtype=np.float64).reshape(-1, 2)

    @classmethod
    def per_side(cls, n: int) -> Self:
        """Return a grid of N points per side, at cell centres.

        Raises:
            ValueError: N is below 1 or above `MOST_PER_SIDE`.
        """
        if not 1 <= n <= MOST_PER_SIDE:
            raise ValueError(f"grid-{n}: a grid needs at least 1 point per side, and at most {MOST_PER_SIDE}")
        return cls(build_point_grid(n))

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build `grid-N`; it has no options."""
        return cls.per_side(context.number, **options)

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield all points in one round, row by row."""
        height, width = photo.hw
        yield Prompts.from_points(self.points * [width, height])
