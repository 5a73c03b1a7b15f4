"""Export labels as shards in SA-1B's layout, which segment-anything's tools and `--data` of our pipelines read."""

from __future__ import annotations

import json
from typing import Any

from stages.results.export.photo_files import file_stem, jpeg_photo
from stages.results.export.selection import Chosen, Mask, Photo
from stages.results.export.shards import shards
from stages.results.photos import photo_name
from stages.storage.folder import write_folder


def write_sa1b(chosen: Chosen, out: str) -> str:
    """Write `out`/sa_000000.tar and so on: a `.jpg` and a `.json` for each photo, with SA-1B's keys.

    A member has the photo's path below the images' root or in its tar, by which trainings hold photos out; where that
    is no safe name or taken, the photo's end of the path and its id.
    """
    with write_folder(out) as folder, shards(folder, "sa_{:06d}.tar") as tars:
        for photo in chosen.photos(encoded=True):
            stem = member_stem(photo)
            if f"./{stem}.json" in tars.names:
                stem = file_stem(photo)
            record = json.dumps(_record(photo), allow_nan=False).encode()
            tars.add({f"./{stem}.jpg": jpeg_photo(photo), f"./{stem}.json": record})
    return out


def member_stem(photo: Photo) -> str:
    """Return the photo's path without suffix where it is a safe name for a member of a tar, else `file_stem`."""
    assert photo.listed is not None
    name = photo_name(photo.listed)
    parts = name.split("/")
    safe = name.isprintable() and "\\" not in name and not any(part in ("", ".", "..") for part in parts)
    return name if safe and not parts[-1].startswith("._") else file_stem(photo)


def _record(photo: Photo) -> dict[str, Any]:
    row = photo.row
    image = {"image_id": photo.number, "width": row["width"], "height": row["height"], "file_name": row["file_name"]}
    about = {"content_sha256": row["content_sha256"]}
    return {"image": image | about, "annotations": [_annotation(mask, photo) for mask in photo.masks]}


def _annotation(mask: Mask, photo: Photo) -> dict[str, Any]:
    known = {name: value for name, value in mask.record.items() if value is not None}
    parent = None if mask.parent is None else photo.first_mask + mask.parent
    return known | {"id": photo.first_mask + mask.number, "parent": parent}
