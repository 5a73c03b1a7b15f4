"""The loop of everything mode on one photo, whole or a part of it: propose → decode → filter → send back.

Where it needs the model it waits (`yield`), so that photos can be labelled together: see `lock_step.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from aopsam.everything.candidates import BoxXYXY, Candidate, Crop, Filters, redrawn, scored_by_agreement, select
from aopsam.everything.ledger import Ledger, timed
from aopsam.everything.lock_step import Image, Steps
from aopsam.everything.options import GeneratorOptions
from aopsam.everything.refinement import Refinement, refine
from aopsam.mask_head.network import MaskHead
from aopsam.masks.duplicates import DUPLICATES
from aopsam.prompting.strategy import Decoded, Strategy
from aopsam.sam.decode import DecodedMasks, Round, best_of_each
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.sam.things import ThingHead
from aopsam.scoring.network import MaskScorer

Rounds = Generator[Prompts, Decoded, None]


@dataclass
class PhotoRun:
    """One photo on its way through everything mode.

    Attributes:
        options: with the model's thresholds.
        image: (H, W, 3) uint8 RGB.
        ledger: counts and times of this photo.
        encoded: the whole photo where it is encoded already.
        tile_px: side of the tiles that it is taken in; None if it is taken whole.
        scorer: scores masks, if they are to rank by a score.
        mask_head: draws kept masks once more; None where they stay as decoded.
        thing_head: finds things in the photo, if any are asked for.
    """

    options: GeneratorOptions
    image: np.ndarray
    ledger: Ledger
    encoded: EncodedPhoto | None = None
    tile_px: int | None = None
    scorer: MaskScorer | None = None
    mask_head: MaskHead | None = None
    thing_head: ThingHead | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Rows and columns of the photo."""
        return self.image.shape[0], self.image.shape[1]

    def label(self, box: BoxXYXY, strategy: Strategy, filters: Filters) -> Steps[list[Candidate]]:
        """Run a strategy's rounds on one part of the photo; return its masks, without duplicates."""
        crop = yield from self.encode(box)
        self.ledger.fates.enter(box)
        rounds = strategy.rounds(crop.photo, self.ledger.fates)
        candidates: list[Candidate] = []
        answer = None
        while (prompts := self.propose(rounds, answer)) is not None:
            decoded = yield from self.decode(crop, prompts, filters)
            found, answer = self.filter(crop, prompts, decoded, filters)
            candidates += found
        if self.tile_px is not None:
            candidates = self.score(candidates)
        candidates = self.without_duplicates(candidates, self.options.duplicates_thresh)
        # Refined masks may meet, and so may those that are drawn once more.
        if self.options.refine is not None:
            refined = yield from self.ask_again(crop, candidates, filters)
            candidates = self.without_duplicates(refined, self.options.duplicates_thresh)
        if self.mask_head is not None:
            candidates = self.without_duplicates(self.redraw(crop, candidates, filters), self.options.duplicates_thresh)
        return candidates

    def encode(self, box: BoxXYXY) -> Steps[Crop]:
        """Encode a part of the photo."""
        x0, y0, x1, y1 = box
        if self.encoded is not None and box == (0, 0, self.hw[1], self.hw[0]):
            encoded = self.encoded
        else:
            encoded = yield Image(self.image[y0:y1, x0:x1])
        return Crop(encoded.with_thing_head(self.thing_head), box, self.hw, self.mask_head is not None)

    @timed("prompt")
    def propose(self, rounds: Rounds, answer: Decoded | None) -> Prompts | None:
        """Send a strategy its last round, decoded (None at first); return its next prompts, None at the end."""
        try:
            return rounds.send(answer) if answer else next(rounds)
        except StopIteration:
            return None

    def decode(self, crop: Crop, prompts: Prompts, filters: Filters) -> Steps[DecodedMasks]:
        """Decode one round; return the masks whose predicted IoU passes."""
        self.ledger.fates.send(prompts)
        decoded: DecodedMasks = yield Round(crop.photo, prompts, filters.min_iou, self.options.multimask)
        return decoded

    @timed("filter")
    def filter(
        self, crop: Crop, prompts: Prompts, decoded: DecodedMasks, filters: Filters
    ) -> tuple[list[Candidate], Decoded]:
        """Return the masks that pass all filters, and the decoded round that the strategy is sent."""
        decoded, scores = self.choose_masks(crop, prompts, decoded)
        candidates, stable = select(crop, prompts, decoded, filters, scores)
        return candidates, Decoded(prompts, decoded.predicted_iou, decoded.logits[stable])

    def choose_masks(
        self, crop: Crop, prompts: Prompts, decoded: DecodedMasks
    ) -> tuple[DecodedMasks, torch.Tensor | None]:
        """Return the decoded masks whose learned score passes, and their scores (None without a scorer); of each prompt
        the best alone where the options ask for one mask a prompt."""
        scores = None
        if self.scorer is not None:
            scores = self.scorer.score(crop.photo, prompts, decoded, anywhere=True)
            passed = scores >= (self.options.score_thresh or 0.0)
            there = passed.to(decoded.index.device)
            decoded = replace(decoded, index=decoded.index[there], logits=decoded.logits[there])
            scores = scores[passed]
        if self.options.masks_per_prompt == 1 and decoded.predicted_iou.shape[1] > 1:
            quality = decoded.predicted_iou[decoded.index[:, 0], decoded.index[:, 1]] if scores is None else scores
            decoded, rows = best_of_each(decoded, quality)
            scores = None if scores is None else scores[rows.to(scores.device)]
        return decoded, scores

    @timed("filter")
    def score(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Score the masks of a tile by how many of its masks agree with each."""
        return scored_by_agreement(candidates)

    def ask_again(self, crop: Crop, candidates: Sequence[Candidate], filters: Filters) -> Steps[list[Candidate]]:
        """Refine the masks (Adaptive Mask Refinement)."""
        assert self.options.refine is not None
        how = Refinement(
            self.options.refine, self.options.refine_boundary, self.options.refine_points, self.options.multimask
        )
        steps = refine(crop, candidates, filters, how, self.choose_masks)
        refined, asked = yield from self.ledger.steps("decode", steps)
        self.ledger.refinements += asked
        return refined

    @timed("decode")
    def redraw(self, crop: Crop, candidates: Sequence[Candidate], filters: Filters) -> list[Candidate]:
        """Draw the masks once more with the mask head; those whose learned score does not pass any more go."""
        assert self.mask_head is not None
        drawn = redrawn(crop, candidates, self.mask_head, filters, self.scorer)
        least = self.options.score_thresh or 0.0
        return [candidate for candidate in drawn if candidate.mask_score is None or candidate.mask_score >= least]

    @timed("filter")
    def without_duplicates(
        self, candidates: Sequence[Candidate], threshold: float, scores: Sequence[float] | None = None
    ) -> list[Candidate]:
        """Return the masks without duplicates, by falling score; by default the candidates' own scores."""
        ranked = np.array([c.score for c in candidates] if scores is None else scores, np.float32)
        assert self.options.duplicates is not None
        kept = DUPLICATES[self.options.duplicates]([c.runs for c in candidates], ranked, threshold)
        return [
            candidates[i] if runs is candidates[i].runs else replace(candidates[i], runs=runs, logits=None)
            for i, runs in kept
        ]
