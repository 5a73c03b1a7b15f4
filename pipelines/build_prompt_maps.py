"""Annotated photos in, the prompt predictor's and the detector's training data out.

On a laptop:
    python pipelines/build_prompt_maps.py --data bsds500/train bsds500/extra --out out/maps/bsds --mirror
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/build_prompt_maps.py --data s3://bucket/sa1b \\
        --source recorded --sam vit_b --out s3://bucket/maps

Data: tars in SA-1B's layout; instance files of COCO or LVIS (.json) with the photos in a folder beside them (with
--sparse); or OUT of label_corpus.py: what a costly strategy kept, weighted by its scores. Writes OUT/*.parquet
(schemas/prompt_maps.py), OUT/index, by which a training finds their rows, OUT/manifest.json and OUT/sheet.png, a look
at twelve maps. The same command again finishes what a kill left undone. Exit codes: 0, 2 for wrong arguments, 3 if no
photo could be used or too many failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from stages.config.command_line import RunArguments, Uri, checking_input, command, parse
from stages.prompt_maps.recipe import MapRecipe
from stages.storage.location import redact

NOTHING = "build_prompt_maps: no photo could be used"


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Build prompt maps and embeddings of annotated photos."""

    data: tuple[Uri, ...]
    """Tars, folders, globs, instance files (.json), labelling runs."""
    images: Uri | None = None
    """Photos of labelling runs, if not where they were labelled."""
    only: Uri | None = None
    """Table of curate.py: use the photos that it chose."""
    out: Uri
    """Folder or URI; no prompt maps of other photos or settings."""
    recipe: OmitArgPrefixes[MapRecipe] = field(default_factory=MapRecipe)
    """Settings of the maps."""
    plan: bool = False
    """Measure some photos, say what all cost, write nothing."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Build; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Build the maps of photos that have none yet; heavy imports come now, after the flags have been judged."""
    from stages.engine.resources import choose_resources, start
    from stages.prompt_maps.plan import plan_maps
    from stages.prompt_maps.run import build_maps, prepare_maps
    from stages.prompt_maps.sheet import write_sheet

    out, recipe = arguments.out.rstrip("/"), arguments.recipe
    with checking_input():
        job = prepare_maps(arguments.data, arguments.images, arguments.only, recipe, out)
    if arguments.plan:
        plan = plan_maps(job, recipe, choose_resources(arguments.actors, arguments.threads, device=arguments.device))
        print(plan or NOTHING, file=sys.stdout if plan else sys.stderr)
        return 0 if plan else 3
    if (status := job.nothing_to_do("prompt maps", arguments.max_failed)) is not None:
        return status
    resources = start(arguments.actors, arguments.threads, device=arguments.device)
    print(f"building prompt maps of {len(job.sources)} shard(s): {resources}", flush=True)
    done = build_maps(job, recipe, resources, arguments.max_seconds)
    if done.failed == done.photos:
        print(NOTHING, file=sys.stderr)
    else:
        sheet = redact(write_sheet(out))
        told = f"prompt maps of {done.used} photos in {redact(out)}"
        print(f"{told} ({len(done.problems)} problems), a look at them in {sheet}")
    job.finish(done)
    return done.exit_status(arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())
