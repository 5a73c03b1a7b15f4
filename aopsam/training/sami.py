"""Pretrain a light encoder on masked photos to predict SAM's features (SAMI).

Xiong et al. 2023, EfficientSAM, section 3.2: a share of the picture's 16x16 patches is masked; the student encodes what
is visible; a cross-attention decoder predicts the masked tokens: its queries are the masked positions, its keys and
values the encoder's output and the masked tokens. Visible and predicted tokens, in their places, pass a linear head and
are compared with the teacher's features of the whole picture.

The encoder has then never seen a whole picture: validate it on masked ones, and fine-tune it (finetune.py) before use.

A plain transformer (EfficientSAM's ViTs) runs on the visible tokens alone, and what it puts out are its own tokens,
before the neck, which learns in fine-tuning. Encoders with convolutions or windowed attention cannot drop tokens: there
masked patches are blanked in the normalised picture, and of the embedding only the cells under visible patches count as
encoder output. The teacher's features are those inside its ViT, before the neck (1280 channels of vit_h); of a teacher
that is none, its embedding of 256 channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from aopsam.sam.encoders.efficient_sam import EfficientSamEncoder
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import EMBED_DIM
from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE
from aopsam.training.student import StudentRecipe, StudentTask, sines
from aopsam.training.views import Views, normalised, shown

PLAIN = (ViTEncoder, EfficientSamEncoder)
"""Encoders with features of their own width, `features`, before a neck."""
HEAD_WIDTH = 32
"""Channels of an attention head of the decoder, as in MAE's (16 heads for 512 channels)."""


@dataclass(frozen=True, kw_only=True)
class SamiRecipe(StudentRecipe):
    """Hyper-parameters of SAMI: the paper's, except those in `PAPER`.

    Attributes:
        masked: share of the patches that are masked.
        decoder_blocks: cross-attention blocks of the decoder.
        decoder_width: channels of a token in the decoder, a multiple of 32.
    """

    masked: float = 0.75
    decoder_blocks: int = 8
    decoder_width: int = 512
    betas: tuple[float, float] = (0.9, 0.95)


PAPER = SamiRecipe(
    steps=125_114,
    batch=32,
    accumulate=128,
    picture_px=224,
    teacher_px=224,
    rate=2.4e-3,
    average=0.0,
    clip=None,
)
"""The paper's hyper-parameters, for a plain ViT: 400 epochs of ImageNet's 1,281,167 photos in batches of 4,096, 40
epochs of warm-up, random resized crops to 224 px; neither averaged weights nor clipped gradients."""
BATCH = PAPER.batch * PAPER.accumulate
"""The paper's pictures in an update."""


