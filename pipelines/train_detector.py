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

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tyro.conf import OmitArgPrefixes

from aopsam.training.recipes import DetectorRecipe
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Train the class-agnostic box detector on prompt maps."""

    data: tuple[Uri, ...]
    """Folders or URIs of prompt maps."""
    recipe: OmitArgPrefixes[DetectorRecipe] = field(default_factory=DetectorRecipe)
    """Hyper-parameters."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Train; what takes seconds to import comes now, after the flags have been judged."""
    from stages.train.detector import detector_task, write_detector
    from stages.train.on_ray import train_on_ray

    make = partial(detector_task, arguments.data, arguments.recipe)
    with checking_input():
        arguments.check_out("detector.safetensors")
        task = make()
    print(f"{len(task.dataset)} rows to train on", file=sys.stderr)
    weights = train_on_ray("train_detector", make, task, arguments)
    if weights is None:
        return 0
    task.model.load_state_dict(weights)
    path = f"{arguments.out.rstrip('/')}/detector.safetensors"
    write_detector(task.model, arguments.recipe, len(task.dataset), path)
    print(f"{redact(path)} for {task.model.sam}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
