"""Read photos of a labelling run again, to show them with their masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aopsam.photos.decode import open_photo
from schemas.listing import SCHEMA
from stages.config.manifest import finished_manifest
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.index import read_listing
from stages.corpus.listing import list_images
from stages.storage.location import redact


class PhotosAgain:
    """Photos of a labelling run, found by its listing or, where a place is given, by listing that.

    In memory are the listing, as an Arrow table, and the place of each id in it.

    Args:
        out: the run's folder.
        images: where its photos lie; None for what its manifest says.

    Attributes:
        images: where they are looked for; None if nobody knows, and then no photo is found.

    Raises:
        ValueError: `images` was given and cannot be listed.
    """

    def __init__(self, out: str, images: str | None) -> None:
        self.images = images or _images_of(out)
        self._listing = list_images(images) if images else _listing_of(out)
        ids = [] if self._listing is None else self._listing.column("image_id").to_pylist()
        self._places = {image_id: place for place, image_id in enumerate(ids)}

    def read(self, row: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
        """Read the photo of a label row: (H, W, 3) uint8.

        Raises:
            ValueError: it cannot be had, or another one lies there now; the message is one line.
        """
        if self._listing is None or self.images is None:
            raise ValueError("photo not shown: nothing says where it lies, give --images")
        place = self._places.get(row["image_id"])
        if place is None:
            raise ValueError(f"photo not shown: not below {redact(self.images)}")
        try:
            data = fetch(self._listing.slice(place, 1).to_pylist()[0], self.images)
            if hashlib.sha256(data).hexdigest() != row["content_sha256"]:
                raise ValueError("another photo lies there now")
            return open_photo(data, row["width"] * row["height"]).rgb
        except (FetchError, ValueError) as error:
            raise ValueError(f"photo not shown: {error}") from error


def _images_of(out: str) -> str | None:
    """Return the images that a run's manifest names; None where there is none."""
    manifest = finished_manifest(out) or {}
    images = manifest.get("configuration", {}).get("images")
    return images if isinstance(images, str) else None


def _listing_of(out: str) -> pa.Table | None:
    """Return the listing of a run; None for tables without a run around them."""
    try:
        return pa.concat_tables([SCHEMA.empty_table(), *read_listing(out)])
    except (ValueError, OSError):
        return None
