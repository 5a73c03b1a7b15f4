"""Build the training of a promptable SAM from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, load_photos
from aopsam.training.sam import SamTask
from aopsam.training.sam_recipe import SamRecipe
from stages.annotated import read_annotated
from stages.held_out import is_held_out


@dataclass(frozen=True)
class SamWork:
    """What a SAM is trained on and judged by.

    Attributes:
        shards: as `stages.shards.list_shards` gives them, reachable from every worker.
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


def read_photos(shards: Iterable[str], on_problem: Callable[[str], None] = lambda line: None) -> list[Annotated]:
    """All annotated photos of the shards; what is broken is a line to `on_problem`, and the rest is used."""
    return load_photos(shards, on_problem, read_annotated)


def sam_task(work: SamWork, on_problem: Callable[[str], None] = lambda line: None) -> SamTask:
    """The task.

    Raises:
        ValueError: no annotated photo, or weights to start with that are none of `tiny`.
    """
    photos = read_photos(work.shards, on_problem)
    held_out = [photo for photo in photos if is_held_out(photo.id)]
    training = [photo for photo in photos if not is_held_out(photo.id)]
    if not training:
        raise ValueError(f"no annotated photo to train on ({len(held_out)} held out)")
    start = None if work.start is None else load_sam("tiny", work.start).state_dict()
    judged = held_out[:: max(1, len(held_out) // work.photos)][: work.photos]
    return SamTask(training, work.recipe, judged, start=start, workers=work.workers)
