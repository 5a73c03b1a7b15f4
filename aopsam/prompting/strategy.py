"""Base of prompt strategies: rounds of prompts out, the decoded rounds back in; options, weights and sweeps stated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from segment_anything.modeling import Sam

from aopsam.predictor.network import PromptPredictor
from aopsam.prompting.fates import Fates
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


@dataclass(frozen=True)
class Decoded:
    """One round of N prompts, decoded to M masks each.

    Attributes:
        prompts: the round's prompts.
        predicted_iou: (N, M) float32, the decoder's own estimate.
        kept_logits: (K, r, c) float32 of the masks that passed the thresholds, as in `aopsam.sam.decode.DecodedMasks`.
    """

    prompts: Prompts
    predicted_iou: torch.Tensor
    kept_logits: torch.Tensor


@dataclass(frozen=True)
class Context:
    """Model, predictor and number that a strategy is made from, besides its options.

    Attributes:
        model: the SAM that will decode.
        predictor: proposes prompts for `aop`; None for the bundled one.
        number: in place of the N of a name such as `grid-N`.
    """

    model: Sam
    predictor: PromptPredictor | None = None
    number: int = 0


class Strategy(ABC):
    """Proposes prompts for photos, each by rounds of its own: those of several photos may be under way, so that what
    belongs to one is held by its `rounds`, not by the strategy.

    Its options are its keyword-only fields or parameters of `__init__`, with types and limits (`aopsam._options`). One
    of type `Path` is a file; one named `seed` decides what is drawn at random.

    Attributes:
        sweeps: option → values that a calibration tries where the user names none.
    """

    sweeps: ClassVar[Mapping[str, Sequence[bool | int | float | str]]] = {}

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build the strategy; those that need more than their options override this."""
        return cls(**options)

    def weights(self) -> dict[str, dict[str, str]]:
        """Return the weights that it uses besides those of the SAM: role → `sam` they belong to and `sha256`."""
        return {}

    @abstractmethod
    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield prompts in original pixels, a round at a time, all points or all boxes; receive the round decoded.

        Args:
            photo: the photo, encoded.
            fates: to be told of prompts that were proposed and will not be yielded, and why; and of the map that they
                are proposed from, if there is one. What was yielded is counted by the caller.
        """
