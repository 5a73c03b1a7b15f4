"""Train a small promptable SAM from annotated photos, on Ray Train.

On a laptop (the bundled `tiny`: about an hour and a half on two cores):
    python pipelines/train_sam.py --data bsds500/train bsds500/extra coco/train --out out/sam
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_sam.py --data s3://bucket/shards \\
        --out s3://bucket/sam --workers 4

A student of pipelines/distill_encoder.py, fine-tuned with prompt encoder and mask decoder frozen:
    python pipelines/train_sam.py --data s3://bucket/shards --finetune mobile_sam --start out/student.safetensors \\
        --steps 20000 --out out/mobile_sam

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them. One
photo in ten is held out; the weights that answer best to a point and a box there become OUT/NAME.safetensors (`tiny` or
the fine-tuned model; half precision, with thresholds for everything mode), for `label_corpus.py --checkpoint`.
The same command goes on from the last checkpoint in OUT/train; curves: OUT/tensorboard. Exit codes: 0, 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from aopsam.sam.registry import TRAINABLE
from aopsam.training.export import export_weights
from aopsam.training.finetune import FinetuneRecipe, FinetuneTask
from aopsam.training.sam import SamTask
from aopsam.training.sam_recipe import SamRecipe
from aopsam.training.thresholds import choose_thresholds
from stages.annotations.shards import list_shards
from stages.config.arguments import absolute, positive
from stages.storage.atomic import write_bytes
from stages.storage.location import redact
from stages.train.finetune import FinetuneWork, finetune_task
from stages.train.on_ray import add_training_options, recipe_from, train_on_ray
from stages.train.sam import SamWork, sam_task

THRESHOLD_PHOTOS = 16


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = SamRecipe()
    parser = argparse.ArgumentParser(description="train a small promptable SAM")
    parser.add_argument("--data", nargs="+", required=True, type=absolute, help="tars, folders, globs or .json")
    parser.add_argument("--start", type=absolute, help="weights to begin with, such as an earlier tiny.safetensors")
    parser.add_argument("--finetune", choices=TRAINABLE, help="model whose encoder alone learns, from --start")
    add_training_options(parser, recipe)
    parser.add_argument("--windows", type=positive, default=recipe.windows, help="a batch (default: %(default)s)")
    parser.set_defaults(checkpoint_every=500, validate_every=1000)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    name = arguments.finetune or "tiny"
    problems: list[str] = []
    make: Callable[..., SamTask | FinetuneTask]
    try:
        shards = tuple(shard for data in arguments.data for shard in list_shards(data))
        if arguments.finetune is None:
            recipe = recipe_from(SamRecipe(), arguments)
            make = partial(sam_task, SamWork(shards, recipe, arguments.workers, start=arguments.start))
        elif arguments.start is None:
            raise ValueError("--finetune needs --start, such as the student.safetensors of distill_encoder.py")
        else:
            student = recipe_from(FinetuneRecipe(student=name), arguments)
            make = partial(finetune_task, FinetuneWork(shards, student, arguments.start))
        task = make(problems.append)
    except (ValueError, OSError) as error:
        print(f"train_sam: {error}", file=sys.stderr)
        return 2
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    photos = task.photos
    print(f"{len(photos)} photos to train on, {len(problems)} photos or masks left out", file=sys.stderr)
    weights = train_on_ray("train_sam", make, task, arguments)
    if weights is None:
        return 0
    sam = task.model.eval()
    sam.load_state_dict(weights)
    facts = {"recipe": json.dumps(asdict(task.recipe)), "photos": str(len(photos))}
    thresholds = choose_thresholds(sam, photos[:: max(1, len(photos) // THRESHOLD_PHOTOS)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.safetensors"
        export_weights(sam, path, thresholds | facts)
        write_bytes(f"{arguments.out.rstrip('/')}/{path.name}", path.read_bytes())
    print(f"{redact(arguments.out)}/{name}.safetensors, {thresholds}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
