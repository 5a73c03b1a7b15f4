"""`hierarchical`: a sparse grid first, then only the points of the dense grid that it left unsettled (TinySAM).

Shu et al. 2023, "TinySAM", hierarchical segmenting everything: where a mask of the sparse grid is confident, nothing
more is asked.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated

import numpy as np

from aopsam._options import Count, Limits
from aopsam.prompting.fates import Fates
from aopsam.prompting.grid import MOST_PER_SIDE, Grid
from aopsam.prompting.strategy import Decoded, Strategy
from aopsam.sam.decode import inside_masks
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts

PerSide = Annotated[int, Limits(1, MOST_PER_SIDE)]


class Hierarchical(Strategy):
    """Two rounds: all of the sparse grid, what is left of the dense one."""

    def __init__(
        self,
        *,
        sparse: PerSide = 8,
        dense: PerSide = 32,
        settled_logit: Annotated[float, Limits()] = 8.5,
        max_decoded: Count | None = None,
    ) -> None:
        """Set up the strategy.

        Args:
            sparse: points per side of the first round.
            dense: points per side of the second.
            settled_logit: a place is settled where a mask that passed the thresholds has more than this logit (the
                authors' default; their model's masks are that sure of their insides).
            max_decoded: prompts decoded on one photo at most, the sparse grid included; of what is left of the dense
                one, every so many.

        Raises:
            ValueError: `max_decoded` is below the points of the first round.
        """
        if max_decoded is not None and max_decoded < sparse**2:
            raise ValueError(
                f"hierarchical: max_decoded={max_decoded} is below the {sparse}² points of the first round"
            )
        self.max_decoded = max_decoded
        self.sparse, self.dense = Grid.per_side(sparse), Grid.per_side(dense)
        self.settled_logit = settled_logit

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield the sparse grid, then the unsettled points of the dense one, row by row."""
        height, width = photo.hw
        first, second = (Prompts.from_points(grid.points * [width, height]) for grid in (self.sparse, self.dense))
        decoded = yield first
        inside = inside_masks(photo, decoded.kept_logits, second.coords_px[:, 0], self.settled_logit)
        settled = inside.any(dim=0).cpu().numpy()
        waiting = second[~settled]
        fates.drop(second[settled], "inside a confident mask")
        if self.max_decoded is not None and len(waiting) > (most := self.max_decoded - len(first)):
            chosen = np.arange(most) * len(waiting) // max(most, 1)
            fates.drop(waiting[np.setdiff1d(np.arange(len(waiting)), chosen)], "beyond max_decoded")
            waiting = waiting[chosen]
        if len(waiting):
            yield waiting
