"""Build edge maps on actors, some photos a file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from stages.annotations.shards import list_shards
from stages.corpus.listing import list_images
from stages.corpus.others import describe_others
from stages.edge_maps.actor import BuildEdgeMaps, write_file
from stages.edge_maps.photos import ReadPhotos
from stages.engine.progress import Progress
from stages.engine.resources import Resources
from stages.engine.steps import Tasks, pool, run_steps
from stages.storage.location import redact

LISTED_A_UNIT = 256
"""Listed photos of a unit of work."""


def list_units(data: Sequence[str], unlabelled: Sequence[str], on_problem: Callable[[str], None]) -> list[pa.Table]:
    """List units of work, as `ReadPhotos` takes them: annotated shards, and parts of listings.

    Args:
        data: annotated photos, as `stages.annotations.shards.list_shards` takes them.
        unlabelled: photos, as `stages.corpus.listing.list_images` takes them.
        on_problem: called with one line for files that are not looked at.

    Raises:
        ValueError: photos that are not there.
    """
    units = [pa.table({"shard": [shard]}) for source in data for shard in list_shards(source)]
    for images in unlabelled:
        others = Counter[str]()
        listing = list_images(images, others=others)
        if others:
            on_problem(f"{redact(images)}: {describe_others(others)}")
        rows = listing.append_column("images", pa.array([images] * listing.num_rows, pa.string()))
        units += [rows.slice(start, LISTED_A_UNIT) for start in range(0, rows.num_rows, LISTED_A_UNIT)]
    return units


def build_edge_maps(
    units: Sequence[pa.Table], hed: str, folder: str, done: frozenset[str], resources: Resources, max_seconds: float
) -> tuple[int, int]:
    """Write the edge maps of all photos into a folder; say on stderr how it goes and what is left out.

    Args:
        units: of `list_units`.
        hed: file of HED's weights, on every node.
        folder: path or fsspec URI, reachable from every node.
        done: SHA-256 of the photos that are passed over.
        resources: actors, threads and device.
        max_seconds: longest time for a photo.

    Returns:
        How many rows were written, and how many photos left out.
    """
    make = partial(BuildEdgeMaps, hed, resources.device, resources.threads)
    write = partial(write_file, folder=folder)
    steps = Tasks(ReadPhotos(done), max(2, resources.actors)), pool(make, resources, write, max_seconds)
    progress = Progress("photos")
    for table in run_steps(units, steps):
        for account in table.to_pylist():
            left_out = len(account["problems"])
            progress.expect(account["rows"] + left_out)
            progress.add(account["rows"] + left_out, left_out)
            print("".join(f"left out: {line}\n" for line in account["problems"]), end="", file=sys.stderr, flush=True)
    progress.close()
    return progress.items - progress.failed, progress.failed
