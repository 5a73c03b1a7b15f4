"""Base class of distillation: pictures, the teacher's embeddings of them, loss and validation of the student."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam._options import Count
from aopsam.sam.decoders.efficient_sam import EfficientSam
from aopsam.sam.encoders.efficient_sam import EfficientSamEncoder
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import StretchedSam
from aopsam.sam.registry import MODELS
from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE
from aopsam.training.pool import Pool
from aopsam.training.recipes import Precision, Recipe
from aopsam.training.task import Task, Validation, cosine
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
            encoder takes. A smaller side shows part of a frame at the frame's scale; both models must accept it. A
            `StretchedSam` instead reads what it is shown at this side, stretched to the square, and so does its
            teacher at `teacher_px`.
        teacher_px: side of the teacher's pictures for a `StretchedSam`, a multiple of 16; None for the teacher's own.
            Features of another grid are resized to the student's.
        zoom: smallest and largest size of a photo relative to a frame that it just fills, log-uniform: a random resized
            crop, flipped with probability 0.5. For a `StretchedSam` the crops are MAE's: their area is uniform, with
            these zooms 0.2 to 1 of the photo's.
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
    teacher_px: Count | None = None
    zoom: tuple[float, float] = (1.0, 2.24)
    rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    precision: Precision = "auto"


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
        whole = self._frame if self._frame.fills else Frame(*sides, 1.0)
        self._held_out = [view(photo.rgb, whole) for photo in held_out]

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
        """Predict what `teach` computes with the student's encoder and the task's heads.

        Args:
            model: the student's image encoder, with current or averaged weights.
            batch: pictures.
            generator: source of all random draws, on the CPU.
        """

    @torch.no_grad()
    def teach(self, batch: Views) -> torch.Tensor:
        """Compute the target, the teacher's embeddings of the same views on the student's grid: (B, 256, h, w) float32.

        To an embedding that the teacher's decoder adds a vector to, as SAM's does where no mask is given, and the
        student's does not, it is added here.
        """
        target = self.on_students_grid(batch, self.teacher.image_encoder)
        no_mask = getattr(self.teacher.prompt_encoder, "no_mask_embed", None)
        if no_mask is None or not isinstance(self.student, EfficientSam):
            return target
        return target + no_mask.weight.view(1, -1, 1, 1) * shown(batch.cells, target.shape[-1])

    @torch.no_grad()
    def on_students_grid(self, batch: Views, network: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Run the teacher's encoder, or a part of it, on views; return (B, C, h, w) float32 on the student's grid."""
        device = batch.teacher.device
        self.teacher.to(device)
        side = batch.student.shape[-1] // STRIDE
        inside = batch.cells * STRIDE * batch.teacher.shape[-1] // batch.student.shape[-1]
        with self.recipe.mixed(device):
            embedding = network(normalised(self.teacher, batch.teacher, inside))
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
        sam = MODELS[name].build()
    begin_positions(sam)
    return sam


def begin_positions(sam: Sam) -> None:
    """Let the positions of EfficientSAM's plain ViT, zero as built, begin as MAE's sines and cosines, in place."""
    if isinstance(sam.image_encoder, EfficientSamEncoder):
        table = sam.image_encoder.pos_embed
        side = int((table.shape[1] - 1) ** 0.5)
        with torch.no_grad():
            table[0, 1:] = sines(side, side, table.shape[2]).flatten(0, 1)


_AS_EFFICIENT_SAM = (
    (r"not_a_point_embed", r"invalid_points"),
    (r"point_embeddings\.1", r"point_embeddings"),
    (r"point_embeddings\.2", r"bbox_top_left_embeddings"),
    (r"point_embeddings\.3", r"bbox_bottom_right_embeddings"),
    (r"mlp\.lin1", r"mlp.layers.0.0"),
    (r"mlp\.lin2", r"mlp.fc"),
    (r"output_upscaling\.([01])", r"final_output_upscaling_layers.0.\1"),
    (r"output_upscaling\.3", r"final_output_upscaling_layers.1.0"),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.([01])", r"\1.layers.\2.0"),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.2", r"\1.fc"),
)
"""Names of segment-anything's prompt encoder and mask decoder, and of EfficientSAM's layers in the same places."""


def share_decoder(student: Sam, teacher: Sam) -> Sam:
    """Copy the teacher's prompt encoder and mask decoder into the student (MobileSAM), in place, and return it.

    EfficientSAM's layers have the shapes of segment-anything's but not all of their functions (GELU for ReLU, another
    normalisation, another residual): with the weights of another model's decoder they are only a start, to be trained.

    Raises:
        ValueError: the student cannot take weights of the teacher's decoder.
    """
    differ = isinstance(student, EfficientSam) != isinstance(teacher, EfficientSam)
    if differ and not isinstance(student, EfficientSam):
        raise ValueError("a teacher that is EfficientSAM, with its own decoder, has students that are, too")
    for part in ("prompt_encoder", "mask_decoder"):
        theirs, own = getattr(teacher, part).state_dict(), getattr(student, part)
        if differ:
            theirs = {_as_efficient_sam(name): tensor for name, tensor in theirs.items()}
            theirs = {name: tensor for name, tensor in theirs.items() if name in own.state_dict()}
        own.load_state_dict(theirs)
    return student


def _as_efficient_sam(name: str) -> str:
    for theirs, own in _AS_EFFICIENT_SAM:
        name, found = re.subn(rf"\b{theirs}\.", f"{own}.", name)
        if found:
            break
    return name


def sines(height: int, width: int, channels: int) -> torch.Tensor:
    """Return (height, width, channels) fixed sines and cosines of column and row, a quarter of channels each (MAE)."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(channels // 4) / (channels // 4))
    x = (torch.arange(width)[:, None] * rates).expand(height, -1, -1)
    y = (torch.arange(height)[:, None, None] * rates).expand(-1, width, -1)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=-1)


def takes_any_size(sam: Sam) -> bool:
    """Return whether the image encoder accepts windows: parts of its square, at the square's scale."""
    return isinstance(sam.image_encoder, TinyEncoder)


def takes_other_sizes(sam: Sam) -> bool:
    """Return whether the image encoder accepts whole pictures drawn at another size than its own."""
    return isinstance(sam.image_encoder, TinyEncoder | EfficientSamEncoder | ViTEncoder)


def _frame(recipe: StudentRecipe, student: Sam, teacher: Sam) -> Frame:
    if isinstance(student, StretchedSam):
        return _filled(recipe, student, teacher)
    if isinstance(teacher, StretchedSam):
        raise ValueError(f"{recipe.teacher} reads stretched photos, {recipe.student} does not: take another teacher")
    if recipe.teacher_px is not None:
        raise ValueError(f"teacher_px {recipe.teacher_px}: only for students that read stretched photos (EfficientSAM)")
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


def _filled(recipe: StudentRecipe, student: Sam, teacher: Sam) -> Frame:
    sides = list[int]()
    models = (("picture_px", student, recipe.picture_px), ("teacher_px", teacher, recipe.teacher_px))
    for name, sam, wanted in models:
        own = int(sam.image_encoder.img_size)
        side = own if wanted is None else wanted
        if side % STRIDE or side > own or (side != own and not takes_other_sizes(sam)):
            right = f"a multiple of {STRIDE} up to {own}" if takes_other_sizes(sam) else f"{own}, or leave it out"
            raise ValueError(f"{name} {side}: {recipe.student if sam is student else recipe.teacher} reads {right}")
        sides.append(side)
    return Frame(sides[0], sides[1], 1.0, fills=True)
