"""Train the prompt predictor on prompt maps, on Ray Train.

On a laptop:
    python pipelines/train_predictor.py --data out/maps/bsds out/maps/coco --validate bsds500/train --out out/predictor
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_predictor.py --data s3://bucket/maps \\
        --out s3://bucket/predictor --workers 4

Data: folders of pipelines/build_prompt_maps.py. One photo in ten is held out; with --validate, annotated photos, mIoU
and prompts a photo are measured on those of them that are held out, and the best weights are kept; without, the loss on
the held-out maps decides. Writes OUT/predictor.safetensors, for `label_corpus.py --predictor`, with a sampling
threshold chosen on held-out photos that are annotated all over, or with --threshold. Checkpoints lie in OUT/train, and
the same command again goes on from the last; curves and pictures of maps lie in OUT/tensorboard.
AoP-SAM's own values are `--loss mse --smoothing-sigma 2 --spacing 6 --threshold 0.2`, on maps of recorded points.
Exit codes: 0, 2 for wrong arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tyro.conf import OmitArgPrefixes

from aopsam._options import Count, Share
from aopsam.predictor.sampling import Sampling
from aopsam.training.recipes import PredictorRecipe
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import PROMPTS, SAMPLING, TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Train the prompt predictor on prompt maps."""

    data: tuple[Uri, ...]
    """Folders or URIs of prompt maps."""
    validate: tuple[Uri, ...] = ()
    """Annotated photos, as for build_prompt_maps.py."""
    validate_photos: Count = 12
    """Photos to validate on, at most."""
    checkpoint: Uri | None = None
    """Weights of the SAM of the maps, where not the bundled or official ones."""
    start: Uri | None = None
    """Predictor to go on from, a file or REGISTRY@VERSION; by default random weights."""
    recipe: OmitArgPrefixes[PredictorRecipe] = field(default_factory=PredictorRecipe)
    """Hyper-parameters."""
    spacing: Count = SAMPLING.spacing
    """Least distance of sampled peaks, map pixels."""
    smoothing_sigma: float = SAMPLING.smoothing_sigma
    """Standard deviation by which the map is smoothed before peaks are taken, map pixels."""
    prompts: Count = PROMPTS
    """Median prompts a photo that the sampling threshold is chosen for."""
    threshold: Share | None = None
    """Sampling threshold, such as the paper's 0.2, in place of one chosen for --prompts."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Train; what takes seconds to import comes now, after the flags have been judged."""
    from stages.annotations.shards import list_shards
    from stages.registry.reference import resolve_predictor
    from stages.train.on_ray import train_on_ray
    from stages.train.predictor import PredictorJob, finish_predictor, predictor_task

    with checking_input():
        arguments.check_out("predictor.safetensors")
        job = PredictorJob(
            folders=arguments.data,
            recipe=arguments.recipe,
            sampling=Sampling(arguments.threshold or 0.0, arguments.smoothing_sigma, arguments.spacing),
            prompts=arguments.prompts if arguments.threshold is None else None,
            shards=tuple(shard for data in arguments.validate for shard in list_shards(data)),
            photos=arguments.validate_photos,
            checkpoint=arguments.checkpoint,
            start=resolve_predictor(arguments.start),
        )
        task = predictor_task(job)
    print(f"{len(task.dataset)} rows to train on", file=sys.stderr)
    weights = train_on_ray("train_predictor", partial(predictor_task, job), task, arguments)
    if weights is None:
        return 0
    path = f"{arguments.out.rstrip('/')}/predictor.safetensors"
    predictor = finish_predictor(job, task, weights, path)
    print(f"{redact(path)} for {predictor.sam}, {predictor.sampling}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
