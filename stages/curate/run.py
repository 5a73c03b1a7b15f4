"""Describe the photos of a corpus on actors, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from stages.curate.actor import DescribePhotos, DescriptionRecipe
from stages.engine.resources import Resources, run_actors


def describe_photos(shards: Sequence[str], recipe: DescriptionRecipe, resources: Resources) -> Iterator[pa.Table]:
    """Describe every photo of the shards.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them; the actor that describes a photo reads it, so
            that no photo crosses a process.
        recipe: which SAM's embeddings; its device and threads become those of the resources.
        resources: actors, threads and device; more actors than shards are of no use.

    Yields:
        Tables of `stages.curate.actor.DESCRIPTIONS` as they are made, in any order.
    """
    recipe = replace(recipe, device=resources.device, threads=resources.threads)
    units = [pa.table({"shard": [uri]}) for uri in shards]
    yield from run_actors(units, partial(DescribePhotos, recipe), resources)
