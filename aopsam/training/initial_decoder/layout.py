"""Channel numbers of tokens and image cells in the initial weights of the mask decoder.

A name that ends in _CHANNEL is a channel, in _CHANNELS several; point labels are in `aopsam.training.decode`.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.transformer import Attention
from torch import nn

HEADS, HEAD_WIDTH = 8, 16
"""Heads, and channels of a head, of the attentions between tokens and image."""
QUIET = 0.3
"""Size of the content of an image cell; its position has size 1 and must dominate the attention scores."""

# Positions: frequency number i fills channel i with its sine and channel 128 + i with its cosine.
FREQUENCIES = 128
HALF_TURN = (0, 1)
"""Frequencies of half a period a frame, along x and y; the sine shows on which side of a line a cell lies."""
WITHIN_CELL = (2, 3)
"""Frequencies of one period a cell, along x and y; they give the place of a prompt within its cell."""
FINDING = (4, 8)
"""First of the frequencies of FINDING_PX along x, and along y; together they single out one cell."""
FINDING_PX = (51.0, 67.0, 88.0, 600.0)
"""Wavelengths in px: beyond 14 px, the sum of their cosines nowhere exceeds that at 14 px (by random search)."""
FLAGS = slice(12, 20)
"""Frequencies set to zero, whose sine channels are free for flags."""
FREE = slice(20, FREQUENCIES)
"""Random frequencies of all scales, used by the weights outside the program."""

# Channels of a token.
(
    OUTPUT_CHANNEL,
    POINT_CHANNEL,
    NEGATIVE_CHANNEL,
    CORNER_A_CHANNEL,
    CORNER_B_CHANNEL,
    PAD_CHANNEL,
    IS_BOX_CHANNEL,
    EMPTY_CHANNEL,
) = range(FLAGS.start, FLAGS.stop)
"""Channels of a token's flags; EMPTY_CHANNEL holds only what norms add to every channel, and `see` subtracts it."""
QUADRANT_CHANNELS = slice(184, 232)
"""Descriptors of the four quadrants around a click."""
INSIDE_CHANNELS = slice(232, 244)
"""Mean descriptor inside a box."""
READ_CHANNELS = slice(244, 256)
"""Descriptor that a mask is compared with."""

# Channels of an image cell in addition to its descriptors; positions are zero there.
SIDE_CHANNELS = slice(FLAGS.start, FLAGS.start + 4)
"""Distance inside the left, right, upper and lower side of a box."""
NEAR_CHANNEL, ONE_CHANNEL = SIDE_CHANNELS.stop, SIDE_CHANNELS.stop + 1
"""Nearness of the click; a constant."""
CLEAN_CHANNELS = (*HALF_TURN, *range(FLAGS.start, ONE_CHANNEL + 1), *(FREQUENCIES + n for n in HALF_TURN))
"""Channels of a cell in which the encoder starts with no content."""


def see(layer: nn.Linear, row: int, channel: int, weight: float) -> None:
    """Add the weight of a token's channel to a row of a layer, less EMPTY_CHANNEL: what the norms added."""
    layer.weight[row, channel] += weight
    layer.weight[row, EMPTY_CHANNEL] -= weight


def empty_head(attention: Attention, number: int) -> int:
    """Set the weights of one head to zero in all four projections, and return its first row."""
    width = attention.internal_dim // attention.num_heads
    rows = slice(number * width, (number + 1) * width)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[rows], projection.bias[rows] = 0, 0
    attention.out_proj.weight[:, rows] = 0
    return rows.start


def within(start: int, stop: int) -> torch.Tensor:
    """Return a (256,) bool mask of the channels `start` to `stop` of the sines and of the cosines."""
    channel = torch.arange(2 * FREQUENCIES) % FREQUENCIES
    return (channel >= start) & (channel < stop)
