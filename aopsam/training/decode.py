"""Run prompt encoder and mask decoder over prompts of many windows at once.

A *window* is a rectangle of the model's padded square (the *frame*), aligned with the cells of the embedding. Its
prompts are in frame pixels and its positional encoding is cut out of the frame's, so that a window of 256 pixels trains
the same localisation as a whole frame of 512, for a quarter of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import nn
from torch.nn import functional as F

from aopsam.sam.decoders.efficient_sam import EfficientSam
from aopsam.sam.model import StretchedSam

STRIDE = 16
"""Pixels of the frame per cell of the embedding."""

POINT, NEGATIVE, PAD, CORNER_A, CORNER_B = 1, 0, -1, 2, 3
"""Point labels of segment-anything: foreground, background, padding, and the two corners of a box."""


@dataclass(frozen=True)
class Prompts:
    """P prompts over the W windows of a batch.

    Attributes:
        window: (P,) int64, which window each prompt belongs to.
        points_px: (P, N, 2) float32, x and y in frame pixels.
        labels: (P, N) int64: `POINT`, `NEGATIVE`, `PAD`, `CORNER_A` or `CORNER_B`.
    """

    window: torch.Tensor
    points_px: torch.Tensor
    labels: torch.Tensor


def prompt_tokens(sam: Sam, prompts: Prompts) -> torch.Tensor:
    """Return the (P, N, 256) sparse tokens of prompts, equal to those of `PromptEncoder.forward`.

    segment-anything pads points with a "not a point" token and does not pad boxes; here points have the label `PAD`.
    EfficientSAM's own prompt encoder fills its six slots: (P, 6, 256).
    """
    encoder = sam.prompt_encoder
    if isinstance(sam, EfficientSam):
        points_px = prompts.points_px.masked_fill((prompts.labels == PAD).unsqueeze(-1), -1.0)
        with torch.autocast(points_px.device.type, enabled=False):
            slots: torch.Tensor = encoder((points_px, prompts.labels), None, None)[0]
        return slots
    table = torch.cat([encoder.not_a_point_embed.weight] + [e.weight for e in encoder.point_embeddings])
    with torch.autocast(prompts.points_px.device.type, enabled=False):
        place = encoder.pe_layer.forward_with_coords(prompts.points_px + 0.5, encoder.input_image_size)
    tokens: torch.Tensor = place * (prompts.labels != PAD).unsqueeze(-1).to(place.dtype) + table[prompts.labels + 1]
    return tokens


def window_pe(sam: Sam, cells: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return (W, 256, height, width) dense positions of windows whose top left cells are `cells` (W, 2) as (x, y).

    A `StretchedSam` has no windows: the cells are those of the whole square, at whatever size it is drawn.
    """
    if isinstance(sam, StretchedSam):
        square: torch.Tensor = sam.prompt_encoder.pe_layer((height, width))
        return square.expand(len(cells), -1, -1, -1)
    whole = sam.prompt_encoder.get_dense_pe()[0]
    return torch.stack([whole[:, y : y + height, x : x + width] for x, y in cells.tolist()])


