"""Read photos in one folder and a PNG mask of each in another, as sets of salient and camouflaged objects come."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.decode import MAX_PIXELS
from aopsam.photos.sa1b import Sample

PHOTO_FOLDERS = ("images", "image", "imgs", "img", "photos")
"""Names of a folder of photos, in any case, also at the end of a longer one: COD10K `Imgs`, DUTS `DUTS-TE-Image`, NC4K
`Imgs`."""
MASK_FOLDERS = ("masks", "mask", "gt", "gts", "gt_object", "gt_instance")
"""Names of a folder of masks, likewise; the later one wins where a set has several: instances say more than objects."""
PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SOFT_SHARE = 0.5
"""Largest share of the pixels above 0 that may be below 255 in a mask that goes up to 255: soft edges, not ids."""


def pair_of_folders(names: Iterable[str]) -> tuple[str, str] | None:
    """Find the folder of photos and the folder of masks among a folder's subfolders; None where one is missing."""
    photos = _chosen(names := sorted(names), PHOTO_FOLDERS[::-1])
    masks = _chosen(names, MASK_FOLDERS)
    return (photos, masks) if photos and masks else None


def _chosen(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    """Return the name that is, or ends in, the last of the known ones."""
    found = [
        (known.index(end), name)
        for name in names
        for end in known
        if name.lower() == end or name.lower().endswith((f"-{end}", f"_{end}"))
    ]
    return max(found, default=(0, None))[1]


def read_mask_pairs(
    photos: Iterable[str],
    masks: Iterable[str],
    read_photo: Callable[[str], bytes],
    read_mask: Callable[[str], bytes],
    on_problem: Callable[[str], None],
) -> Iterator[Sample]:
    """Read photos with their masks, paired by file name without the suffix.

    Args:
        photos: file names in the folder of photos.
        masks: file names in the folder of masks.
        read_photo: gives the bytes of a photo by its file name.
        read_mask: gives the bytes of a mask by its file name.
        on_problem: called with one line for whatever cannot be used; the rest is used.

    Yields:
        Samples whose annotations hold `segmentation` (compressed RLE), `bbox` and `area`.
    """
    photo_of = {PurePosixPath(name).stem: name for name in photos if PurePosixPath(name).suffix.lower() in PHOTOS}
    mask_of = {PurePosixPath(name).stem: name for name in masks if PurePosixPath(name).suffix.lower() == ".png"}
    for stem in sorted(photo_of.keys() ^ mask_of.keys()):
        if stem in photo_of:
            on_problem(f"{photo_of[stem]}: no mask {stem}.png in the folder of masks")
        else:
            on_problem(f"{mask_of[stem]}: no photo of this mask, such as {stem}.jpg, in the folder of photos")
    for stem in sorted(photo_of.keys() & mask_of.keys()):
        try:
            ids = ids_of(read_mask(mask_of[stem]))
            photo = read_photo(photo_of[stem])
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's, of broken files
            on_problem(f"{mask_of[stem]}: {' '.join(str(error).split())}")
            continue
        height, width = ids.shape
        encoded = [rle.encode(ids == one) for one in np.unique(ids[ids != 0])]
        annotations: list[dict[str, Any]] = [
            {"segmentation": mask, "bbox": list(rle.bbox_xywh(mask)), "area": rle.area(mask)} for mask in encoded
        ]
        yield Sample(stem, photo, width, height, annotations)


def ids_of(png: bytes) -> NDArray[np.integer]:
    """Read the objects of a mask: (h, w), each pixel with its object's id; 0, or black, is background.

    Ids are the values of a palette (255 is void, as in PASCAL VOC), of 16 bits, or of grey below 255, and each colour
    of a coloured picture. Grey up to 255 is one object, where it is at least half of 255; a picture with more than
    `SOFT_SHARE` of what is not background below 255 is no mask.

    Raises:
        ValueError: no PNG, too large, or grey values that are neither ids nor a mask.
    """
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} × {image.height} px is over the limit of {MAX_PIXELS}")
        if image.mode == "P":
            palette = np.asarray(image)
            return np.where(palette == 255, 0, palette)
        if image.mode in ("RGB", "RGBA"):
            rgb = np.asarray(image.convert("RGB")).astype(np.int32)
            if not (rgb == rgb[..., :1]).all():
                return rgb @ np.array([1 << 16, 1 << 8, 1])
            values = rgb[..., 0]
        elif image.mode in ("1", "L", "LA"):
            values = np.asarray(image.convert("L")).astype(np.int32)
        else:  # 16 bits
            return np.asarray(image).astype(np.int32)
    if not values.size or values.max() < 255:
        return values
    share = float(((values > 0) & (values < 255)).sum() / (values > 0).sum())
    if share > SOFT_SHARE:
        raise ValueError(f"grey values up to 255, {share:.0%} of them between: neither a mask of 0 and 255 nor ids")
    return (values >= 128).astype(np.int32)