class SamiTask(StudentTask):
    """Training of a student's encoder: visible patches in, teacher's features of the whole picture out."""

    recipe: SamiRecipe
    heads: SamiDecoder

    def __init__(
        self,
        recipe: SamiRecipe,
        teacher: Sam,
        student: Sam,
        photos: Sequence[Annotated],
        held_out: Iterable[Annotated] = (),
    ) -> None:
        """Set up as `StudentTask` does, with a decoder of random weights from the recipe's seed."""
        super().__init__(recipe, teacher, student, photos, held_out)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.heads = SamiDecoder(
                recipe.decoder_blocks,
                recipe.decoder_width,
                _width(student, EfficientSamEncoder),
                _width(teacher, PLAIN),
            )

    def teach(self, batch: Views) -> torch.Tensor:
        """Compute the teacher's features of the same views on the student's grid, (B, C, h, w) float32."""
        encoder = self.teacher.image_encoder
        return self.on_students_grid(batch, encoder.features if isinstance(encoder, PLAIN) else encoder)

    def answer(self, model: nn.Module, batch: Views, generator: torch.Generator) -> torch.Tensor:
        """Return the decoder's tokens of the whole picture, (B, C, h, w), from a random share of it."""
        device = batch.student.device
        there = shown(batch.cells, batch.student.shape[-1] // STRIDE)[:, 0]
        visible = draw_visible(there.cpu(), self.recipe.masked, generator).to(device)
        pixels = normalised(self.student, batch.student, batch.cells * STRIDE)
        with self.recipe.mixed(device):
            return self.heads(self.encode(model, pixels, visible), visible, there & ~visible)

    def encode(self, model: nn.Module, pixels: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Compute the student's tokens of visible cells from those cells alone.

        Args:
            model: the student's image encoder.
            pixels: (B, 3, S, S) normalised pictures.
            visible: (B, h, w) bool.

        Returns:
            (B, V, C), row by row; V is the largest number of visible cells, shorter lists end in zeros.
        """
        if isinstance(model, EfficientSamEncoder):
            return model.tokens(pixels, visible)
        embedding = model(pixels * F.interpolate(visible[:, None].float(), scale_factor=float(STRIDE)))
        return pad_sequence([one[:, here].T for one, here in zip(embedding, visible, strict=True)], batch_first=True)


def draw_visible(there: torch.Tensor, masked: float, generator: torch.Generator) -> torch.Tensor:
    """Draw visible cells, (B, h, w) bool: a random share 1 - `masked` of each picture's cells `there`, at least one."""
    order = torch.rand(there.shape, generator=generator).masked_fill(~there, 2.0).flatten(1).argsort(1).argsort(1)
    kept = (there.flatten(1).sum(1, keepdim=True) * (1 - masked)).round().clamp_min(1)
    return (order < kept).view_as(there)


class SamiDecoder(nn.Module):
    """Decoder that predicts the teacher's features from the cells under visible patches.

    Where both are embeddings, the linear maps into and out of the decoder begin as each other's inverse, so that from
    the first step on the student's embedding itself moves towards the teacher's, and the mask decoder can read it
    afterwards.

    Args:
        blocks: cross-attention blocks.
        width: channels of a token in the decoder.
        inputs: channels of the student's tokens.
        outputs: channels of the teacher's features.
    """

    def __init__(self, blocks: int, width: int, inputs: int = EMBED_DIM, outputs: int = EMBED_DIM) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        nn.init.orthogonal_(self.embed.weight)
        if inputs == outputs:
            with torch.no_grad():
                self.head.weight.copy_(self.embed.weight.T)
        nn.init.zeros_(self.embed.bias)
        nn.init.zeros_(self.head.bias)

    def forward(self, seen: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Predict the tokens of all cells; those of padding are zero.

        Args:
            seen: (B, V, inputs) the student's tokens of visible cells, as `SamiTask.encode` gives them.
            visible: (B, h, w) bool.
            masked: (B, h, w) bool.

        Returns:
            (B, outputs, h, w).
        """
        tokens = self.embed(seen)
        places = sines(visible.shape[1], visible.shape[2], tokens.shape[-1]).to(tokens)
        # Pictures differ in how many cells they have: shorter lists are padded, and padded keys are not attended to.
        context = tokens + pad_sequence([places[here] for here in visible], True)
        queries = pad_sequence([self.mask_token.to(tokens) + places[here] for here in masked], True)
        there = torch.cat([_lengths(visible, context), _lengths(masked, queries)], dim=1)
        for block in self.blocks:
            queries = block(queries, context, there)
        queries = self.norm(queries)
        found = tokens.new_zeros((*visible.shape, tokens.shape[-1]))
        found[visible] = tokens[_lengths(visible, tokens)]
        found[masked] = queries[_lengths(masked, queries)].to(found.dtype)
        answer: torch.Tensor = self.head(found) * (visible | masked).unsqueeze(-1)
        return answer.permute(0, 3, 1, 2)


class CrossAttentionBlock(nn.Module):
    """Pre-norm block of MAE's decoder whose queries are only the masked tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_queries, self.norm_context, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: torch.Tensor, context: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return masked tokens (B, M, C) after attention to visible ones (B, V, C) and to themselves.

        Args:
            queries: masked tokens.
            context: visible tokens.
            there: (B, V + M) bool, which of visible and masked tokens are not padding.
        """
        normed = self.norm_queries(queries)
        keys, values = self.key_value(torch.cat([self.norm_context(context), normed], dim=1)).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for x in (self.query(normed), keys, values))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])
        queries = queries + self.out(mixed.transpose(1, 2).flatten(2))
        after: torch.Tensor = queries + self.mlp(self.norm_mlp(queries))
        return after


def _width(sam: Sam, plain: type | tuple[type, ...]) -> int:
    """Return the channels of a plain ViT's tokens, before its neck; of other encoders, those of the embedding."""
    own = isinstance(sam.image_encoder, plain)
    return int(sam.image_encoder.neck[0].in_channels) if own else EMBED_DIM


def _lengths(chosen: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
    """Return (B, L) bool: the places of a padded list (B, L, C) that hold one of the (B, h, w) chosen cells."""
    return torch.arange(padded.shape[1], device=chosen.device) < chosen.flatten(1).sum(1, keepdim=True)
