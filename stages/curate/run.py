"""Look at the photos of a corpus on Ray: one kind of actor, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from stages.curate.actor import LookAtPhotos, LookRecipe


def look_at_photos(shards: Sequence[str], recipe: LookRecipe, actors: int) -> Iterator[pa.Table]:
    """Look at every photo of the shards.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them; the actor that looks at a photo reads it, so
            that no photo crosses a process.
        recipe: `recipe.threads` CPUs are asked for each actor, and a GPU where it runs on one.
        actors: at most; no more than shards are of use.

    Yields:
        Tables of `stages.curate.actor.LOOKS` as they are made, in any order.
    """
    looks = ray.data.from_arrow([pa.table({"shard": [uri]}) for uri in shards]).map_batches(
        LookAtPhotos,
        fn_constructor_args=[recipe],
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards))),
        num_cpus=recipe.threads,
        num_gpus=1 if recipe.device == "cuda" else 0,
    )
    tables: Any = looks.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    yield from tables
