"""Train a small promptable SAM from annotated photos, on Ray Train.

On a laptop (the bundled `tiny`: about an hour and a half on two cores):
    python pipelines/train_sam.py --data bsds500/train bsds500/extra coco/train --out out/sam
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_sam.py --data s3://bucket/shards \\
        --out s3://bucket/sam --workers 4

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them. One
photo in ten is held out; the weights that answer best to a point and a box in some of those are kept. Writes
OUT/tiny.safetensors (half precision, with thresholds for everything mode chosen on training photos), for
`label_corpus.py --sam tiny --checkpoint`. Checkpoints lie in OUT/train, and the same command again goes on from the
last (--steps may change between the two); curves lie in OUT/tensorboard. Exit codes: 0, 2 for wrong arguments or
unreadable shards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from aopsam.training.export import export_weights
from aopsam.training.sam_recipe import SamRecipe
from aopsam.training.thresholds import choose_thresholds
from stages.arguments import absolute, positive
from stages.atomic import write_bytes
from stages.location import redact
from stages.sam_task import SamWork, sam_task
from stages.shards import list_shards
from stages.training import add_training_options, recipe_from, train_on_ray

THRESHOLD_PHOTOS = 16


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = SamRecipe()
    parser = argparse.ArgumentParser(description="train a small promptable SAM")
    parser.add_argument("--data", nargs="+", required=True, type=absolute, help="tars, folders, globs or .json")
    parser.add_argument("--start", type=absolute, help="weights to begin with, such as an earlier tiny.safetensors")
    add_training_options(parser, recipe)
    parser.add_argument("--windows", type=positive, default=recipe.windows, help="a batch (default: %(default)s)")
    parser.set_defaults(checkpoint_every=500, validate_every=1000)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    recipe = recipe_from(SamRecipe(), arguments)
    problems: list[str] = []
    try:
        shards = tuple(shard for data in arguments.data for shard in list_shards(data))
        work = SamWork(shards, recipe, arguments.workers, start=arguments.start)
        task = sam_task(work, problems.append)
    except (ValueError, OSError) as error:
        print(f"train_sam: {error}", file=sys.stderr)
        return 2
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    photos = task.photos
    print(f"{len(photos)} photos to train on, {len(problems)} photos or masks left out", file=sys.stderr)
    weights = train_on_ray("train_sam", partial(sam_task, work), task, arguments)
    if weights is None:
        return 0
    sam = task.model.eval()
    sam.load_state_dict(weights)
    facts = {"recipe": json.dumps(asdict(recipe)), "seed": str(recipe.seed), "photos": str(len(photos))}
    thresholds = choose_thresholds(sam, photos[:: max(1, len(photos) // THRESHOLD_PHOTOS)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        export_weights(sam, path, thresholds | facts)
        write_bytes(f"{arguments.out.rstrip('/')}/{path.name}", path.read_bytes())
    print(f"{redact(arguments.out)}/tiny.safetensors, {thresholds}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
