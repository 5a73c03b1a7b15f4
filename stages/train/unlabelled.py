"""Read photos without annotations, which teach edges alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

from aopsam.photos.sa1b import Sample
from aopsam.training.annotated import Annotated, Findings
from aopsam.training.stream import StreamedPhotos
from stages.annotations.held_out import is_held_out, listed_id
from stages.edge_maps.files import EdgeMaps
from stages.train.listed import bare, read_listed


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
        on_problem: called with one line for each photo that cannot be read, one for those without an edge map, and one
            for the files of a source that are not looked at.
        held_out: ids of further photos that are held out.
        seed: seed of the order of the photos, where they are many.

    Raises:
        ValueError: photos that are not there.
    """

    def check(sample: Sample, findings: Findings) -> Annotated | None:
        name = listed_id(sample.id)
        if is_held_out(name) or name in held_out:
            return None
        if hashlib.sha256(sample.jpeg).hexdigest() not in edges:
            findings.count("{} unlabelled photos without an edge map, such as {}", sample.id)
            return None
        return bare(sample, findings)

    first, stream = read_listed(sources, check, on_problem, seed)
    return StreamedPhotos(first, range(len(first.photos)), stream, check)
