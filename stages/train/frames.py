"""Read the photos of a training behind a frozen `tiny`, in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from segment_anything.modeling import Sam

from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.recipes import MaskHeadRecipe, ThingHeadRecipe
from aopsam.training.stream import StreamedPhotos
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_sources
from stages.storage.fetched import local_file


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """Configuration of a training behind a frozen `tiny`.

    Attributes:
        sources: of each source of annotated photos its shards, as `stages.annotations.shards.list_shards` gives them,
            reachable from every worker.
        recipe: hyper-parameters.
        shares: how often a photo of each source is drawn, relative to the others; empty for all alike.
        checkpoint: file of `tiny`'s weights, on every node; None for the bundled ones.
        photos: the most held-out photos to validate on.
    """

    sources: tuple[tuple[str, ...], ...]
    recipe: MaskHeadRecipe | ThingHeadRecipe
    shares: tuple[float, ...] = ()
    checkpoint: str | None = None
    photos: int = 24

    def read(self, on_problem: Callable[[str], None]) -> tuple[Sam, list[StreamedPhotos], list[Annotated]]:
        """Return `tiny`, the photos to train on by source, and those to validate on.

        Raises:
            ValueError: shares that do not fit the sources, no annotated photo, no mask that is large enough, or weights
                that are not those of `tiny`.
        """
        if self.shares and len(self.shares) != len(self.sources):
            raise ValueError(
                f"--shares has {len(self.shares)} numbers and --data {len(self.sources)}; give one for each"
            )
        if wrong := [share for share in self.shares if not 0.01 <= share <= 100]:
            raise ValueError(f"a share of {wrong[0]}: --shares lie between 0.01 and 100")
        sam, least = load_sam("tiny", local_file(self.checkpoint)), least_share(FRAME_PX, self.recipe.scale)
        photos, held_out = split_sources(self.sources, self.photos, on_problem, [least], self.recipe.seed)
        apart = [photo for source in held_out for photo in source.take(np.flatnonzero(source.largest >= least))]
        return sam, photos, apart
