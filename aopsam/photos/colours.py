"""Bring a photo's colours to sRGB, as its embedded ICC profile says."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MOST_PROFILE_BYTES = 4 << 20
"""Larger profiles are ignored; those of printing presses, the largest in use, have 0.5 to 3 MB."""
AS_SRGB = 2
"""Most that a profile may change a channel, of 255, and still count as sRGB: how its many versions differ."""

_SPACES = {"RGB": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
_OF_DEVICES = (b"scnr", b"mntr", b"prtr", b"spac")


def to_srgb(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """Return what brings an image, converted to `profile_mode`, to RGB by its profile.

    None where there is none, or it is sRGB, of another kind of colours than the image, or broken.
    """
    profile = image.info.get("icc_profile")
    mode = profile_mode(image)
    if not isinstance(profile, bytes) or not 128 < len(profile) <= MOST_PROFILE_BYTES:
        return None
    if profile[16:20] != _SPACES[mode] or profile[12:16] not in _OF_DEVICES:
        return None
    return _transform(profile, mode)


def profile_mode(image: Image.Image) -> str:
    """Return the mode that an image must be converted to before its profile holds: L, CMYK or RGB."""
    return "L" if image.mode in {"1", "L", "LA", "La"} else "CMYK" if image.mode == "CMYK" else "RGB"


# A corpus has few profiles: of a camera's photos all have the same.
@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        colours = _colours(mode)
        converted, plain = (np.asarray(one, np.int16) for one in (transform.apply(colours), colours.convert("RGB")))
    except Exception:  # whatever is wrong with a profile, the pixels are as good as without
        return None
    return None if np.abs(converted - plain).max() <= AS_SRGB else transform


def _colours(mode: str) -> Image.Image:
    """Make an image of colours all over the space, one row."""
    bands = len(Image.Image.getbands(Image.new(mode, (1, 1))))
    steps = np.linspace(0, 255, 256 if bands == 1 else 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * bands), axis=-1).reshape(1, -1, bands)
    return Image.fromarray(grid[..., 0]) if bands == 1 else Image.frombytes(mode, grid.shape[1::-1], grid.tobytes())
