"""HQ-SAM's mask decoder (Ke et al. 2023) as `transformers` has it, for many prompts of one photo.

SAM's decoder with one more token, whose mask is read from features that know the encoder's early layers; it is added to
each of SAM's masks. Three masks of a prompt come in the order of their predicted IoU.

The decoder follows the paper. `transformers` 5.24 does not: it drops the image's side of the two-way transformer and
reads masks from the transposed embedding of the image, where versions before it read what the transformer wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from aopsam.sam.decoders.shared import SharedMaskDecoder
from aopsam.sam.fast_decoder import Content, Made, PromptedDecoder, passing
from aopsam.sam.shared_cells import Cells


class HqMaskDecoder(SharedMaskDecoder):
    """HQ-SAM's mask decoder of `transformers`: the same layers under segment-anything's names, and its further ones."""

    def __init__(self, theirs: Any) -> None:
        super().__init__(theirs)
        self.hq_token, self.hq_mask_mlp, self.activation = theirs.hq_token, theirs.hq_mask_mlp, theirs.activation
        self.compress_vit_conv1, self.compress_vit_norm = theirs.compress_vit_conv1, theirs.compress_vit_norm
        self.compress_vit_conv2 = theirs.compress_vit_conv2
        self.encoder_conv1, self.encoder_norm = theirs.encoder_conv1, theirs.encoder_norm
        self.encoder_conv2 = theirs.encoder_conv2
        self.mask_conv1, self.mask_norm, self.mask_conv2 = theirs.mask_conv1, theirs.mask_norm, theirs.mask_conv2

    def of_photo(self, embedding: Tensor, early: Tensor) -> Tensor:
        """Compute a photo's features of high quality from its embedding (B, C, h, w) and the output of the encoder's
        first global block (B, C', h, w): (B, C / 8, 4h, 4w)."""
        late = self.encoder_conv2(self.activation(self.encoder_norm(self.encoder_conv1(embedding))))
        fine: Tensor = self.compress_vit_conv2(self.activation(self.compress_vit_norm(self.compress_vit_conv1(early))))
        return late + fine

    def of_prompts(self, upscaled: Tensor) -> Tensor:
        """Compute what prompts add to those features from their upscaled ones, (B, C / 8, 4h, 4w) as they are."""
        kind = self.mask_conv1.weight.dtype
        made: Tensor = self.mask_conv2(self.activation(self.mask_norm(self.mask_conv1(upscaled.to(kind)))))
        return made.float()


@dataclass(frozen=True)
class _HqContent(Content):
    """A photo whose masks are made over all cells, as convolutions reach beyond the content, and then cut.

    Attributes:
        decoder: HQ-SAM's.
        fine: the photo's features of high quality, (1, C / 8, 4h, 4w).
        shown: rows and columns of cells to keep.
    """

    decoder: HqMaskDecoder
    fine: Tensor
    shown: tuple[int, int]

    def masks(self, cells: Cells, hyper: Tensor, prompts: Tensor) -> Tensor:
        """Make masks as `Content.masks` does; the last weights in hyper are those of the token of high quality."""
        hyper, grid = hyper[prompts], self.grid
        features = self.upscale.features(cells.of(prompts, self.cut))
        masks = self.upscale.in_order(hyper[:, :-1] @ features.mT, grid)
        finest = self.decoder.of_prompts(self.upscale.in_order(features.mT, grid)) + self.fine
        masks = masks + torch.einsum("bc,bchw->bhw", hyper[:, -1], finest)[:, None]
        return masks[..., : 4 * self.shown[0], : 4 * self.shown[1]]

    def none(self, like: Tensor) -> Tensor:
        """Return the logits of no mask, (0, 4 rows, 4 columns)."""
        return like.new_zeros(0, 4 * self.shown[0], 4 * self.shown[1])


class PromptedHqDecoder(PromptedDecoder):
    """HQ-SAM's mask decoder for one photo, called like `PromptedDecoder`."""

    def __init__(
        self,
        decoder: HqMaskDecoder,
        image: Tensor,
        image_pe: Tensor,
        content: tuple[int, int],
        finer: tuple[Tensor, ...],
    ) -> None:
        """Compute what depends on the photo alone; `finer` is (features,), those of `HqMaskDecoder.of_photo`."""
        grid = (image.shape[-2], image.shape[-1])
        super().__init__(decoder, image, image_pe, grid)
        (whole,) = self._photos
        (fine,) = finer
        self._photos = [_HqContent(whole.upscale, grid, grid, decoder, fine.float(), content)]

    def __call__(
        self, sparse: Tensor, counts: Sequence[int], *, multimask: bool, min_iou: Sequence[float]
    ) -> list[Made]:
        """Decode B prompts as `PromptedDecoder` does."""
        decoder = self._decoder
        assert isinstance(decoder, HqMaskDecoder)
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, decoder.hq_token.weight])
        tokens = torch.cat([output_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, cells = self._two_way(tokens, counts)
        heads, count = slice(1, None) if multimask else slice(0, 1), decoder.num_mask_tokens
        predicted_iou = decoder.iou_prediction_head(tokens[:, 0])[:, heads]
        predicted_iou, order = torch.sort(predicted_iou, dim=1, descending=True)
        hyper = self._hyper(tokens[:, 1 : 1 + count], heads)
        hyper = hyper.gather(1, order[..., None].expand_as(hyper))
        hyper = torch.cat([hyper, decoder.hq_mask_mlp(tokens[:, 1 + count])[:, None].float()], dim=1)
        ends = list(accumulate(counts))
        return [
            passing(photo, cells.of_photo(start, end), hyper[start:end], predicted_iou[start:end], least)
            for photo, start, end, least in zip(self._photos, [0, *ends], ends, min_iou, strict=False)
        ]
