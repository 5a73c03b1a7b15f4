"""Train the mask head of `tiny`, which draws kept masks once more, on Ray Train.

On a laptop (an hour of a core; aopsam/weights/mask-head-tiny.md has the photos and their shares):
    python pipelines/train_mask_head.py --data bsds500/train coco/train --out out/mask_head
On a cluster (absolute paths or URIs that every node reaches, weights on every node):
    ray job submit --working-dir . -- python pipelines/train_mask_head.py --data s3://bucket/shards \\
        --checkpoint /weights/tiny.safetensors --out s3://bucket/mask_head --workers 4

Data: annotated photos as train_sam.py takes them. One photo in ten is held out; the weights whose masks there are best
become OUT/mask_head.safetensors, for `label_corpus.py --mask-head` in place of the bundled one.
The same command goes on from the last checkpoint in OUT/train; curves: OUT/tensorboard. Exit codes: 0, 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tyro.conf import OmitArgPrefixes

from aopsam._options import Count
from aopsam.training.recipes import MaskHeadRecipe
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Train the mask head of `tiny`."""

    data: tuple[Uri, ...]
    """Tars, folders, globs or instance files (.json)."""
    shares: tuple[float, ...] = ()
    """Share with which a photo of each --data is drawn, relative to the others; by default all alike."""
    checkpoint: Uri | None = None
    """Weights of `tiny`, where not the bundled ones."""
    start: Uri | None = None
    """Mask head to go on from, such as aopsam/weights/mask-head-tiny.safetensors; by default an untrained one."""
    recipe: OmitArgPrefixes[MaskHeadRecipe] = field(default_factory=MaskHeadRecipe)
    """Hyper-parameters."""
    validate_every: Count | None = 500
    """Updates between validations."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Train; what takes seconds to import comes now, after the flags have been judged."""
    from stages.annotations.shards import list_shards
    from stages.train.mask_head import MaskHeadJob, mask_head_task, write_mask_head
    from stages.train.on_ray import train_on_ray

    problems: list[str] = []
    with checking_input():
        arguments.check_out("mask_head.safetensors")
        sources = tuple(tuple(list_shards(data)) for data in arguments.data)
        given = {name: getattr(arguments, name) for name in ("recipe", "shares", "checkpoint", "start")}
        job = MaskHeadJob(sources=sources, **given)
        make = partial(mask_head_task, job)
        task = make(problems.append)
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    print(f"{task.pool.describe()}; {len(task.held_out)} to validate on", file=sys.stderr)
    weights = train_on_ray("train_mask_head", make, task, arguments)
    if weights is None:
        return 0
    path = f"{arguments.out.rstrip('/')}/mask_head.safetensors"
    write_mask_head(task, weights, path)
    print(f"{redact(path)} for {task.model.sam}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