def decode(
    sam: Sam,
    embeddings: torch.Tensor,
    pe: torch.Tensor,
    prompts: Prompts,
    mask_input: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode all four masks of every prompt; equal to `MaskDecoder.predict_masks` prompt by prompt.

    The first block's projections of the image are computed once per window, not once per prompt.

    Args:
        sam: the model; its image encoder is not used.
        embeddings: (W, 256, h, w).
        pe: (W, 256, h, w), from `window_pe`.
        prompts: P prompts over the W windows.
        mask_input: (P, 1, 4h, 4w) logits of an earlier round, or None.

    Returns:
        Low-resolution logits (P, 4, 4h, 4w), mask 0 being the single one, and IoU estimates (P, 4).
    """
    decoder, count = sam.mask_decoder, len(prompts.window)
    height, width = embeddings.shape[-2:]
    outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([outputs.expand(count, -1, -1), prompt_tokens(sam, prompts)], dim=1)
    if isinstance(sam, EfficientSam):
        if mask_input is not None:
            raise ValueError("EfficientSAM takes points and boxes, no mask as a prompt")
        source, which = embeddings, prompts.window
    elif mask_input is None:
        dense = sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        source, which = embeddings + dense, prompts.window
    else:
        dense = sam.prompt_encoder._embed_masks(mask_input)
        source, which = embeddings[prompts.window] + dense, torch.arange(count, device=embeddings.device)
        pe = pe[prompts.window]
    if torch.is_autocast_enabled(embeddings.device.type):
        # Sums of a float32 and a bfloat16 tensor would be computed and stored in float32.
        source, pe, tokens = source.bfloat16(), pe.bfloat16(), tokens.bfloat16()
    keys, key_pe = source.flatten(2).transpose(1, 2), pe.flatten(2).transpose(1, 2)
    hs, keys = _two_way(sam, keys, key_pe, tokens, which)
    filters = torch.stack([mlp(hs[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)
    masks = _draw(decoder.output_upscaling, keys, filters, height, width)
    return masks.float(), decoder.iou_prediction_head(hs[:, 0]).float()


def _draw(upscaling: Any, keys: torch.Tensor, filters: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Compute logits (P, 4, 4 height, 4 width): `output_upscaling` of keys (P, cells, 256) times filters (P, 4, 32).

    Both transposed convolutions have kernel = stride = 2, so each is a matrix product; channels stay last and only
    the four finished masks are laid out as pictures.
    """
    first, norm, second = upscaling[0], upscaling[1], upscaling[3]
    x = F.linear(keys, first.weight.permute(2, 3, 1, 0).flatten(0, 2))
    x = x.unflatten(-1, (4, -1)) + first.bias
    if isinstance(norm, nn.GroupNorm):  # EfficientSAM's, of one group: over all channels and positions
        x = F.group_norm(x.flatten(1, 2).transpose(1, 2), 1, norm.weight, norm.bias, norm.eps)
        x = x.transpose(1, 2).unflatten(1, (-1, 4))
    else:
        x = F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
    x = F.gelu(x)
    x = F.linear(x, second.weight.permute(2, 3, 1, 0).flatten(0, 2), second.bias.repeat(4))
    x = F.gelu(x).reshape(len(keys), -1, filters.shape[-1])
    logits = (x @ filters.transpose(1, 2)).view(len(keys), height, width, 2, 2, 2, 2, -1)
    return logits.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(len(keys), -1, 4 * height, 4 * width)


def _two_way(
    sam: Sam, keys: torch.Tensor, key_pe: torch.Tensor, tokens: torch.Tensor, which: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run `TwoWayTransformer.forward` with images (W, cells, 256) shared by prompts; `which` (P,) is their image."""
    transformer, queries = sam.mask_decoder.transformer, tokens
    shared: torch.Tensor | None = which
    for block in transformer.layers:
        queries, keys, key_pe = _block(block, queries, keys, tokens, key_pe, shared)
        shared = None
    final = transformer.final_attn_token_to_image
    attended = _attend(final, final.q_proj(queries + tokens), final.k_proj(keys + key_pe), final.v_proj(keys))
    return transformer.norm_final_attn(queries + attended), keys


def _block(
    block: TwoWayAttentionBlock,
    queries: torch.Tensor,
    keys: torch.Tensor,
    query_pe: torch.Tensor,
    key_pe: torch.Tensor,
    shared: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run one two-way block; with `shared` (P,), keys are one per window before it and one per prompt after it."""
    if block.skip_first_layer_pe:
        queries = block.norm1(block.self_attn(q=queries, k=queries, v=queries))
    else:
        q = queries + query_pe
        queries = block.norm1(queries + block.self_attn(q=q, k=q, v=queries))
    look, tell = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    placed = keys + key_pe
    k, v, back = look.k_proj(placed), look.v_proj(keys), tell.q_proj(placed)
    if shared is not None:
        k, v, back, keys, key_pe = k[shared], v[shared], back[shared], keys[shared], key_pe[shared]
    queries = block.norm2(queries + _attend(look, look.q_proj(queries + query_pe), k, v))
    queries = block.norm3(queries + block.mlp(queries))
    told = _attend(tell, back, tell.k_proj(queries + query_pe), tell.v_proj(queries))
    return queries, block.norm4(keys + told), key_pe


def _attend(layer: Attention, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Compute multi-head attention of projected q (P, M, C), k and v (P, N, C), with the output projection."""
    heads = layer.num_heads
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5)
    mixed = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2)
    out: torch.Tensor = layer.out_proj(mixed)
    return out
