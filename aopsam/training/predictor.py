"""Train the Prompt Predictor on a map-style dataset of prompt maps (AoP-SAM, "Training and inference")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch import nn

from aopsam.predictor.frame import normalise
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.training.calibration import calibrate_threshold
from aopsam.training.map_losses import MAP_LOSSES, masked_mean
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import PredictorRecipe
from aopsam.training.task import Task, Validation, cosine, shuffled


class PromptMaps(Protocol):
    """A map-style dataset of prompt maps; `stages.prompt_maps.rows.PromptMapRows` is one."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return a row: `image` (S, S, 3) uint8, `content_hw` (2,) int, `embedding` (C, h, w) float16, `map` (S, S)
        float16, `valid` (S, S) uint8, `weight` () float32."""


@dataclass(frozen=True)
class MapBatch:
    """B rows in their stored types, a quarter of the memory of `inputs`.

    Attributes:
        image: (B, S, S, 3) uint8.
        content_hw: (B, 2) int64.
        embedding: (B, C, h, w) float16.
        map: (B, S, S) float16.
        valid: (B, S, S) uint8.
        weight: (B,) float32, weight of each row.
    """

    image: torch.Tensor
    content_hw: torch.Tensor
    embedding: torch.Tensor
    map: torch.Tensor
    valid: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device) -> MapBatch:
        """Return the batch on a device."""
        return MapBatch(*(getattr(self, field.name).to(device) for field in fields(self)))

    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the predictor's inputs: image (B, 3, S, S), normalised, and embedding (B, C, h, w), float32."""
        image = normalise(self.image, self.content_hw)
        return image.contiguous(memory_format=torch.channels_last), self.embedding.float()


def collate(rows: list[dict[str, np.ndarray]]) -> MapBatch:
    """Stack rows into a batch."""
    return MapBatch(*(torch.from_numpy(np.stack([row[field.name] for row in rows])) for field in fields(MapBatch)))


class PredictorTask(Task):
    """Training of the predictor on stored embeddings, without the SAM that made them.

    There are no random flips: mirrored photos are rows of the dataset, with embeddings of their own.
    """

    model: PromptPredictor
    recipe: PredictorRecipe

    def __init__(
        self,
        dataset: PromptMaps,
        recipe: PredictorRecipe,
        held_out: PromptMaps | None = None,
        photos: PromptedPhotos | None = None,
        sampling: Sampling | None = None,
        prompts: int | None = 100,
        start: PromptPredictor | None = None,
    ) -> None:
        """Set up a predictor with random weights, or those of another one.

        Args:
            dataset: rows to train on.
            recipe: hyper-parameters.
            held_out: rows to validate on.
            photos: photos whose masks give the validation score; without them, the loss on `held_out` does.
            sampling: sampling of the map for those masks; its threshold is chosen on `held_out` each time.
            prompts: median number of prompts per photo that the threshold is chosen for; None to keep that of
                `sampling`.
            start: weights to begin with.

        Raises:
            ValueError: the dataset has no rows.
        """
        if len(dataset) == 0:
            raise ValueError("no prompt maps to train on")
        self.dataset, self.recipe, self.held_out = dataset, recipe, held_out
        self.photos, self.sampling, self.prompts = photos, sampling or Sampling(), prompts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = PromptPredictor(dataset[0]["embedding"].shape[0])
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        self.heads = nn.Module()

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.recipe.batch)

    def batch(self, index: int) -> MapBatch:
        """Return the next rows of an endless stream of shuffled epochs."""
        rows = shuffled(len(self.dataset), self.recipe.seed, index * self.recipe.batch, self.recipe.batch)
        return collate([self.dataset[row] for row in rows])

    def optimizer(self) -> torch.optim.Optimizer:
        """Make Adam, as in the paper."""
        return torch.optim.Adam([{"params": list(self.model.parameters()), "part": "predictor"}])

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rate of an update, one for all parameters."""
        recipe = self.recipe
        return {"predictor": recipe.learning_rate * cosine(step, recipe.steps, recipe.warmup)}

    def loss(
        self, batch: MapBatch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the recipe's loss over the valid pixels of the maps."""
        return self._loss(self.model, batch), {}

    def _loss(self, model: nn.Module, batch: MapBatch) -> torch.Tensor:
        # (bfloat16 on a CPU halves an update, but torch 2.13 then returns NaN as gradient of the dilated convolutions.)
        with self.recipe.mixed(batch.image.device):
            logits = model(*batch.inputs())
        error = MAP_LOSSES[self.recipe.loss](logits[:, 0].float(), batch.map.float())
        return masked_mean(error, batch.valid, batch.weight)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Validation | None:
        """Compute the loss on held-out rows, then mIoU, prompts and masks of the photos with `AutoMaskGenerator`."""
        assert isinstance(model, PromptPredictor)
        if self.held_out is None or not len(self.held_out):
            return None
        device = next(model.parameters()).device
        losses = [self._loss(model, collate([self.held_out[i]]).to(device)) for i in range(len(self.held_out))]
        loss = float(torch.stack(losses).mean())
        if self.photos is None:
            return Validation(-loss, {"loss": loss})
        judged = model.to("cpu")
        judged.sampling = choose_sampling(judged, self.held_out, self.sampling, self.prompts)
        figures = self.photos.judge(judged)
        return Validation(figures["miou"], {"loss": loss} | figures, self.photos.pictures(judged))


def choose_sampling(
    predictor: PromptPredictor, held_out: PromptMaps, sampling: Sampling, prompts: int | None
) -> Sampling:
    """Return `sampling` with a threshold for a median of `prompts` on held-out rows; as it is where that is None."""
    return sampling if prompts is None else calibrate_threshold(confidence_maps(predictor, held_out), sampling, prompts)


@torch.inference_mode()
def confidence_maps(predictor: PromptPredictor, rows: PromptMaps) -> list[np.ndarray]:
    """Return the predictor's map (h, w) in [0, 1] of every completely annotated row; of every row if none is."""
    maps, complete = [], []
    for index in range(len(rows)):
        row = rows[index]
        height, width = row["content_hw"]
        logits = predictor(*collate([row]).inputs())
        maps.append(logits[0, 0, :height, :width].sigmoid().numpy())
        complete.append(bool(row["valid"][:height, :width].all()))
    if not any(complete):
        return maps
    return [confidence for confidence, is_complete in zip(maps, complete, strict=True) if is_complete]
