"""From prompts to mask logits."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


@torch.inference_mode()
def decode_prompts(
    photo: EncodedPhoto, prompts: Prompts, *, points_per_batch: int = 64, multimask: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run SAM's prompt encoder and mask decoder on N prompts of one photo.

    Args:
        photo: the encoded photo.
        prompts: N points or N boxes, original pixels.
        points_per_batch: prompts decoded at once; bounds memory.
        multimask: three masks a prompt or one; by default three for points and one for boxes (Kirillov et al. 2023).

    Returns:
        Low-resolution logits (N, M, 4h, 4w) float32 over the model's padded square, and the model's own estimate of
        each mask's IoU (N, M) float32.
    """
    model = photo.model
    several = not prompts.are_boxes if multimask is None else multimask
    height, width = photo.hw
    scale = torch.tensor([photo.input_hw[1] / width, photo.input_hw[0] / height])
    image_pe = model.prompt_encoder.get_dense_pe()
    logits, scores = [], []
    for start in range(0, len(prompts), points_per_batch):
        batch = prompts[start : start + points_per_batch]
        coords = (torch.from_numpy(batch.coords_px) * scale).to(model.device)
        if prompts.are_boxes:
            sparse, dense = model.prompt_encoder(points=None, boxes=coords.reshape(-1, 4), masks=None)
        else:  # the padding slot is segment-anything's own: it appends it where no box is given
            labels = torch.from_numpy(batch.labels[:, :1]).to(model.device)
            sparse, dense = model.prompt_encoder(points=(coords[:, :1], labels), boxes=None, masks=None)
        masks, iou = model.mask_decoder(
            image_embeddings=photo.embedding,
            image_pe=image_pe,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        logits.append(masks.float())
        scores.append(iou.float())
    if not logits:
        rows, columns = photo.embedding.shape[-2:]
        count = 3 if several else 1
        return torch.zeros(0, count, 4 * rows, 4 * columns), torch.zeros(0, count)
    return torch.cat(logits), torch.cat(scores)


def upscale(photo: EncodedPhoto, low_res_logits: torch.Tensor) -> torch.Tensor:
    """Bring K low-resolution logits (K, 4h, 4w) to original pixels (K, H, W), as `Sam.postprocess_masks` does."""
    size = photo.model.image_encoder.img_size
    logits = functional.interpolate(low_res_logits[:, None], (size, size), mode="bilinear", align_corners=False)
    logits = logits[..., : photo.input_hw[0], : photo.input_hw[1]]
    return functional.interpolate(logits, photo.hw, mode="bilinear", align_corners=False)[:, 0]


def masks_on_cells(photo: EncodedPhoto, low_res_logits: torch.Tensor) -> torch.Tensor:
    """Share of each embedding cell that a mask covers.

    Shrinks by area, so that a mask smaller than a cell still has weight; cells of the padding count nothing.

    Args:
        photo: the encoded photo.
        low_res_logits: (K, 4h, 4w).

    Returns:
        (K, rows, columns) float32 in [0, 1] over `photo.content_cells`.
    """
    rows, columns = photo.content_cells
    stride = low_res_logits.shape[-1] // photo.embedding.shape[-1]
    covered = (low_res_logits > photo.model.mask_threshold).float()
    size = photo.model.image_encoder.img_size
    content = [int(np.ceil(side * low_res_logits.shape[-1] / size)) for side in photo.input_hw]
    covered[:, content[0] :] = 0
    covered[:, :, content[1] :] = 0
    return functional.avg_pool2d(covered, stride)[:, :rows, :columns]
