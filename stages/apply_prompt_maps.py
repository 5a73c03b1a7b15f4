"""Build prompt maps on Ray: one kind of actor, sixteen photos a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from stages.prompt_maps import ROWS_PER_FILE, BuildPromptMaps, MapRecipe, read_samples


def build_prompt_maps(
    shards: Sequence[str], recipe: MapRecipe, folder: str, actors: int
) -> Iterator[tuple[int, list[str]]]:
    """Write the prompt maps of all shards into a folder.

    Args:
        shards: as `stages.shards.list_shards` gives them.
        recipe: how maps are made; `recipe.threads` CPUs are asked for each actor.
        folder: path or fsspec URI, reachable from every node.
        actors: at most.

    Yields:
        Rows written and a line for every photo left out, as files are finished.
    """
    accounts = (
        ray.data.from_arrow([pa.table({"shard": [uri]}) for uri in shards])
        .map_batches(read_samples, batch_size=1, batch_format="pyarrow", num_cpus=0)
        .map_batches(
            BuildPromptMaps,
            fn_constructor_args=[recipe, folder],
            batch_size=ROWS_PER_FILE,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards))),
            num_cpus=recipe.threads,
        )
    )
    account: dict[str, Any]
    for account in accounts.iter_rows():
        yield account["rows"], list(account["problems"])
