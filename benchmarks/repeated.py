"""A folder of as many photos as a benchmark needs, made by linking those of another folder again and again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def repeat_photos(images: Path, count: int, folder: Path) -> Path:
    """Link (or copy, from another disk) photos of `images` into `folder` until there are `count`; returns `folder`.

    Raises:
        ValueError: `images` has no JPEG.
    """
    photos = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not photos:
        raise ValueError(f"{images}: no *.jpg there")
    folder.mkdir(parents=True)
    for number in range(count):
        photo, target = photos[number % len(photos)], folder / f"{number:06d}.jpg"
        try:
            os.link(photo, target)
        except OSError:
            shutil.copyfile(photo, target)
    return folder
