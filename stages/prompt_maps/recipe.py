"""Configuration of prompt maps; without torch, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Suppress

from aopsam._options import Limits, OneOf, check
from aopsam.predictor.kernels import PRESETS, Combine
from stages.config.command_line import SamName

Source = Literal["interior", "recorded"]


@dataclass(frozen=True, kw_only=True)
class MapRecipe:
    """Configuration of prompt maps.

    Raises:
        ValueError: an unknown value.
    """

    sam: SamName = "tiny"
    """Name of the model whose embeddings the predictor will read."""
    checkpoint: str | None = None
    """File of its weights; by default the bundled or official ones."""
    source: Source = "recorded"
    """Place of a mask's prompt: the annotation's recorded point_coords, or the point deepest inside it where there are
    none; or always the deepest."""
    combine: Combine = "max"
    """Rule by which overlapping prompts are combined."""
    preset: Annotated[str, OneOf(PRESETS)] = "medium"
    """Kernel of a prompt: a name of aopsam.predictor.kernels.PRESETS."""
    sparse: bool = False
    """Much of each photo is unannotated (COCO): only annotated masks and their near surroundings teach where no prompt
    belongs; else the whole photo does."""
    mirror: bool = False
    """Add a row for the mirrored photo, encoded on its own: the embedding of a mirrored photo is not the mirrored
    embedding."""
    weight: Annotated[float, Limits(0, open=True)] = 1.0
    """Weight of these photos in a training, beside those of other folders."""
    threads: Suppress[int] = 2
    """CPU threads of the encoder."""

    def __post_init__(self) -> None:
        check(self)
