"""Train the class-agnostic box detector, for the strategies `oas-box` and `oas-center`, on Ray Train.

On a laptop:
    python pipelines/train_detector.py --data out/maps/bsds out/maps/coco --out out/detector
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_detector.py --data s3://bucket/maps \\
        --out s3://bucket/detector --workers 4

Data: folders of pipelines/build_prompt_maps.py (--sparse where much is unannotated, as in COCO), whose embeddings are
all that the detector reads. One photo in ten is held out; box AR@100 on those decides which weights are kept. Writes
OUT/detector.safetensors, for `label_corpus.py --prompts "oas-box(detector=OUT/detector.safetensors)"` in place of the
bundled one. Checkpoints lie in OUT/train, and the same command again goes on from the last; curves and pictures of
boxes lie in OUT/tensorboard.
Exit codes: 0, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from aopsam.training.detector import DetectorRecipe
from stages.config.arguments import absolute, positive, share
from stages.storage.location import redact
from stages.train.detector import detector_task, write_detector
from stages.train.on_ray import add_training_options, recipe_from, train_on_ray


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = DetectorRecipe()
    parser = argparse.ArgumentParser(description="train the class-agnostic box detector on prompt maps")
    add = parser.add_argument
    add("--data", nargs="+", required=True, type=absolute, help="folders or URIs of prompt maps")
    add_training_options(parser, recipe)
    add("--batch", type=positive, default=recipe.batch, help="rows at once (default: %(default)s)")
    add("--learning-rate", type=float, default=recipe.learning_rate, help="peak, of AdamW (default: %(default)s)")
    add("--mask-share", type=share, default=recipe.mask_share, help="of the steps, with masks (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    recipe = recipe_from(DetectorRecipe(), arguments)
    make = partial(detector_task, tuple(arguments.data), recipe)
    try:
        task = make()
    except (ValueError, OSError) as error:
        print(f"train_detector: {error}", file=sys.stderr)
        return 2
    print(f"{len(task.dataset)} rows to train on", file=sys.stderr)
    weights = train_on_ray("train_detector", make, task, arguments)
    if weights is None:
        return 0
    task.model.load_state_dict(weights)
    path = f"{arguments.out.rstrip('/')}/detector.safetensors"
    write_detector(task.model, recipe, len(task.dataset), path)
    print(f"{redact(path)} for {task.model.sam}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
