"""`random-N`: N points, uniform over the photo. What any prompt source must beat at an equal number of prompts."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import Annotated, Any, Self

import numpy as np

from aopsam._options import Limits
from aopsam.prompting.fates import Fates
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts

MOST_POINTS = 2**20


class RandomPoints(Strategy):
    """N points drawn from the seed and the photo's own pixels: other points on every photo, the same on every run."""

    def __init__(self, n: int, *, seed: Annotated[int, Limits(0)] = 0) -> None:
        """Set up the strategy.

        Args:
            n: points a photo.
            seed: decides, with the photo's pixels, which points are drawn.

        Raises:
            ValueError: n is below 1 or above `MOST_POINTS`.
        """
        if not 1 <= n <= MOST_POINTS:
            raise ValueError(f"random-{n}: at least 1 point is needed, and at most {MOST_POINTS}")
        self.n = n
        self.seed = seed

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build `random-N`."""
        return cls(context.number, **options)

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield all points in one round."""
        height, width = photo.hw
        rng = np.random.default_rng([self.seed, zlib.crc32(photo.rgb.tobytes())])
        yield Prompts.from_points(rng.random((self.n, 2)) * [width, height])
