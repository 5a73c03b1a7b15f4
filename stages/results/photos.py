"""Read the photos that a labelling run labelled: its listing tells where each lies, its labels what it was."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stages.corpus.fetch import FetchError, fetch
from stages.corpus.index import read_listing
from stages.corpus.listing import list_images
from stages.label.folder import names_by_key
from stages.storage.location import open_filesystem, redact


class PhotoGone(ValueError):
    """A photo that cannot be had as it was labelled; the message is one line and names it."""


class LabelledPhotos:
    """Photos of one file of OUT/labels.

    In memory is the listing (0.3 KB an image) of the archive whose photos they are, or of all files.
    """

    def __init__(self, uri: str, images: str | None = None) -> None:
        """Read the listing.

        Args:
            uri: of the file of labels. OUT/listing tells where its photos lie: files, members of tars and rows of
                Parquet files.
            images: the photos as an argument --images of `label_corpus.py`, if they are elsewhere now or reading them
                takes keys.

        Raises:
            ValueError: no listing in OUT, or no such photos.
        """
        out = posixpath.dirname(posixpath.dirname(uri))
        key = next(iter(names_by_key([posixpath.basename(uri)])), "")
        self._listing, self._root = _listing(out, images, key)

    def find(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any] | None]:
        """Yield the listing's row of each row of labels, None for one that it lacks."""
        ids = pa.array([row["image_id"] for row in rows], pa.string())
        for place in pc.index_in(ids, value_set=self._listing.column("image_id")).to_pylist():
            yield None if place is None else self._listing.slice(place, 1).to_pylist()[0]

    def read(self, row: Mapping[str, Any], listed: Mapping[str, Any] | None) -> bytes:
        """Return the encoded photo of a row of labels, given the listing's.

        Raises:
            PhotoGone: the listing lacks it, it cannot be read, or it has changed since it was labelled.
        """
        if listed is None:
            raise PhotoGone(f"{row['file_name']}: not among the photos of {redact(self._root)}")
        try:
            encoded = fetch(listed, self._root)
        except FetchError as error:
            gone = f"{row['file_name']}: {error}; give --images if the photos are elsewhere now"
            raise PhotoGone(gone) from error
        if hashlib.sha256(encoded).hexdigest() != row["content_sha256"]:
            raise PhotoGone(f"{row['file_name']}: the photo has changed since it was labelled")
        return encoded


def photo_name(listed: Mapping[str, Any]) -> str:
    """Return a photo's path below the images' root, or inside its tar, without suffix, as annotated shards name it."""
    name: str = listed["file_name"]
    if listed["kind"] == "parquet":
        return name
    if listed["kind"] == "tar":
        name = re.split(r"\.tar#", name, maxsplit=1, flags=re.IGNORECASE)[-1]
    return posixpath.splitext(name)[0]


@lru_cache(maxsize=1)
def _listing(out: str, images: str | None, key: str) -> tuple[pa.Table, str]:
    """Return the listing of a run's images, of one archive if a key names it, and the images argument of the run."""
    if images is not None:
        return list_images(images), images
    filesystem, root = open_filesystem(out)
    try:
        configuration = json.loads(filesystem.cat_file(f"{root}/manifest.json"))["configuration"]
        return pa.concat_tables(read_listing(out, key)), str(configuration["images"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(
            f"{redact(out)}: manifest.json and the listing do not tell where its photos are"
            f" ({type(error).__name__}: {error}); give --images"
        ) from error
