"""Read photos in one folder and a PNG mask of each in another, as sets of salient and camouflaged objects come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from aopsam.masks import rle
from aopsam.masks.runs import Runs
from aopsam.photos.lines import one_line, valid_text
from aopsam.photos.mask_png import ids_of
from aopsam.photos.sa1b import Sample

PHOTO_FOLDERS = ("images", "image", "imgs", "img", "photos", "rgb")
"""Names of a folder of photos, in any case, also at the end of a longer one: COD10K `Imgs`, DUTS `DUTS-TE-Image`, NC4K
`Imgs`, SIP `RGB`."""
MASK_FOLDERS = ("masks", "mask", "gt", "gts", "gt_object", "gt_instance", "instance gt")
"""Names of a folder of masks, likewise; the later one wins where a set has several: instances say more than objects."""
PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
NO_MASKS = PHOTOS - {".png"} | {".tif", ".tiff", ".gif"}
"""Pictures that are no masks: JPEG's noise would be ids."""


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

    def report(line: str) -> None:
        on_problem(one_line(line))

    photos, masks = list(photos), list(masks)
    photo_of, others = _by_stem(photos, PHOTOS)
    if others:
        report(f"{len(others)} photos of the name of another, such as {others[0]}, are left out")
    mask_of, others = _by_stem(masks, {".png"})
    if others:
        report(f"{len(others)} masks of the name of another, such as {others[0]}, are left out")
    no_png, _ = _by_stem(masks, NO_MASKS)
    if alone := [no_png[stem] for stem in sorted(photo_of.keys() & (no_png.keys() - mask_of.keys()))]:
        report(f"{len(alone)} masks are no PNG, such as {alone[0]}; save them as PNG, without JPEG's noise")
    for folder, files in (("photos", _others(photos, PHOTOS)), ("masks", _others(masks, {".png"}) - set(alone))):
        if files:
            report(f"{len(files)} other files in the folder of {folder}, such as {min(files)}, are not read")
    for stem in sorted(photo_of.keys() ^ mask_of.keys()):
        if stem in photo_of and stem in no_png:
            continue
        if stem in photo_of:
            report(f"{photo_of[stem]}: no mask {stem}.png in the folder of masks")
        else:
            report(f"{mask_of[stem]}: no photo of this mask, such as {stem}.jpg, in the folder of photos")
    for stem in sorted(photo_of.keys() & mask_of.keys()):
        try:
            ids = ids_of(read_mask(mask_of[stem]))
            photo = read_photo(photo_of[stem])
        except Exception as error:  # Pillow's readers raise anything at all on broken bytes
            report(f"{mask_of[stem]}: {str(error) or type(error).__name__}")
            continue
        height, width = ids.shape
        encoded = encode_ids(ids)
        annotations: list[dict[str, Any]] = [
            {"segmentation": mask, "bbox": list(rle.bbox_xywh(mask)), "area": rle.area(mask)} for mask in encoded
        ]
        yield Sample(valid_text(stem), photo, width, height, annotations)


def _by_stem(names: Iterable[str], suffixes: set[str]) -> tuple[dict[str, str], list[str]]:
    """Return the names with one of the suffixes by what comes before it, and those whose stem another has."""
    by_stem: dict[str, str] = {}
    others = []
    for name in sorted(names):
        if (
            PurePosixPath(name).suffix.lower() in suffixes
            and by_stem.setdefault(PurePosixPath(name).stem, name) != name
        ):
            others.append(name)
    return by_stem, others


def _others(names: Iterable[str], suffixes: set[str]) -> set[str]:
    return {name for name in names if PurePosixPath(name).suffix.lower() not in suffixes}


def encode_ids(ids: npt.NDArray[np.integer]) -> list[rle.RLE]:
    """Encode the mask of each id above 0 of (h, w), in order of the ids; as quick for thousands as for one."""
    height, width = ids.shape
    flat = ids.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    stops = np.append(starts[1:], len(flat))
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    order = order[values[order] > 0]
    parts = np.split(order, np.flatnonzero(np.diff(values[order])) + 1) if len(order) else []
    return [rle.from_runs(Runs(starts[part], stops[part], (height, width), (0, 0, 0, 0))) for part in parts]
