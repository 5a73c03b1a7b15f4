"""Copies of a photo as they lie about in a corpus: mirrored, resized, encoded again."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

COPIES = ("resized", "re-encoded", "mirrored", "mirrored, resized, re-encoded")


def encoded(rgb: np.ndarray, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def planted_copy(rgb: np.ndarray, kind: str) -> bytes:
    """JPEG of a photo after the changes that `kind` names."""
    picture = Image.fromarray(rgb)
    if "mirrored" in kind:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "resized" in kind:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
    return encoded(np.asarray(picture), quality=40 if "re-encoded" in kind else 90)
