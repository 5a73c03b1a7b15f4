"""Read photos without annotations, which teach edges alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.photos.sa1b import Sample
from aopsam.training.annotated import Annotated, Findings
from aopsam.training.stream import PhotoStream, StreamedPhotos, read_first
from stages.annotations.held_out import is_held_out, listed_id
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from stages.edge_maps.files import EdgeMaps


def load_unlabelled(
    sources: Sequence[str],
    edges: EdgeMaps,
    on_problem: Callable[[str], None] = lambda line: None,
    held_out: Collection[str] = (),
    seed: int = 0,
) -> StreamedPhotos:
    """Load the photos of listings that have an edge map; photos with the names of held-out ones are left out.

    Args:
        sources: as `stages.corpus.listing.list_images` takes them.
        edges: edge maps.
        on_problem: called with one line for each photo that cannot be read, and one for those without an edge map.
        held_out: ids of further photos that are held out.
        seed: seed of the order of the sources, where they are large.

    Raises:
        ValueError: photos that are not there.
    """

    def read(images: str, report: Callable[[str], None]) -> Iterator[Sample]:
        for row in list_images(images).to_pylist():
            name = listed_id(row["file_name"])
            if not is_held_out(name) and name not in held_out:
                try:
                    yield Sample(row["file_name"], fetch(row, images), 0, 0, [])
                except FetchError as error:
                    report(f"{row['uri']}: {error}")

    def check(sample: Sample, findings: Findings) -> Annotated | None:
        if hashlib.sha256(sample.jpeg).hexdigest() not in edges:
            findings.count("{} unlabelled photos without an edge map, such as {}", sample.id)
            return None
        try:
            rgb = open_photo(sample.jpeg).rgb
        except PhotoError as error:
            findings.say(f"{sample.id}: {error}")
            return None
        return Annotated(sample.id, rgb, [], np.zeros((0, 2)), np.zeros(0))

    stream = PhotoStream(sources, read, seed)
    first = read_first(stream, check)
    for line in stream.findings.lines():
        on_problem(line)
    return StreamedPhotos(first, range(len(first.photos)), stream, check)
