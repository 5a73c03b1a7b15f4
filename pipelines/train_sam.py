"""Train a small promptable SAM from annotated photos and edge maps, on Ray Train.

On a laptop (the bundled `tiny`: some hours on two cores; aopsam/weights/tiny.md has its photos and their shares):
    python pipelines/build_edge_maps.py --data bsds500/train coco/train --hed hed_vgg16.safetensors --out out/edges
    python pipelines/train_sam.py --data bsds500/train coco/train --edges out/edges \\
        --trunk nanodet_g.safetensors --out out/sam
On a cluster (absolute paths or URIs that every node reaches, weights on every node):
    ray job submit --working-dir . -- python pipelines/train_sam.py --data s3://bucket/shards \\
        --edges s3://bucket/edges --trunk /weights/nanodet_g.safetensors --out s3://bucket/sam --workers 4
A student of distill_encoder.py, prompt encoder and mask decoder frozen (EfficientSAM's learn: --finetune-decoder):
    python pipelines/train_sam.py --data s3://bucket/shards --finetune mobile_sam --start out/student.safetensors \\
        --steps 20000 --out out/mobile_sam

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them. One
photo in ten is held out; the weights that answer best to a point and a box there become OUT/NAME.safetensors (`tiny` or
the fine-tuned model; half precision, with thresholds for everything mode), for `label_corpus.py --checkpoint`.
The same command goes on from the last checkpoint in OUT/train; curves: OUT/tensorboard. Exit codes: 0, 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes

from aopsam._options import Count, OneOf
from aopsam.sam.names import TRAINABLE
from aopsam.training.recipes import SamRecipe
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import FinetuneOptions, SamInputs, TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Train a small promptable SAM."""

    data: tuple[Uri, ...]
    """Tars, folders, globs or instance files (.json)."""
    inputs: OmitArgPrefixes[SamInputs] = field(default_factory=SamInputs)
    """Inputs besides annotated photos; not with --finetune."""
    start: Uri | None = None
    """Weights to begin with instead, such as an earlier tiny.safetensors."""
    finetune: Annotated[str, OneOf(TRAINABLE)] | None = None
    """Model whose encoder alone learns, from --start."""
    options: OmitArgPrefixes[FinetuneOptions] = field(default_factory=FinetuneOptions)
    """Hyper-parameters of the training."""
    recipe: OmitArgPrefixes[SamRecipe] = field(default_factory=SamRecipe)
    """Hyper-parameters; --finetune takes over seed, steps, accumulate, precision and windows alone."""
    validate_every: Count | None = 400
    """Updates between validations."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments, problems = parse(Arguments, argv), list[str]()
    from stages.train.on_ray import train_on_ray  # here: flags are judged before torch is imported
    from stages.train.sam import finish_sam

    with checking_input():
        arguments.check_out(f"{arguments.finetune or 'tiny'}.safetensors")
        make = make_task(arguments)
        task = make(problems.append)
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    print(f"{task.pool.describe()}; {len(task.held_out)} to validate on", file=sys.stderr)
    weights = train_on_ray("train_sam", make, task, arguments)
    if weights is None:
        return 0
    path = f"{arguments.out.rstrip('/')}/{arguments.finetune or 'tiny'}.safetensors"
    print(f"{redact(path)}, {finish_sam(task, weights, path)}")
    return 0


def make_task(given: Arguments) -> Callable[..., Any]:
    """Return what builds the training task in any process; a ValueError says which flags do not fit."""
    from stages.annotations.shards import list_shards
    from stages.train.finetune import FinetuneJob, finetune_recipe, finetune_task
    from stages.train.sam import SamJob, sam_task

    sources = tuple(tuple(list_shards(data)) for data in given.data)
    if given.finetune is None:
        if given.options != FinetuneOptions():
            raise ValueError("--finetune-recipe, --finetune-decoder and --finetune-px go with --finetune MODEL")
        return partial(sam_task, SamJob(sources, given.recipe, given.inputs, given.workers, start=given.start))
    if given.inputs != SamInputs():
        raise ValueError("--finetune learns from --data alone: leave out shares, edges, unlabelled, trunk")
    if given.start is None:
        raise ValueError("--finetune needs --start, such as the student.safetensors of distill_encoder.py")
    recipe = finetune_recipe(given.options, given.finetune, given.recipe, given.workers)
    return partial(finetune_task, FinetuneJob(sum(sources, ()), recipe, given.start))


if __name__ == "__main__":
    raise SystemExit(main())
