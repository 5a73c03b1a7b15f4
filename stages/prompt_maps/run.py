"""Build prompt maps on actors, sixteen photos a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from stages.engine.resources import Resources, run_actors
from stages.prompt_maps.actor import BuildPromptMaps, MapRecipe
from stages.prompt_maps.samples import ROWS_PER_FILE, Reading, read_samples


def build_prompt_maps(
    shards: Sequence[str], reading: Reading, recipe: MapRecipe, folder: str, resources: Resources
) -> Iterator[tuple[int, list[str]]]:
    """Write the prompt maps of all shards into a folder.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        reading: which of their photos to use.
        recipe: how maps are made; its threads become those of the resources.
        folder: path or fsspec URI, reachable from every node.
        resources: actors, threads and device.

    Yields:
        Rows written and a line for every photo left out, as files are finished.
    """
    units = [pa.table({"shard": [uri]}) for uri in shards]
    recipe = replace(recipe, threads=resources.threads)
    make, read = partial(BuildPromptMaps, recipe, folder, resources.device), partial(read_samples, reading=reading)
    for table in run_actors(units, make, resources, read=read, rows_at_once=ROWS_PER_FILE):
        yield from ((account["rows"], account["problems"]) for account in table.to_pylist())
