"""Build the training of a promptable SAM from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aopsam.sam.registry import load_sam
from aopsam.training.sam import SamTask
from aopsam.training.sam_recipe import SamRecipe
from stages.annotations.held_out import split_photos


@dataclass(frozen=True)
class SamWork:
    """What a SAM is trained on and judged by.

    Attributes:
        shards: as `stages.annotations.shards.list_shards` gives them, reachable from every worker.
        recipe: hyper-parameters of one worker; more workers see more windows an update.
        workers: how many there are.
        photos: of those held out, how many to validate on.
        start: file of `tiny`'s weights, on every node, to begin with.
    """

    shards: tuple[str, ...]
    recipe: SamRecipe
    workers: int = 1
    photos: int = 12
    start: str | None = None


def sam_task(work: SamWork, on_problem: Callable[[str], None] = lambda line: None) -> SamTask:
    """The task.

    Raises:
        ValueError: no annotated photo, or weights to start with that are none of `tiny`.
    """
    training, held_out = split_photos(work.shards, work.photos, on_problem)
    start = None if work.start is None else load_sam("tiny", work.start).state_dict()
    return SamTask(training, work.recipe, held_out, start=start, workers=work.workers)
