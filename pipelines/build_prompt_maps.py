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

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

import fsspec

from aopsam.predictor.targets import PRESETS, Combine
from stages.annotations.shards import list_shards
from stages.config.arguments import absolute, positive
from stages.prompt_maps.actor import MapRecipe, load_padding_sam
from stages.prompt_maps.plan import plan_maps
from stages.prompt_maps.rows import PromptMapRows
from stages.prompt_maps.run import build_prompt_maps
from stages.prompt_maps.samples import Reading
from stages.prompt_maps.sheet import contact_sheet
from stages.prompt_maps.target import Source
from stages.runner import choose_resources, start_ray
from stages.storage.atomic import write_bytes
from stages.storage.location import redact

NOTHING = "build_prompt_maps: no photo could be used"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="prompt maps and embeddings of annotated photos")
    parser.add_argument("--data", nargs="+", required=True, help="tars, folders, globs, .json, labelling runs")
    parser.add_argument("--images", type=absolute, help="photos of labelling runs, if not where they were labelled")
    parser.add_argument("--only", type=absolute, help="table of curate.py: use the photos that it chose")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI; must hold no prompt maps yet")
    parser.add_argument("--sam", default="tiny", help="model whose embeddings the predictor will read")
    parser.add_argument("--checkpoint", type=absolute, help="its weights, where not the official or bundled")
    parser.add_argument("--source", choices=get_args(Source), default="interior", help="where a mask's point is")
    parser.add_argument("--combine", choices=get_args(Combine), default="max", help="of overlapping prompts")
    parser.add_argument("--preset", choices=sorted(PRESETS), default=MapRecipe.preset, help="kernel of a prompt")
    parser.add_argument("--sparse", action="store_true", help="much of each photo is unannotated, as in COCO")
    parser.add_argument("--mirror", action="store_true", help="a second row for every photo, mirrored")
    parser.add_argument("--actors", type=positive, help="default: one for every two CPUs")
    parser.add_argument("--threads", type=positive, help="CPU threads an actor (default: 2)")
    parser.add_argument("--plan", action="store_true", help="measure some photos, say what all cost, write nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Build; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    out = arguments.out.rstrip("/")
    try:
        shards = [shard for data in arguments.data for shard in list_shards(absolute(data))]
        filesystem, path = fsspec.url_to_fs(out)
        if filesystem.glob(f"{path}/*.parquet"):
            raise ValueError(f"{redact(out)} holds prompt maps already; give another folder")
        reading = Reading(arguments.images, arguments.only)
        reading.chosen()
        load_padding_sam(arguments.sam, arguments.checkpoint)  # here, so that a mistake shows before Ray starts
    except (ValueError, OSError) as error:
        print(f"build_prompt_maps: {error}", file=sys.stderr)
        return 2
    if not arguments.plan:
        start_ray(arguments.actors, arguments.threads)
    resources = choose_resources(10**6, arguments.actors, arguments.threads, 1)
    names = ("sam", "checkpoint", "source", "combine", "preset", "sparse", "mirror")
    recipe = MapRecipe(**{name: getattr(arguments, name) for name in names}, threads=resources.threads)
    if arguments.plan:
        plan = plan_maps(shards, reading, recipe, resources.actors, resources.device)
        print(plan or NOTHING, file=sys.stdout if plan else sys.stderr)
        return 0 if plan else 3
    rows = lines = 0
    for written, problems in build_prompt_maps(shards, reading, recipe, out, resources.actors, resources.device):
        rows, lines = rows + written, lines + len(problems)
        print("\n".join([*(f"left out: {problem}" for problem in problems), f"{rows} rows"]), file=sys.stderr)
    if rows == 0:
        print(NOTHING, file=sys.stderr)
        return 3
    write_bytes(f"{out}/sheet.png", contact_sheet(PromptMapRows([out])))
    print(f"{rows} prompt maps in {redact(out)} ({lines} problems), a look at them in {redact(out)}/sheet.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
