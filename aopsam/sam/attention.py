"""Attention of a photo's cells to each other: one head of a global block, kept from the encoder's own forward pass.

An encoder's fused attention never stores its matrix, and neither does this file: a hook copies the queries and keys of
one head, 2 * N * c numbers, and only the rows that are needed are computed from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from segment_anything.modeling.image_encoder import get_rel_pos
from torch import nn


class Head(NamedTuple):
    """A head of a global attention block, both counted from 0."""

    block: int
    head: int


def global_attention(encoder: nn.Module) -> dict[int, nn.Module]:
    """Return the attention of each of an encoder's blocks that attends to the whole photo, by the block's number.

    These are blocks of `encoder.blocks`, or of its trunk's, without a window, whose queries, keys and values come out
    of one `qkv`: those of `tiny`, segment-anything's ViT, EfficientSAM's and SAM 2's Hiera. Empty where there are none.
    """
    found = {}
    holder = encoder if hasattr(encoder, "blocks") else getattr(encoder, "trunk", None)
    for number, block in enumerate(getattr(holder, "blocks", ())):
        attention = getattr(block, "attn", block)
        if getattr(block, "window_size", 0) == 0 and isinstance(getattr(attention, "qkv", None), nn.Linear):
            found[number] = attention
    return found


def head_count(attention: nn.Module) -> int:
    """Return the number of heads of a block of `global_attention`."""
    count = getattr(attention, "num_heads", None) or attention.heads
    assert isinstance(count, int)
    return count


@contextmanager
def keeping_queries_and_keys(encoder: nn.Module, heads: frozenset[Head]) -> Iterator[dict[Head, torch.Tensor]]:
    """Keep the (2, N, c) queries and keys of heads while photos are encoded, in the dict that it yields; N counts the
    cells of all of them, photo by photo."""
    kept: dict[Head, torch.Tensor] = {}

    def keep(attention: nn.Module, wanted: Head, module: nn.Module, inputs: object, qkv: torch.Tensor) -> None:
        split = qkv.flatten(0, -2).unflatten(-1, (3, head_count(attention), -1))
        kept[wanted] = split[:, :2, wanted.head].transpose(0, 1).clone()

    blocks = global_attention(encoder) if heads else {}
    hooks = []
    for wanted in heads:
        attention = blocks[wanted.block]
        projection = attention.qkv
        assert isinstance(projection, nn.Linear)
        hooks.append(projection.register_forward_hook(partial(keep, attention, wanted)))
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def attention_rows(
    attention: nn.Module, queries_keys: torch.Tensor, cells_hw: tuple[int, int], content_hw: tuple[int, int]
) -> torch.Tensor:
    """Compute the rows of one head's attention matrix for the cells that show the photo.

    Args:
        attention: attention of the block, from `global_attention`; its relative positions, where it has some, count.
        queries_keys: (2, N, c) of one head, N = h * w cells row by row.
        cells_hw: h and w of all cells.
        content_hw: rows and columns of the cells that show the photo, the upper left ones.

    Returns:
        (rows * columns, N) float32; each row sums to 1.
    """
    queries, keys = queries_keys.float().unflatten(1, cells_hw)
    queries = queries[: content_hw[0], : content_hw[1]]
    scores = torch.einsum("yxc,hwc->yxhw", queries * queries.shape[-1] ** -0.5, keys)
    if getattr(attention, "use_rel_pos", False):
        height, width = cells_hw
        down = get_rel_pos(height, height, attention.rel_pos_h)[: content_hw[0]].float()
        across = get_rel_pos(width, width, attention.rel_pos_w)[: content_hw[1]].float()
        scores += torch.einsum("yxc,yhc->yxh", queries, down)[..., None]
        scores += torch.einsum("yxc,xwc->yxw", queries, across)[:, :, None]
    return scores.flatten(2).flatten(0, 1).softmax(dim=1)


@torch.inference_mode()
def similarity_rows(embedding: torch.Tensor, content_hw: tuple[int, int]) -> torch.Tensor:
    """Compute cosine similarities of the embedding's cells, in place of attention where an encoder has no global block.

    Args:
        embedding: (1, C, h, w).
        content_hw: rows and columns that show the photo.

    Returns:
        (rows * columns, rows * columns) float32 cosines of the cells less the mean of all; with that mean in them all
        cells are similar.
    """
    cells = embedding[0, :, : content_hw[0], : content_hw[1]].float().flatten(1)
    cells = torch.nn.functional.normalize(cells - cells.mean(dim=1, keepdim=True), dim=0)
    return cells.T @ cells
