"""Train a mask scorer for a SAM: what orders masks, chooses among a prompt's three and drops the bad ones.

On a laptop (minutes):
    python pipelines/train_scorer.py --data bsds500/train --sparse coco/train --sam tiny --out out/scorer
On a cluster (absolute paths or URIs that every node reaches, weights on every node):
    ray job submit --working-dir . -- python pipelines/train_scorer.py --data s3://bucket/sa1b --sam vit_b \\
        --checkpoint /weights/sam_vit_b_01ec64.pth --out s3://bucket/scorer

Data: annotated photos as build_prompt_maps.py takes them. The SAM is prompted on each by points and boxes; the scorer
learns from shape, logits and estimates of its masks which IoU they have. One photo in ten is held out and judges it.
Writes OUT/scorer.safetensors, for `label_corpus.py --scorer`, and OUT/parts, which resume a killed run.
Exit codes: 0, 2 for wrong arguments, 3 if there is nothing to learn from or too many photos failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from aopsam._options import Count
from aopsam.training.recipes import ScorerRecipe
from stages.config.command_line import RunArguments, SamName, Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import PHOTOS


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Train a mask scorer."""

    data: tuple[Uri, ...] = ()
    """Photos annotated all over: tars, folders, globs, instance files (.json)."""
    sparse: tuple[Uri, ...] = ()
    """Photos with objects that are not annotated, such as COCO's."""
    sam: SamName = "tiny"
    """Model whose masks are scored."""
    checkpoint: Uri | None = None
    """Weights of the SAM, where not the bundled or official ones."""
    thing_head: Uri | None = None
    """Weights of its thing head (train_thing_head.py); by default the bundled one, if it is the model's."""
    mask_head: Uri | None = None
    """Weights of its mask head (train_mask_head.py), in the same way; masks that it draws are scored, too."""
    photos: Count = PHOTOS
    """Photos to learn from, at most: the first of each shard, of all shards as many."""
    recipe: OmitArgPrefixes[ScorerRecipe] = field(default_factory=ScorerRecipe)
    """Hyper-parameters."""
    out: Uri
    """Folder or URI."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Make examples, then train; what takes seconds to import comes now, after the flags have been judged."""
    import torch

    from aopsam.training.scorer import NothingToLearn
    from stages.engine.resources import start
    from stages.train.scorer import ScorerJob, collect_examples, finish_scorer, prepare_examples

    out = arguments.out.rstrip("/")
    with checking_input():
        if not arguments.data and not arguments.sparse:
            raise ValueError("needs annotated photos: --data, --sparse or both")
        given = arguments.sam, arguments.checkpoint, arguments.thing_head, arguments.mask_head
        job = ScorerJob(arguments.data, arguments.sparse, *given, arguments.recipe, arguments.photos)
        work = prepare_examples(job, out)
    if (status := work.nothing_to_do("scorer.safetensors", arguments.max_failed)) is not None:
        return status
    resources = start(arguments.actors, arguments.threads, device=arguments.device)
    done = collect_examples(job, work, resources, arguments.max_seconds)
    torch.set_num_threads(resources.threads)
    path = f"{out}/scorer.safetensors"
    try:
        print(f"{redact(path)}: {finish_scorer(job, done.tables, path)}")
    except NothingToLearn as error:
        print(f"train_scorer: {error}", file=sys.stderr)
        return 3
    work.finish(done)
    return done.exit_status(arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())
