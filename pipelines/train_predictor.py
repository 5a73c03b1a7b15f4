"""Train the prompt predictor on prompt maps, on Ray Train.

On a laptop:
    python pipelines/train_predictor.py --data out/maps/bsds out/maps/coco --validate bsds500/train --out out/predictor
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_predictor.py --data s3://bucket/maps \\
        --out s3://bucket/predictor --workers 4

Data: folders of pipelines/build_prompt_maps.py. One photo in ten is held out; with --validate, annotated photos, mIoU
and prompts a photo are measured on those of them that are held out, and the best weights are kept; without, the loss on
the held-out maps decides. Writes OUT/predictor.safetensors, for `label_corpus.py --predictor`, with a sampling
threshold chosen on held-out photos that are annotated all over. Checkpoints lie in OUT/train, and the same command
again goes on from the last; curves and pictures of maps lie in OUT/tensorboard. Exit codes: 0, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from aopsam.predictor.sampling import Sampling
from aopsam.training.calibration import calibrate_threshold
from aopsam.training.map_losses import MAP_LOSSES
from aopsam.training.predictor import PredictorRecipe, confidence_maps
from stages.annotations.held_out import HOLD_OUT
from stages.annotations.shards import list_shards
from stages.config.arguments import absolute, positive
from stages.prompt_maps.rows import PromptMapRows
from stages.storage.location import redact
from stages.train.on_ray import add_training_options, recipe_from, train_on_ray
from stages.train.predictor import PredictorWork, predictor_task, write_predictor

SAMPLING = Sampling(smoothing_sigma=1.0, spacing=1)
"""The paper's 2 and 6 leave too few peaks of a map that is as smooth as ours (aopsam/weights/predictor-tiny.md)."""

PROMPTS = 100
"""Median prompts a photo that the threshold is chosen for; the paper's Table 2 has 61 to 120."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = PredictorRecipe()
    parser = argparse.ArgumentParser(description="train the prompt predictor on prompt maps")
    add = parser.add_argument
    add("--data", nargs="+", required=True, type=absolute, help="folders or URIs of prompt maps")
    add("--validate", nargs="+", default=[], type=absolute, help="annotated photos, as for build_prompt_maps.py")
    add("--validate-photos", type=positive, default=12, help="at most (default: %(default)s)")
    add("--checkpoint", type=absolute, help="weights of the SAM of the maps, where not the official or bundled")
    add_training_options(parser, recipe)
    add("--batch", type=positive, default=recipe.batch, help="rows at once (default: %(default)s)")
    add("--learning-rate", type=float, default=recipe.learning_rate, help="peak, of Adam (default: %(default)s)")
    add("--loss", choices=sorted(MAP_LOSSES), default=recipe.loss, help="of the map (default: %(default)s)")
    add("--spacing", type=positive, default=SAMPLING.spacing, help="of sampled peaks, map pixels")
    add("--smoothing-sigma", type=float, default=SAMPLING.smoothing_sigma, help="map pixels")
    add("--prompts", type=positive, default=PROMPTS, help="wanted median a photo (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    recipe = recipe_from(PredictorRecipe(), arguments)
    sampling = Sampling(smoothing_sigma=arguments.smoothing_sigma, spacing=arguments.spacing)
    try:
        work = PredictorWork(
            folders=tuple(arguments.data),
            recipe=recipe,
            sampling=sampling,
            prompts=arguments.prompts,
            shards=tuple(shard for data in arguments.validate for shard in list_shards(data)),
            photos=arguments.validate_photos,
            checkpoint=arguments.checkpoint,
        )
        training, held_out = PromptMapRows(arguments.data).split(HOLD_OUT)
        task = predictor_task(work)
    except (ValueError, OSError) as error:
        print(f"train_predictor: {error}", file=sys.stderr)
        return 2
    print(f"{len(training)} rows to train on, {len(held_out)} held out", file=sys.stderr)
    weights = train_on_ray("train_predictor", partial(predictor_task, work), task, arguments)
    if weights is None:
        return 0
    predictor = task.model.eval()
    predictor.load_state_dict(weights)
    predictor.sam, predictor.sam_sha256 = training.sam, training.sam_sha256
    predictor.sampling = calibrate_threshold(confidence_maps(predictor, held_out), sampling, arguments.prompts)
    path = f"{arguments.out.rstrip('/')}/predictor.safetensors"
    write_predictor(predictor, recipe, len(training), path)
    print(f"{redact(path)} for {predictor.sam}, {predictor.sampling}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
