"""Made photos as bytes of any format, and what is wrong with bytes that are none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from aopsam.photos.decode import PhotoError, PhotoProblem, open_photo

LIMIT = 10_000_000
"""Most pixels that are decoded."""


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(mode: str = "RGB", width: int = 48, height: int = 32) -> Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


def problem(data: bytes, max_pixels: int = LIMIT) -> PhotoProblem:
    with pytest.raises(PhotoError) as caught:
        open_photo(data, max_pixels)
    assert "\n" not in caught.value.message
    return caught.value.kind
