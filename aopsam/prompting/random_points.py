"""`random-N`: N points, uniform over the photo. What any prompt source must beat at an equal number of prompts."""

from __future__ import annotations

import zlib
from collections.abc import Generator

import numpy as np

from aopsam.prompting.strategy import Decoded, Trace
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class RandomPoints:
    """N points drawn from the seed and the photo's own pixels: other points on every photo, the same on every run."""

    def __init__(self, n: int, *, seed: int = 0) -> None:
        if n < 1:
            raise ValueError(f"random-{n}: at least 1 point is needed")
        self.n = n
        self.seed = seed

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """All points in one round."""
        height, width = photo.hw
        rng = np.random.default_rng([self.seed, zlib.crc32(photo.rgb.tobytes())])
        trace.proposed += self.n
        yield Prompts.from_points(rng.random((self.n, 2)) * [width, height])
