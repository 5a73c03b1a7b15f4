"""Choose photos to train on that cover a corpus: near-duplicates out, then diverse and evenly spread.

On a laptop:
    python pipelines/curate.py --data bsds500/train coco/train --keep 0.33 --out out/curation
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/curate.py --data s3://bucket/sa1b --keep 100000 \\
        --sam vit_b --out s3://bucket/curation

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them.
Near-duplicates are copies that were resized, encoded again or mirrored; the largest stays. The rest is chosen by
k-center on SAM's embeddings, as evenly as may be over masks a photo, object scale and layout. Writes
OUT/curation.parquet (schemas/curation.py: every photo, chosen or not, and why), OUT/cover.png and OUT/sheet.png, which
show it; `build_prompt_maps.py --only OUT/curation.parquet` takes it up.
Exit codes: 0, 2 for wrong arguments, 3 if no photo could be used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa

from aopsam._options import Limits
from aopsam.sam.registry import load_sam
from stages.annotations.shards import list_shards
from stages.config.command_line import ModelArguments, ResourceArguments, Uri, checking_input, command, parse
from stages.curate.actor import DescriptionRecipe
from stages.curate.choice import Keep, curate, usable_descriptions
from stages.curate.output import account, refuse_to_overwrite, write_curation
from stages.curate.run import describe_photos
from stages.engine.resources import start
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, ResourceArguments):
    """Choose photos to train on that cover a corpus; --sam's embeddings tell photos apart."""

    data: tuple[Uri, ...]
    """Tars, folders, globs or instance files (.json)."""
    keep: str
    """Photos to choose: a number (500), or a share of all (0.33, 1.0)."""
    out: Uri
    """Folder or URI; must hold no curation yet."""
    seed: Annotated[int, Limits(0)] = 0
    """Of the choice."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Curate; returns the exit status."""
    arguments = parse(Arguments, argv)
    out = arguments.out.rstrip("/")
    with checking_input():
        refuse_to_overwrite(out)
        keep = Keep.parse(arguments.keep)
        shards = sorted({shard for data in arguments.data for shard in list_shards(data)})
        load_sam(arguments.sam, arguments.checkpoint)
    resources = start(arguments.actors, arguments.threads)
    recipe = DescriptionRecipe(arguments.sam, arguments.checkpoint)
    tables: list[pa.Table] = []
    for table in describe_photos(shards, recipe, resources):
        tables.append(table)
        print(f"{sum(table.num_rows for table in tables)} photos described", file=sys.stderr)
    descriptions, problems = usable_descriptions(tables)
    print("".join(f"cannot be used: {problem}\n" for problem in problems), end="", file=sys.stderr)
    if descriptions.num_rows == 0:
        print("curate: no photo could be used", file=sys.stderr)
        return 3
    curation = curate(descriptions, keep, arguments.seed)
    cover = write_curation(out, descriptions, curation, arguments.seed)
    print(account(curation, len(problems), cover, redact(out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
