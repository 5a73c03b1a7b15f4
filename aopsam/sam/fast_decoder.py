"""segment-anything's mask decoder with the same weights and the same result, for a fraction of the arithmetic.

The decoder spends nearly all its time on the image's side: thousands of cells times 256 channels, for every prompt.
Here no prompt gets cells of its own: `shared_cells.py` explains and computes this form; this file runs the layers in
order.

EfficientSAM's and SAM 2's decoders run here too: the first normalises the upscaled features over the whole photo, the
second adds a photo's finer features to them and may take one of three masks for the single one.

Prompts of several photos run together (`PromptedDecoder.joined`), meant for photos that have few each: on a GPU,
launching the kernels of so small a run may take longer than computing it.

Exact up to rounding. Masks are made only where the predicted IoU passes, and only over the photo: masks over the
padding are cut off later anyway. `MaskDecoder.forward` is the slow reference that tests compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor

from aopsam.sam.decoders.sam2 import Sam2MaskDecoder
from aopsam.sam.shared_cells import Cells, CellsAsKeys, CellsAsQueries, Map, Upscale

_UPSCALED_AT_ONCE = 2
"""Prompts whose mask features (2 MiB each on 32 × 32 cells) are made at once. Measured, see benchmarks/LOG.md."""

Made = tuple[Tensor, Tensor, Tensor]
"""Result of a photo's B prompts: predicted IoU (B, M); logits of the masks that pass (K, 4 · content rows, 4 · content
columns) float32; and the prompt and mask number of each, (K, 2)."""


@dataclass(frozen=True)
class Content:
    """The part of a photo's cells over which its masks are made.

    Attributes:
        upscale: from those cells to masks.
        grid: rows and columns of all cells.
        rows_columns: of the content, the upper left ones.
    """

    upscale: Upscale
    grid: tuple[int, int]
    rows_columns: tuple[int, int]

    def cut(self, per_cell: Tensor) -> Tensor:
        """Select the content cells: (..., N) → (..., rows, columns)."""
        return _cut(per_cell, self.grid, self.rows_columns)

    def masks(self, cells: Cells, hyper: Tensor, prompts: Tensor) -> Tensor:
        """Make the masks (B, M, 4 rows, 4 columns) of some of the photo's prompts, given by their indices (B,)."""
        return self.upscale(cells.of(prompts, self.cut), hyper[prompts], self.rows_columns)

    def none(self, like: Tensor) -> Tensor:
        """Return the logits of no mask, (0, 4 rows, 4 columns)."""
        rows, columns = self.rows_columns
        return like.new_zeros(0, 4 * rows, 4 * columns)


