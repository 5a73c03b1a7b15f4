"""Annotated photos in, the prompt predictor's and the detector's training data out.

On a laptop:
    python pipelines/build_prompt_maps.py --data bsds500/train bsds500/extra --out out/maps/bsds --mirror
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/build_prompt_maps.py --data s3://bucket/sa1b \\
        --source recorded --sam vit_b --out s3://bucket/maps

Data: tars in SA-1B's layout; instance files of COCO or LVIS (.json) with the photos in a folder beside them (with
--sparse); or OUT of label_corpus.py: what a costly strategy kept, weighted by its scores. Writes OUT/*.parquet
(schemas/prompt_maps.py) and OUT/sheet.png, a look at twelve maps.
Exit codes: 0, 2 for wrong arguments, 3 if no photo could be used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from stages.annotations.shards import list_shards
from stages.config.command_line import ResourceArguments, Uri, checking_input, command, parse
from stages.engine.resources import choose_resources, start
from stages.prompt_maps.actor import MapRecipe, load_padding_sam
from stages.prompt_maps.files import refuse_to_add
from stages.prompt_maps.plan import plan_maps
from stages.prompt_maps.run import build_prompt_maps
from stages.prompt_maps.samples import Reading
from stages.prompt_maps.sheet import write_sheet
from stages.storage.location import redact

NOTHING = "build_prompt_maps: no photo could be used"


@dataclass(frozen=True, kw_only=True)
class Arguments(ResourceArguments):
    """Build prompt maps and embeddings of annotated photos."""

    data: tuple[Uri, ...]
    """Tars, folders, globs, instance files (.json), labelling runs."""
    images: Uri | None = None
    """Photos of labelling runs, if not where they were labelled."""
    only: Uri | None = None
    """Table of curate.py: use the photos that it chose."""
    out: Uri
    """Folder or URI; must hold no prompt maps yet."""
    recipe: OmitArgPrefixes[MapRecipe] = field(default_factory=MapRecipe)
    """How maps are made."""
    plan: bool = False
    """Measure some photos, say what all cost, write nothing."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Build; returns the exit status."""
    arguments = parse(Arguments, argv)
    out, recipe, reading = arguments.out.rstrip("/"), arguments.recipe, Reading(arguments.images, arguments.only)
    with checking_input():
        refuse_to_add(out)
        shards = [shard for data in arguments.data for shard in list_shards(data)]
        reading.chosen()
        load_padding_sam(recipe.sam, recipe.checkpoint)
    if arguments.plan:
        plan = plan_maps(shards, reading, recipe, choose_resources(arguments.actors, arguments.threads))
        print(plan or NOTHING, file=sys.stdout if plan else sys.stderr)
        return 0 if plan else 3
    resources = start(arguments.actors, arguments.threads)
    rows = problems = 0
    for written, lines in build_prompt_maps(shards, reading, recipe, out, resources):
        rows, problems = rows + written, problems + len(lines)
        print("\n".join([*(f"left out: {line}" for line in lines), f"{rows} rows"]), file=sys.stderr)
    if rows == 0:
        print(NOTHING, file=sys.stderr)
        return 3
    sheet = write_sheet(out)
    print(f"{rows} prompt maps in {redact(out)} ({problems} problems), a look at them in {redact(sheet)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
