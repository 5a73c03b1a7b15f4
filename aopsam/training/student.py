"""Base class of distillation: pictures, the teacher's embeddings of them, loss and validation of the student."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam._options import Count
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.registry import MODELS
from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE
from aopsam.training.pool import Pool
from aopsam.training.task import Recipe, Task, Validation, cosine
from aopsam.training.views import Frame, Views, normalised, random_views, resized, shown, view


@dataclass(frozen=True, kw_only=True)
class StudentRecipe(Recipe):
    """Hyper-parameters of a distillation; the defaults are ours unless a subclass cites its paper.

    Attributes:
        teacher: name of the teacher.
        teacher_sha256: hex digest of the teacher's weights.
        student: name of the student.
        start_sha256: hex digest of the student's initial weights; empty for random ones.
        batch: pictures in memory at once on each worker.
        picture_px: side of the student's pictures in pixels, a multiple of 16; None for whole frames, which every
            encoder takes. A smaller side shows part of a frame at the frame's scale; both models must accept it.
        zoom: smallest and largest size of a photo relative to a frame that it just fills, log-uniform: a random resized
            crop, flipped with probability 0.5. MAE's crops of 0.2 to 1 of the area are zooms of 1 to 2.24.
        rate: peak learning rate; after a linear warm-up it falls along a cosine to 0. The convolutional `tiny` learns
            several times as fast at 4e-3 (benchmarks/LOG.md).
        warmup: share of the steps in the warm-up.
        weight_decay: weight decay of AdamW, on matrices and kernels.
        betas: betas of AdamW.
    """

    teacher: str = "tiny"
    teacher_sha256: str = ""
    student: str = "tiny"
    start_sha256: str = ""
    batch: Count = 4
    picture_px: Count | None = None
    zoom: tuple[float, float] = (1.0, 2.24)
    rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"


class StudentTask(Task):
    """Training of the student's encoder on the teacher's embeddings, without prompts or masks.

    The teacher is in eval mode and embeds the same pictures as the student, at its own input size; an embedding of
    another grid is resized to the student's. Cells of padding do not count. (`tiny` packs descriptors of unit length
    into most of its channels: as the student of another kind of teacher it can only approximate the embedding, and as
    a teacher of another grid it loses the detail within a cell.)
    """

    recipe: StudentRecipe
    pool: Pool

    def __init__(
        self,
        recipe: StudentRecipe,
        teacher: Sam,
        student: Sam,
        photos: Sequence[Annotated],
        held_out: Iterable[Annotated] = (),
    ) -> None:
        """Freeze the teacher and store the held-out photos as pictures of the models' sizes.

        Args:
            recipe: hyper-parameters.
            teacher: model whose weights do not change; it moves to the student's device.
            student: model whose image encoder is trained, from its current weights.
            photos: photos to train on, whose annotations are not read; of `StreamedPhotos` those that the run begins
                with.
            held_out: photos to validate on.

        Raises:
            ValueError: pictures of a size that a model does not accept.
        """
        self.recipe, self.photos = recipe, photos
        self.pool = Pool([photos], recipe.batch)
        self.teacher = teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.student = student
        self.model = student.image_encoder
        self.heads = nn.ModuleList()
        sides = int(student.image_encoder.img_size), int(teacher.image_encoder.img_size)
        self._frame = _frame(recipe, student, teacher)
        self._held_out = [view(photo.rgb, Frame(*sides, 1.0)) for photo in held_out]

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.batch)

    def batch(self, index: int) -> Views:
        """Return random views of the next photos."""
        recipe = self.recipe
        self.pool.move(index)
        photos = self.pool.sources[0]
        return random_views(photos, self._frame, seed=recipe.seed, index=index, count=recipe.batch, zoom=recipe.zoom)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW; norms, biases and single vectors do not decay."""
        parameters = [p for part in (self.model, self.heads) for p in part.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay, "part": "all"},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "part": "all"},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.recipe.betas)

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rate of an update: linear warm-up, then a cosine."""
        recipe = self.recipe
        return {"all": recipe.rate * cosine(step, recipe.steps, int(recipe.warmup * recipe.steps))}

    def loss(
        self, batch: Views, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the mean squared error over cells and channels, and `cosine`, the mean over cells."""
        target = self.teach(batch)
        answer = self.answer(self.model, batch, generator).float()
        error, likeness = compare(answer, target, batch.cells)
        return error, {"cosine": likeness.detach()}

    @abstractmethod
    def answer(self, model: nn.Module, batch: Views, generator: torch.Generator) -> torch.Tensor:
        """Predict the teacher's embeddings, (B, 256, h, w), with the student's encoder and the task's heads.

        Args:
            model: the student's image encoder, with current or averaged weights.
            batch: pictures.
            generator: source of all random draws, on the CPU.
        """

    @torch.no_grad()
    def teach(self, batch: Views) -> torch.Tensor:
        """Compute the teacher's embeddings of the same views on the student's grid, (B, 256, h, w) float32."""
        device = batch.teacher.device
        self.teacher.to(device)
        side = batch.student.shape[-1] // STRIDE
        inside = batch.cells * STRIDE * batch.teacher.shape[-1] // batch.student.shape[-1]
        with self.recipe.mixed(device):
            embedding = self.teacher.image_encoder(normalised(self.teacher, batch.teacher, inside))
        return resized(embedding.float(), batch.cells, side)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> Validation | None:
        """Measure `cosine` (the score) and `mse` on whole held-out photos, mean over photos."""
        if not self._held_out:
            return None
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(self.recipe.seed)
        figures = []
        for picture in self._held_out:
            batch = picture.to(device)
            answer = self.answer(model, batch, generator).float()
            figures.append(torch.stack(compare(answer, self.teach(batch), batch.cells)))
        mse, likeness = torch.stack(figures).mean(0).tolist()
        return Validation(likeness, {"cosine": likeness, "mse": mse})


