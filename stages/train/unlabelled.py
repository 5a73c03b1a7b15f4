"""Load photos without annotations, which teach edges alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.training.annotated import Annotated, StoredPhotos
from stages.annotations.held_out import is_listed_held_out
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from stages.edge_maps.files import EdgeMaps


def load_unlabelled(
    sources: Sequence[str], edges: EdgeMaps, on_problem: Callable[[str], None] = lambda line: None
) -> StoredPhotos:
    """Load the photos of listings that have an edge map; photos with the names of held-out ones are left out.

    Args:
        sources: as `stages.corpus.listing.list_images` takes them.
        edges: edge maps.
        on_problem: called with one line for each photo that cannot be read, and one for those without an edge map.

    Raises:
        ValueError: photos that are not there.
    """
    bare: list[str] = []

    def usable() -> Iterator[tuple[bytes, Annotated]]:
        for images in sources:
            for row in list_images(images).to_pylist():
                name = row["file_name"]
                if is_listed_held_out(name):
                    continue
                try:
                    encoded = fetch(row, images)
                    if hashlib.sha256(encoded).hexdigest() not in edges:
                        bare.append(name)
                        continue
                    rgb = open_photo(encoded).rgb
                except (FetchError, PhotoError) as error:
                    on_problem(f"{row['uri']}: {error}")
                    continue
                yield encoded, Annotated(name, rgb, [], np.zeros((0, 2)), np.zeros(0))

    photos = StoredPhotos(usable())
    if bare:
        on_problem(f"{len(bare)} unlabelled photos without an edge map, such as {bare[0]}")
    return photos
