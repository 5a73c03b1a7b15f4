"""`aop`: AoP-SAM. From a prompt confidence map to few point prompts, without those that would repeat a mask."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch

from aopsam._options import Count, Limits, Share
from aopsam.predictor.frame import FRAME_SIZE
from aopsam.predictor.sampling import Sampling
from aopsam.prompting.asf import (
    AdaptiveFilter,
    Elimination,
    adaptive_sampling,
    component_peaks,
    cover_count,
    elimination_threshold,
    features_at,
)
from aopsam.prompting.diverse import diverse_order, with_centers
from aopsam.prompting.fates import Fates
from aopsam.prompting.proposer import BoxProposer, Proposer
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.decode import inside_masks, masks_on_cells
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import Thresholds, thresholds_of
from aopsam.sam.things import MOST, find_thing_head

MOST_SIGMA = 64.0
"""Widest smoothing, in cells of the map's 256 a side; wider than this nothing is left of it."""

SURE = 0.1
"""Least score of a thing that is decoded: below it, a point finds as much (benchmarks/LOG.md)."""

OVER_BUDGET = "beyond max_decoded"
"""Reason of prompts that nothing but `max_decoded` kept from the decoder."""


@dataclass(kw_only=True, eq=False)
class AutoPrompts(Strategy):
    """Peaks by falling confidence, in rounds between which some go; or confident places with unlike features."""

    sweeps: ClassVar = {
        "things": (0, 10, 20, 30),
        "threshold": (0.01, 0.02, 0.04, 0.07, 0.1, 0.2),
        "spacing": (1, 2, 3, 4, 6),
        "likeness": (0.7, 0.8, 0.9),
        "times": (1, 2, 3, 5),
    }

    proposer: Proposer = field(kw_only=False)
    """Source of the prompt confidence map."""
    boxes: BoxProposer | None = field(default=None, kw_only=False)
    """Source of further places for `diverse`, the centres of boxes."""
    adaptive_sampling: bool = True
    """Local maxima; without, one prompt per connected component (Table 2, first row)."""
    adaptive_filtering: bool = True
    """Choose among prompts; without, all that sampling gives are decoded."""
    elimination: Elimination = "covered"
    """`covered` (between rounds a prompt goes that lies in kept masks and resembles them), the paper's `scaled`
    (C > k · T_elim) or `equation` (C > T_elim), `relative` (`scaled`, whatever the level of the model's IoU estimates);
    or `diverse` (of what is sampled and the centres of the bundled detector's boxes, those unlike the ones chosen
    before, see `diverse.py`): for a given number of prompts. Figures of all are in benchmarks/LOG.md."""
    things: Annotated[int, Limits(0, MOST)] = 30
    """Boxes of things (people, animals, cars, cups …) decoded before any point, one mask each: the surest, fewer where
    few are likely; part of `max_decoded`. They come from the trunk of `tiny` (aopsam/sam/things.py): none where the
    predictor reads another SAM's embedding."""
    max_decoded: Count | None = None
    """Prompts decoded on one photo at most, or on each of its tiles or crops. Under `diverse` that many are decoded, if
    there are as many places (some 380); the other rules end with what is sampled."""
    least_value: Annotated[float, Limits(0)] = 0.4
    """Without `max_decoded`, `diverse` ends where no place is worth this many times the mean confidence of the photo's
    candidates."""
    likeness: Annotated[float, Limits()] = 0.8
    """Cosine from which a prompt resembles a mask, for `covered`."""
    times: Count = 3
    """Masks that a dropped prompt must lie in and resemble, for `covered`."""
    k: Annotated[float, Limits(0)] | None = None
    """Factor of `scaled` and `relative` (Table 3d); None for 1.3 under `relative`, else for that of the decoding model,
    1.3 for official SAMs."""
    smoothing_sigma: Annotated[float, Limits(0, MOST_SIGMA)] | None = None
    """Smoothing factor of the sampling, cells of the map; None for that of the predictor's weights, as the next two."""
    spacing: Annotated[int, Limits(0, FRAME_SIZE)] | None = None
    """Least distance of two prompts, cells of the map."""
    threshold: Share | None = None
    """Least confidence of a prompt."""
    round_size: Count = 16
    """Prompts decoded between two filterings."""
    max_prompts: Count = 512
    """Points proposed on one photo, tile or crop at most, the most confident."""

    @property
    def sampling(self) -> Sampling:
        """Sampling of the predictor's weights, with the options that are given."""
        given = {name: getattr(self, name) for name in ("smoothing_sigma", "spacing", "threshold")}
        return replace(self.proposer.predictor.sampling, **{k: v for k, v in given.items() if v is not None})

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build the strategy for a model and its predictor."""
        strategy = cls(Proposer(context.model, context.predictor), **options)
        if strategy.is_diverse and strategy.adaptive_sampling:
            strategy.boxes = BoxProposer(strategy.proposer.reads)
        return strategy

    @property
    def is_diverse(self) -> bool:
        """Tell whether prompts are chosen before any is decoded."""
        return self.adaptive_filtering and self.elimination == "diverse"

    def weights(self) -> dict[str, dict[str, str]]:
        """Name the predictor's weights, the detector's if there is one, and the thing head's if things are decoded."""
        predictor = self.proposer.predictor
        used = {"predictor": {"sam": predictor.sam, "sha256": predictor.sha256}}
        if self.boxes is not None:
            used["detector"] = self.boxes.weights()
        head = find_thing_head(self.proposer.reads) if self.things else None
        return used if head is None else used | {"thing_head": {"sam": head.sam, "sha256": head.sha256}}

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield things in a round of their own, then all points in one; under the rules that look at masks, rounds of
        `round_size`."""
        read = self.proposer.source(photo) if self.boxes is not None or self.things else photo  # once for all
        confidence = self.proposer.confidence(read)
        fates.show(confidence)
        things, decoded = self._boxes_of_things(read), None
        if len(things):
            decoded = yield things
        waiting = self._places(photo, confidence, read)
        if self.is_diverse:
            most = self.max_prompts if self.max_decoded is None else self.max_decoded - len(things)
            yield self._diverse(photo, waiting, min(self.max_prompts, most))
            return
        waiting = waiting[: self.max_prompts]
        budget = len(waiting) if self.max_decoded is None else self.max_decoded - len(things)
        if not self.adaptive_filtering:
            yield waiting[:budget]
            fates.drop(waiting[budget:], OVER_BUDGET)
            return
        rule = self._covered if self.elimination == "covered" else self._resembling
        yield from rule(photo, waiting, budget, fates, decoded)

    def _boxes_of_things(self, read: EncodedPhoto) -> Prompts:
        """Return the boxes of the surest things of the photo as it was read; none where no thing head belongs to that
        SAM."""
        most = min(self.things, self.max_decoded or self.things)
        if not most or read.things is None:
            return Prompts.from_boxes(np.zeros((0, 4), np.float32))
        sure = int((read.things.scores[:most] >= SURE).sum())
        return Prompts.from_boxes(read.things.boxes_px[:sure].numpy(), read.things.scores[:sure].numpy())

    def _places(self, photo: EncodedPhoto, confidence: np.ndarray, read: EncodedPhoto) -> Prompts:
        """Return the sampled points by falling confidence, then centres of the boxes of the photo as it was read."""
        height, width = photo.hw
        if self.adaptive_sampling:
            xy, values = adaptive_sampling(confidence, **asdict(self.sampling))
            if self.boxes is not None:
                boxes, _ = self.boxes.boxes(read)
                centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / [width, height]
                xy, values = with_centers(confidence, xy, values, centers, self.sampling.smoothing_sigma)
        else:
            xy, values = component_peaks(confidence, threshold=self.sampling.threshold)
        return Prompts.from_points((xy + 0.5) * [width / confidence.shape[1], height / confidence.shape[0]], values)

    def _diverse(self, photo: EncodedPhoto, places: Prompts, most: int) -> Prompts:
        """Return places where the map is confident, each with features unlike those of the places before it."""
        if not len(places):
            return places
        rows, columns = photo.content_cells
        features = features_at(photo.embedding[0, :, :rows, :columns].float(), self._on_cells(photo, places))
        order = diverse_order(
            torch.from_numpy(places.confidence).to(features),
            torch.from_numpy(places.coords_px[:, 0]).to(features) / max(photo.hw),
            features,
            most=most,
            least_value=0.0 if self.max_decoded else self.least_value * float(places.confidence.mean()),
        )
        return places[order.numpy()]

    def _covered(
        self, photo: EncodedPhoto, waiting: Prompts, budget: int, fates: Fates, decoded: Decoded | None
    ) -> Generator[Prompts, Decoded, None]:
        """Yield rounds; after each, drop prompts that lie in kept masks and have similar features."""
        rows, columns = photo.content_cells
        embedding = photo.embedding[0, :, :rows, :columns].float()
        counts = np.zeros(len(waiting), np.int64)
        while len(waiting) and budget:
            if decoded is None:
                size = min(self.round_size, budget)
                decoded = yield waiting[:size]
                waiting, counts, budget = waiting[size:], counts[size:], budget - size
            cells, points = masks_on_cells(photo, decoded.kept_logits), self._on_cells(photo, waiting)
            inside = inside_masks(photo, decoded.kept_logits, waiting.coords_px[:, 0], photo.model.mask_threshold)
            counts = counts + cover_count(embedding, cells, points, inside, self.likeness).cpu().numpy()
            stays = counts < self.times
            fates.drop(waiting[~stays], "lies in kept masks and resembles them")
            waiting, counts, decoded = waiting[stays], counts[stays], None
        fates.drop(waiting, OVER_BUDGET)

    def _resembling(
        self, photo: EncodedPhoto, waiting: Prompts, budget: int, fates: Fates, decoded: Decoded | None
    ) -> Generator[Prompts, Decoded, None]:
        """Yield rounds; after each, drop prompts that resemble the mean of all kept masks (AoP-SAM, Eq. 1 to 3)."""
        rows, columns = photo.content_cells
        of_the_model = Thresholds() if self.elimination == "relative" else thresholds_of(photo.model)
        k = of_the_model.elimination_k if self.k is None else self.k
        seen = AdaptiveFilter(photo.embedding[0, :, :rows, :columns].float())
        if decoded is not None:
            seen.add(masks_on_cells(photo, decoded.kept_logits))
        while len(waiting) and budget:
            size = min(self.round_size, budget)
            decoded = yield waiting[:size]
            waiting, budget = waiting[size:], budget - size
            seen.add(masks_on_cells(photo, decoded.kept_logits))
            similarity = seen.similarity(self._on_cells(photo, decoded.prompts))
            waiting_similarity = seen.similarity(self._on_cells(photo, waiting))
            if similarity is None or waiting_similarity is None:
                continue
            best_iou = decoded.predicted_iou.max(dim=1).values
            limit = elimination_threshold(best_iou, similarity, self.elimination, k)
            stays = (waiting_similarity <= limit).cpu().numpy()
            fates.drop(waiting[~stays], "resembles a kept mask")
            waiting = waiting[stays]
        fates.drop(waiting, OVER_BUDGET)

    @staticmethod
    def _on_cells(photo: EncodedPhoto, prompts: Prompts) -> torch.Tensor:
        """Return (N, 2) XY of points as shares of the extent of the content cells, which may reach into the padding."""
        height, width = photo.hw
        rows, columns = photo.content_cells
        cell = photo.model.image_encoder.img_size / photo.embedding.shape[-1]
        extent = [columns * cell / photo.input_hw[1] * width, rows * cell / photo.input_hw[0] * height]
        return torch.from_numpy(prompts.coords_px[:, 0]) / torch.tensor(extent, dtype=torch.float32)