def compare(answer: torch.Tensor, target: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean squared error over channels and cells of the photo, and the mean cosine over those cells.

    Args:
        answer: (B, C, h, h).
        target: (B, C, h, h).
        cells: (B, 2) rows and columns that show the photo; every cell of the batch has the same weight.
    """
    counts = shown(cells, answer.shape[-1])[:, 0].float()
    total = counts.sum()
    error = ((answer - target).square().mean(1) * counts).sum() / total
    return error, (F.cosine_similarity(answer, target, dim=1) * counts).sum() / total


def build_student(name: str, seed: int) -> Sam:
    """Build a model of the registry with random weights; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name].build()


def share_decoder(student: Sam, teacher: Sam) -> Sam:
    """Copy the teacher's prompt encoder and mask decoder into the student (MobileSAM), in place, and return it."""
    student.prompt_encoder.load_state_dict(teacher.prompt_encoder.state_dict())
    student.mask_decoder.load_state_dict(teacher.mask_decoder.state_dict())
    return student


def takes_any_size(sam: Sam) -> bool:
    """Return whether the image encoder accepts squares of other sizes than its own."""
    return isinstance(sam.image_encoder, TinyEncoder)


def _frame(recipe: StudentRecipe, student: Sam, teacher: Sam) -> Frame:
    student_px, teacher_px = int(student.image_encoder.img_size), int(teacher.image_encoder.img_size)
    share = 1.0 if recipe.picture_px is None else recipe.picture_px / student_px
    frame = Frame(round(student_px * share), round(teacher_px * share), share)
    for name, sam, side in (("student", student, frame.student_px), ("teacher", teacher, frame.teacher_px)):
        own = sam.image_encoder.img_size
        if side != own and not takes_any_size(sam):
            raise ValueError(
                f"picture_px {recipe.picture_px}: the {name} reads whole squares of {own} px; leave it out"
            )
    if max(frame[:2]) % min(frame[:2]) or min(frame[:2]) % STRIDE or not 0 < share <= 1:
        raise ValueError(
            f"pictures of {frame.student_px} px for the student and {frame.teacher_px} px for the teacher: both must be"
            f" multiples of {STRIDE}, one a multiple of the other, and none beyond the model's own"
        )
    return frame
