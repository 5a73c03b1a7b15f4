"""Arguments of the trainings and their defaults; without torch, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aopsam._options import Count
from aopsam.predictor.sampling import Sampling
from stages.config.command_line import Uri
from stages.storage.atomic import check_writable
from stages.storage.location import printable, redact

SAMPLING = Sampling(smoothing_sigma=1.0, spacing=1)
"""Sampling of the trained map; the paper's 2 and 6 leave too few peaks of ours (aopsam/weights/predictor-tiny.md)."""

PROMPTS = 100
"""Median prompts a photo that the threshold is chosen for; the paper's Table 2 has 61 to 120."""

PHOTOS = 4000
"""Photos that examples are made of, at most: four times those of the bundled scorer; 13 kB of examples each."""


@dataclass(frozen=True, kw_only=True)
class TrainingArguments:
    """Options of every training pipeline, besides its recipe."""

    out: Uri
    """Folder or URI; holds a run to go on with, or none."""
    workers: Count = 1
    """Training processes."""
    threads: Count | None = None
    """CPU threads a worker; by default 2."""
    checkpoint_every: Count = 250
    """Updates between checkpoints."""
    validate_every: Count | None = None
    """Updates between validations; by default an epoch."""
    plan: bool = False
    """Measure for a minute, print what the run will cost, and end."""

    def check_out(self, *names: str) -> None:
        """Check before the work that OUT can be written.

        Args:
            names: what the pipeline writes there besides checkpoints and curves; folders end in a slash.

        Raises:
            ValueError: OUT cannot be written, or its name is not UTF-8, which Ray Train cannot write to.
        """
        if printable(self.out) != self.out:
            raise ValueError(f"{printable(redact(self.out))}: not UTF-8, as Ray Train needs it; give another --out")
        check_writable(self.out, "train/", "tensorboard/", *names)


@dataclass(frozen=True, kw_only=True)
class SamInputs:
    """Inputs that a SAM learns from besides its annotated photos."""

    shares: tuple[float, ...] = ()
    """Share with which a photo of each --data is drawn, relative to the others; by default all alike."""
    edges: Uri | None = None
    """Folder of edge maps (build_edge_maps.py) of all photos."""
    unlabelled: tuple[Uri, ...] = ()
    """Photos that teach edges alone: folders, globs, tars, Parquet."""
    unlabelled_share: float = 1.0
    """Share with which each of those is drawn."""
    trunk: Uri | None = None
    """NanoDet's weights to begin with, a file on every node; needed without --start."""


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """Arguments of a fine-tuning besides a SAM's recipe."""

    finetune_recipe: Literal["ours", "paper"] = "ours"
    """paper: EfficientSAM's, 128 whole photos an update; of SA-1B its 5 epochs are --steps 429688."""
    finetune_decoder: bool = False
    """Train prompt encoder and mask decoder as well: those that EfficientSAM begins with by distillation."""
    finetune_px: Count | None = None
    """Side of the windows, or at which EfficientSAM's photos are drawn; by default 256 (tiny) or the model's own."""
