"""segment-anything's mask decoder with the same weights and the same result, for a fraction of the arithmetic.

The decoder spends nearly all its time on the image's side: thousands of cells times 256 channels, for every prompt.
Three rearrangements, exact up to rounding, leave less of it:

- A prompt has a handful of tokens, so projections of the image cells are moved over to the tokens:
  (W_q t)·(W_k x) = (W_kᵀ W_q t)·x, and likewise for values and outputs. What is left on the image's side are products
  of the cells with (tokens × heads) vectors.
- Before the first layer changes the cells they are the same for every prompt: those products run once for all.
- The predicted IoU is read off the tokens alone: mask features are brought to stride 4 only for prompts with a mask
  that passes, and masks are made only where they pass.

`MaskDecoder.forward` is the slow reference; tests hold the two together.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import Attention
from torch import Tensor


def predict_passing(
    decoder: MaskDecoder, image: Tensor, image_pe: Tensor, sparse: Tensor, *, multimask: bool, min_iou: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode B prompts on one image.

    Args:
        decoder: segment-anything's.
        image: (1, C, h, w) embedding plus the prompts' dense embedding, the same for all.
        image_pe: (1, C, h, w) positional encoding of the cells.
        sparse: (B, n, C) prompt tokens.
        multimask: three masks a prompt, or one.
        min_iou: masks whose predicted IoU is not above it are not made.

    Returns:
        Predicted IoU (B, M); logits of the masks that pass (K, 4h, 4w); and which those are, (K, 2) prompt and mask.
    """
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
    tokens, cells = _two_way(decoder, tokens, image.flatten(2).mT, image_pe.flatten(2).mT)
    heads = slice(1, None) if multimask else slice(0, 1)
    predicted_iou = decoder.iou_prediction_head(tokens[:, 0])[:, heads]
    chosen = (predicted_iou > min_iou).nonzero()
    which, row = chosen[:, 0].unique(return_inverse=True)
    height, width = image.shape[-2:]
    features = decoder.output_upscaling(cells[which].mT.unflatten(2, (height, width)))
    mask_tokens = tokens[which, 1 : 1 + decoder.num_mask_tokens][:, heads]
    networks = decoder.output_hypernetworks_mlps[heads]
    hyper = torch.stack([network(mask_tokens[:, i]) for i, network in enumerate(networks)], dim=1)
    logits = torch.einsum("kc,kchw->khw", hyper[row, chosen[:, 1]], features[row])
    return predicted_iou, logits, chosen


def _two_way(decoder: MaskDecoder, tokens: Tensor, cells: Tensor, cells_pe: Tensor) -> tuple[Tensor, Tensor]:
    """`TwoWayTransformer.forward` on tokens (B, T, C) and the cells (1, N, C) of one image."""
    transformer = decoder.transformer
    queries = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            q = queries + tokens
            queries = queries + layer.self_attn(q=q, k=q, v=queries)
        queries = layer.norm1(queries)
        placed = cells + cells_pe
        queries = queries + _read_cells(layer.cross_attn_token_to_image, queries + tokens, placed, cells)
        queries = layer.norm2(queries)
        queries = layer.norm3(queries + layer.mlp(queries))
        cells = layer.norm4(_write_cells(layer.cross_attn_image_to_token, queries + tokens, queries, placed, cells))
    queries = queries + _read_cells(transformer.final_attn_token_to_image, queries + tokens, cells + cells_pe, cells)
    return transformer.norm_final_attn(queries), cells


def _read_cells(attention: Attention, queries: Tensor, placed: Tensor, cells: Tensor) -> Tensor:
    """Tokens attend to cells: queries (B, T, C), keys `placed` and values `cells` (B or 1, N, C) → (B, T, C).

    The key's bias adds the same to all scores of a query and vanishes in the softmax; the value's bias passes through,
    since attention sums to 1.
    """
    absorbed = _over_heads(attention, attention.q_proj(queries), attention.k_proj.weight)
    weights = torch.softmax(_times_cells(absorbed, placed.mT), dim=-1)
    read = _times_cells(weights, cells).unflatten(1, (attention.num_heads, -1))
    value = _by_head(attention, attention.v_proj.weight)
    out = torch.einsum("bhtc,hdc->bthd", read, value).flatten(2) + attention.v_proj.bias
    return attention.out_proj(out)


def _write_cells(attention: Attention, keys: Tensor, values: Tensor, placed: Tensor, cells: Tensor) -> Tensor:
    """Cells attend to tokens and take in what they read: (B or 1, N, C) → (B, N, C)."""
    heads, tokens = attention.num_heads, keys.shape[1]
    keys = attention.k_proj(keys)
    absorbed = _over_heads(attention, keys, attention.q_proj.weight)
    scale = (attention.internal_dim // heads) ** -0.5
    bias = (keys * attention.q_proj.bias).unflatten(2, (heads, -1)).sum(-1).mT.flatten(1) * scale
    scores = _times_cells(absorbed, placed.mT) + bias[..., None]
    weights = torch.softmax(scores.unflatten(1, (heads, tokens)), dim=2).flatten(1, 2)
    per_head = attention.v_proj(values).unflatten(2, (heads, -1))
    output = attention.out_proj.weight.unflatten(1, (heads, -1))
    written = torch.einsum("bthd,chd->bhtc", per_head, output).flatten(1, 2)
    return torch.baddbmm(cells + attention.out_proj.bias, weights.mT, written)


def _over_heads(attention: Attention, projected: Tensor, weight: Tensor) -> Tensor:
    """Move a projection of the cells to the tokens: (B, T, internal) → (B, heads · T, C), scaled for the softmax."""
    per_head = projected.unflatten(2, (attention.num_heads, -1))
    absorbed = torch.einsum("bthd,hdc->bhtc", per_head, _by_head(attention, weight))
    return absorbed.flatten(1, 2) * per_head.shape[-1] ** -0.5


def _by_head(attention: Attention, weight: Tensor) -> Tensor:
    return weight.unflatten(0, (attention.num_heads, -1))


def _times_cells(left: Tensor, cells: Tensor) -> Tensor:
    """(B, R, K) @ (B or 1, K, N); where the cells are the same for all prompts it is one product."""
    if cells.shape[0] == 1:
        return (left.flatten(0, 1) @ cells[0]).unflatten(0, left.shape[:2])
    return left @ cells