class PromptedDecoder:
    """The mask decoder for one photo: what depends on the photo alone is computed once, at the start."""

    def __init__(
        self,
        decoder: MaskDecoder,
        image: Tensor,
        image_pe: Tensor,
        content: tuple[int, int],
        finer: tuple[Tensor, ...] = (),
    ) -> None:
        """Compute what depends on the photo alone.

        Args:
            decoder: segment-anything's, or one derived from it.
            image: (1, C, h, w) embedding plus the prompts' dense embedding, the same for all.
            image_pe: (1, C, h, w) positional encoding of the cells.
            content: rows and columns of cells over which masks are made.
            finer: SAM 2's features at twice and at four times the cells, (1, C / 4, 2h, 2w) and (1, C / 8, 4h, 4w).
        """
        self._decoder = decoder
        grid = (image.shape[-2], image.shape[-1])
        base, place = image[0].flatten(1).T.float(), image_pe[0].flatten(1).T.float()
        constant, maps = base.new_zeros(base.shape[1]), list[Map]()
        self._reads: list[CellsAsKeys] = []
        self._writes: list[CellsAsQueries] = []
        transformer = decoder.transformer
        for layer in transformer.layers:
            self._reads.append(CellsAsKeys(layer.cross_attn_token_to_image, base, constant, place, maps))
            write = CellsAsQueries(layer.cross_attn_image_to_token, layer.norm4, base, constant, place, maps)
            self._writes.append(write)
            base, constant, maps = write.base, write.constant, write.maps
        self._reads.append(CellsAsKeys(transformer.final_attn_token_to_image, base, constant, place, maps))
        first, norm, _, second, _ = decoder.output_upscaling
        shown = _cut(base.T, grid, content).flatten(1).T
        upscale = Upscale(first, norm, second, shown, constant, maps, finer)
        self._photos = [Content(upscale, grid, content)]

    @classmethod
    def joined(cls, photos: Sequence[PromptedDecoder]) -> PromptedDecoder:
        """Return the decoder for prompts of several photos of one model; what was computed of each is not copied."""
        if len(photos) == 1:
            return photos[0]
        both = copy(photos[0])
        both._reads = [CellsAsKeys.joined(reads) for reads in zip(*(photo._reads for photo in photos), strict=True)]
        both._writes = [CellsAsQueries.joined(each) for each in zip(*(photo._writes for photo in photos), strict=True)]
        both._photos = [content for photo in photos for content in photo._photos]
        return both

    def __call__(
        self, sparse: Tensor, counts: Sequence[int], *, multimask: bool, min_iou: Sequence[float]
    ) -> list[Made]:
        """Decode B prompts.

        Args:
            sparse: (B, n, C) prompt tokens, those of the first photo first.
            counts: prompts of each photo.
            multimask: three masks a prompt, or one.
            min_iou: of each photo; masks whose predicted IoU is not above it are not made.

        Returns:
            What was made of each photo's prompts.
        """
        decoder = self._decoder
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        if isinstance(decoder, Sam2MaskDecoder):  # first in the reference; the order of tokens does not matter
            output_tokens = torch.cat([output_tokens, decoder.obj_score_token.weight])
        tokens = torch.cat([output_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, cells = self._two_way(tokens, counts)
        predicted_iou = decoder.iou_prediction_head(tokens[:, 0])
        of_sam2 = isinstance(decoder, Sam2MaskDecoder) and not multimask
        heads = slice(None) if of_sam2 else slice(1, None) if multimask else slice(0, 1)
        hyper = self._hyper(tokens[:, 1 : 1 + decoder.num_mask_tokens], heads)
        make = self._steadiest if of_sam2 else passing
        ends = list(accumulate(counts))
        return [
            make(photo, cells.of_photo(start, end), hyper[start:end], predicted_iou[start:end, heads], least)
            for photo, start, end, least in zip(self._photos, [0, *ends], ends, min_iou, strict=False)
        ]

    def _steadiest(self, photo: Content, cells: Cells, hyper: Tensor, predicted_iou: Tensor, min_iou: float) -> Made:
        """Make one mask a prompt as SAM 2 does: the single one if stable, else that of three with the highest IoU."""
        surest = predicted_iou[:, 1:].argmax(dim=1) + 1
        pair = torch.stack([torch.zeros_like(surest), surest], dim=1)
        hyper = hyper.gather(1, pair[..., None].expand(-1, -1, hyper.shape[2]))
        predicted_iou = predicted_iou.gather(1, pair)
        single_iou = predicted_iou[:, :1].clone()
        logits = [photo.none(hyper)]
        for some in _portions((predicted_iou > min_iou).any(dim=1).nonzero()[:, 0]):
            made = photo.masks(cells, hyper, some)
            which = (~self._decoder.is_stable(made[:, 0])).long()
            single_iou[some, 0] = predicted_iou[some, which]
            passing = single_iou[some, 0] > min_iou
            logits.append(made[passing.nonzero()[:, 0], which[passing]])
        return single_iou, torch.cat(logits), (single_iou > min_iou).nonzero()

    def _hyper(self, mask_tokens: Tensor, heads: slice) -> Tensor:
        """Turn (B, masks, C) mask tokens into (B, M, C / 8) weights of the upscaled features, for M heads."""
        networks = self._decoder.output_hypernetworks_mlps[heads]
        tokens = mask_tokens[:, heads]
        return torch.stack([network(tokens[:, i]) for i, network in enumerate(networks)], dim=1).float()

    def _two_way(self, tokens: Tensor, counts: Sequence[int]) -> tuple[Tensor, Cells]:
        """Run `TwoWayTransformer.forward` on tokens (B, T, C); return the tokens and the cells."""
        transformer = self._decoder.transformer
        cells: Cells | None = None
        queries = tokens
        for layer, read, write in zip(transformer.layers, self._reads, self._writes, strict=False):
            if layer.skip_first_layer_pe:
                queries = layer.self_attn(q=queries, k=queries, v=queries)
            else:
                q = queries + tokens
                queries = queries + layer.self_attn(q=q, k=q, v=queries)
            queries = layer.norm1(queries)
            queries = layer.norm2(queries + read(queries + tokens, cells, counts))
            queries = layer.norm3(queries + layer.mlp(queries))
            cells = write(queries + tokens, queries, cells, counts)
        queries = queries + self._reads[-1](queries + tokens, cells, counts)
        assert cells is not None
        return transformer.norm_final_attn(queries), cells


def passing(photo: Content, cells: Cells, hyper: Tensor, predicted_iou: Tensor, min_iou: float) -> Made:
    """Make the masks whose predicted IoU passes."""
    chosen = (predicted_iou > min_iou).nonzero()
    logits = [photo.none(hyper)]
    for some in _portions(chosen[:, 0].unique()):
        made = photo.masks(cells, hyper, some)
        inside = torch.isin(chosen[:, 0], some)
        row = torch.searchsorted(some, chosen[inside, 0])
        logits.append(made[row, chosen[inside, 1]])
    return predicted_iou, torch.cat(logits), chosen


def _portions(prompts: Tensor) -> Sequence[Tensor]:
    """Split indices of prompts into portions whose masks are made at once."""
    step = _UPSCALED_AT_ONCE if prompts.device.type == "cpu" else len(prompts)
    return prompts.split(max(step, 1)) if len(prompts) else ()


def _cut(per_cell: Tensor, grid: tuple[int, int], content: tuple[int, int]) -> Tensor:
    """Select the content cells, rows and columns of a grid, without a copy: (..., N) → (..., rows, columns)."""
    return per_cell.unflatten(-1, grid)[..., : content[0], : content[1]]
