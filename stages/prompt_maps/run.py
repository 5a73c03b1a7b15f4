"""Build prompt maps on Ray: one kind of actor, sixteen photos a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data

from stages.prompt_maps.actor import BuildPromptMaps, MapRecipe
from stages.prompt_maps.samples import ROWS_PER_FILE, Reading, read_samples


def build_prompt_maps(
    shards: Sequence[str], reading: Reading, recipe: MapRecipe, folder: str, actors: int, device: str
) -> Iterator[tuple[int, list[str]]]:
    """Write the prompt maps of all shards into a folder.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        reading: which of their photos.
        recipe: how maps are made; `recipe.threads` CPUs are asked for each actor.
        folder: path or fsspec URI, reachable from every node.
        actors: at most; no more than shards to begin with.
        device: `cpu`, or `cuda` for one GPU an actor.

    Yields:
        Rows written and a line for every photo left out, as files are finished.
    """
    accounts = (
        ray.data.from_arrow([pa.table({"shard": [uri]}) for uri in shards])
        .map_batches(
            partial(read_samples, reading=reading),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(actors, len(shards))),
            num_cpus=0,  # actors that hold them all cannot block it then; but without the size all shards would be open
        )
        .map_batches(
            BuildPromptMaps,
            fn_constructor_args=[recipe, folder, device],
            batch_size=ROWS_PER_FILE,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=min(actors, len(shards)), max_size=actors),
            num_cpus=recipe.threads,
            num_gpus=1 if device == "cuda" else 0,
        )
    )
    account: dict[str, Any]
    for account in accounts.iter_rows():
        yield account["rows"], list(account["problems"])
