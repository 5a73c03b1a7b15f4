"""Train the thing head of `tiny`, which finds people, animals, cars and the like, on Ray Train.

On a laptop (half an hour of two cores; aopsam/weights/things-tiny.md has the photos and their shares):
    python pipelines/train_thing_head.py --data coco/train --teacher nanodet_g.safetensors --out out/thing_head
On a cluster (absolute paths or URIs that every node reaches, weights on every node):
    ray job submit --working-dir . -- python pipelines/train_thing_head.py --data s3://bucket/shards \\
        --teacher /weights/nanodet_g.safetensors --out s3://bucket/thing_head --workers 4

Data: photos as train_sam.py takes them; of their annotations none is read but where masks lie. NanoDet says what is in
them. One photo in ten is held out; the weights that come nearest to NanoDet there become OUT/thing_head.safetensors,
for `label_corpus.py --thing-head` and `train_scorer.py --thing-head` in place of the bundled one.
The same command goes on from the last checkpoint in OUT/train; curves: OUT/tensorboard. Exit codes: 0, 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tyro.conf import OmitArgPrefixes

from aopsam._options import Count
from aopsam.training.recipes import ThingHeadRecipe
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Train the thing head of `tiny`."""

    data: tuple[Uri, ...]
    """Tars, folders, globs or instance files (.json)."""
    shares: tuple[float, ...] = ()
    """Share with which a photo of each --data is drawn, relative to the others; by default all alike."""
    checkpoint: Uri | None = None
    """Weights of `tiny`, where not the bundled ones."""
    teacher: Uri
    """NanoDet-g's weights (aopsam/weights/tiny.md says where they are published)."""
    recipe: OmitArgPrefixes[ThingHeadRecipe] = field(default_factory=ThingHeadRecipe)
    """Hyper-parameters."""
    validate_every: Count | None = 250
    """Updates between validations."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Train; what takes seconds to import comes now, after the flags have been judged."""
    from stages.annotations.shards import list_shards
    from stages.train.on_ray import train_on_ray
    from stages.train.thing_head import ThingHeadJob, thing_head_task, write_thing_head

    problems: list[str] = []
    with checking_input():
        arguments.check_out("thing_head.safetensors")
        sources = tuple(tuple(list_shards(data)) for data in arguments.data)
        given = {name: getattr(arguments, name) for name in ("recipe", "shares", "checkpoint", "teacher")}
        job = ThingHeadJob(sources=sources, **given)
        make = partial(thing_head_task, job)
        task = make(problems.append)
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    print(f"{task.pool.describe()}; {len(task.held_out)} to validate on", file=sys.stderr)
    weights = train_on_ray("train_thing_head", make, task, arguments)
    if weights is None:
        return 0
    path = f"{arguments.out.rstrip('/')}/thing_head.safetensors"
    write_thing_head(task, weights, path)
    print(f"{redact(path)} for {task.model.sam}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
