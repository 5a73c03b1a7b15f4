"""Prompt maps of made-up shards, by a small SAM of random weights named `toy`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from schemas.prompt_maps import SCHEMA
from stages.annotations.each_photo import Account, EachPhoto, WritePart, accounts
from stages.annotations.samples import ReadSamples, Source
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.files import HOW
from stages.prompt_maps.recipe import MapRecipe

TOY = MapRecipe(sam="toy", threads=1)


def write_maps(folder: Path, shard: Path, recipe: MapRecipe, only: str | None = None) -> list[Account]:
    """Write the maps of a shard as a run does; return what it says of them."""
    stage, write = EachPhoto(partial(BuildPromptMaps, recipe), SCHEMA), WritePart(str(folder), SCHEMA, HOW)
    units = ReadSamples(16, only=only)(Source.of_shard(str(shard)).unit())
    return [account for samples in units for account in accounts(write(stage(samples)))]
