"""What a prompt strategy is: rounds of prompts out, what was decoded back in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


@dataclass(frozen=True)
class Decoded:
    """What became of one round of N prompts with M masks each.

    Attributes:
        prompts: the round's prompts.
        predicted_iou: (N, M) float32, the decoder's own estimate.
        kept_logits: (K, r, c) float32 of the masks that passed the thresholds, as in `aopsam.sam.decode.DecodedMasks`.
    """

    prompts: Prompts
    predicted_iou: torch.Tensor
    kept_logits: torch.Tensor


@dataclass
class Trace:
    """What a strategy says of its work on one photo.

    Attributes:
        proposed: prompts that it came up with.
        dropped: prompts that it proposed and never sent to the decoder, by reason.
    """

    proposed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Strategy(Protocol):
    """Proposes prompts for one photo at a time; holds no state between photos."""

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """Yield prompts in original pixels, a round at a time, all points or all boxes; receive the round decoded."""
        ...
