"""Which channel holds what, in the initial weights of the mask decoder (`start.py`)."""

from __future__ import annotations

import torch
from segment_anything.modeling.transformer import Attention
from torch import nn

HEADS, HEAD_WIDTH = 8, 16
"""Of the attentions between tokens and image."""
QUIET = 0.3
"""Size of what an image cell holds beside its position (1), so that it does not drown the position in the scores."""

# Positions: frequency number i fills channel i with its sine and channel 128 + i with its cosine.
FREQUENCIES = 128
HALF_TURN = (0, 1)
"""Along x and y, half a period a frame: its sine says on which side of a line a cell lies."""
WITHIN_CELL = (2, 3)
"""Along x and y, one period a cell: says where within its cell a prompt lies."""
FINDING = (4, 8)
"""First of the frequencies of FINDING_PX along x, and along y; together they find one cell among all."""
FINDING_PX = (51.0, 67.0, 88.0, 600.0)
"""Wavelengths: from 14 px on, their cosines nowhere add up to more than they do at 14 px (by random search)."""
FLAGS = slice(12, 20)
"""Frequency zero: sines free for flags."""
FREE = slice(20, FREQUENCIES)
"""Frequencies of all scales, for what is learnt."""

# Channels of a token.
OUTPUT, POINT, NEGATIVE, CORNER_A, CORNER_B, PAD, IS_BOX, NOTHING = range(FLAGS.start, FLAGS.stop)
"""NOTHING holds what a norm adds to every channel, to be taken off where that matters."""
QUADRANTS = slice(184, 232)
"""Descriptors of the four quadrants around a click."""
INSIDE = slice(232, 244)
"""Mean descriptor inside a box."""
READ = slice(244, 256)
"""The descriptor that a mask is compared with."""

# Channels of an image cell, beside its descriptors; positions leave these alone.
SIDES = slice(FLAGS.start, FLAGS.start + 4)
"""How far inside the left, right, upper and lower side of a box."""
NEAR, ONE = SIDES.stop, SIDES.stop + 1
"""How near the click is; a constant."""
CLEAN = (*HALF_TURN, *range(FLAGS.start, ONE + 1), *(FREQUENCIES + n for n in HALF_TURN))
"""Where a cell holds nothing of the encoder's at first."""


def see(layer: nn.Linear, row: int, channel: int, weight: float) -> None:
    """Let a row read a channel of a token, less what the norms added to it."""
    layer.weight[row, channel] += weight
    layer.weight[row, NOTHING] -= weight


def empty_head(attention: Attention, number: int) -> int:
    """Empty one head in all four projections; returns its first row."""
    width = attention.internal_dim // attention.num_heads
    rows = slice(number * width, (number + 1) * width)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[rows], projection.bias[rows] = 0, 0
    attention.out_proj.weight[:, rows] = 0
    return rows.start


def within(start: int, stop: int) -> torch.Tensor:
    """(256,) bool: channels `start` to `stop` of the sines and of the cosines."""
    channel = torch.arange(2 * FREQUENCIES) % FREQUENCIES
    return (channel >= start) & (channel < stop)
