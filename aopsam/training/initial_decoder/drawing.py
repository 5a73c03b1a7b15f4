"""Set the initial weights that draw masks from a click or box and the descriptor read there (steps 3 and 5)."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F

from aopsam.sam.encoders.tiny import DESCRIPTOR, descriptor_channel
from aopsam.training.initial_decoder.layout import (
    CORNER_A_CHANNEL,
    CORNER_B_CHANNEL,
    FREQUENCIES,
    HALF_TURN,
    HEAD_WIDTH,
    IS_BOX_CHANNEL,
    NEAR_CHANNEL,
    NEGATIVE_CHANNEL,
    ONE_CHANNEL,
    PAD_CHANNEL,
    POINT_CHANNEL,
    QUIET,
    READ_CHANNELS,
    SIDE_CHANNELS,
    empty_head,
    see,
)

CORNERS = ((0, 1, CORNER_A_CHANNEL), (0, -1, CORNER_B_CHANNEL), (1, 1, CORNER_A_CHANNEL), (1, -1, CORNER_B_CHANNEL))
"""Axis that each side of a box lies across, whether inside is up or down that axis, and the corner it goes through."""
CLICK_FLAG, CORNER_FLAG = 0.7, 1.2
"""Flag of a click and of a corner after the third norm (measured); keys read one more, from the token itself."""
FROM_SIDE = 1 / 6
"""Score per pixel inside a side: over 24 px it raises a cell's attention from 12 % to 88 %."""
FROM_CLICK = 20.0
"""Score of a click near a cell, along x and along y; 0 half a frame away."""
AWAY = -12.0
"""Score of tokens that a head must not attend to."""
OTHERS = math.log(5)
"""Score at which a token gets as much attention as the five output tokens (score 0 each) together."""
DRAWN = 0.6
"""Value written to a cell of the image for its whole attention."""


def draw_prompt(attention: Attention, frame_px: int) -> None:
    """Let each cell attend to a box corner or a click by its position, else to output tokens, whose value is 0."""
    root = HEAD_WIDTH**0.5
    gain = (FROM_SIDE * root * frame_px / math.pi) ** 0.5
    for head, (axis, sign, corner) in enumerate(CORNERS):
        row = empty_head(attention, head)
        sine, cosine = HALF_TURN[axis], FREQUENCIES + HALF_TURN[axis]
        # sin(cell - corner) = sin(cell) cos(corner) - cos(cell) sin(corner)
        attention.q_proj.weight[row, sine] = attention.q_proj.weight[row + 1, cosine] = gain
        see(attention.k_proj, row, cosine, sign * gain)
        see(attention.k_proj, row + 1, sine, -sign * gain)
        _attend(attention, row + 2, corner, OTHERS, CORNER_FLAG)
        attention.out_proj.weight[SIDE_CHANNELS.start + head, row + 2] = DRAWN / CORNER_FLAG
    row = empty_head(attention, len(CORNERS))
    for slot, (axis, part) in enumerate(product(range(2), (0, FREQUENCIES)), row):
        attention.q_proj.weight[slot, HALF_TURN[axis] + part] = FROM_CLICK**0.5
        see(attention.k_proj, slot, HALF_TURN[axis] + part, FROM_CLICK**0.5)
    _attend(attention, row + 4, POINT_CHANNEL, OTHERS + 1 - 2 * FROM_CLICK / root, CLICK_FLAG)
    attention.out_proj.weight[NEAR_CHANNEL, row + 4] = DRAWN / CLICK_FLAG


def _attend(attention: Attention, row: int, wanted: int, score: float, seen: float) -> None:
    """Score tokens by their flags: `score` for the wanted one, whose flag is also the value."""
    attention.q_proj.bias[row] = HEAD_WIDTH**0.5
    for flag in (POINT_CHANNEL, NEGATIVE_CHANNEL, CORNER_A_CHANNEL, CORNER_B_CHANNEL, PAD_CHANNEL):
        see(attention.k_proj, row, flag, (score if flag == wanted else AWAY) / (1 + seen))
    see(attention.v_proj, row, wanted, 1)


LEVELS = ((0.75, 0.5), (0.375, 0.0), (0.75, 0.6), (0.94, 0.85))
"""Least likeness of a position that belongs to a mask, for clicks and for boxes: single mask, three alternatives."""
LIKENESS = 8.0
"""Logits per unit of likeness (about a cosine) above the level of a mask."""
TYPICAL = 54.0
"""Product of the descriptor read and a descriptor of the same region, as the decoder computes it (median, measured)."""
FAR_PRICE, OUT_PRICE = 2.0, 8.0
"""Logits taken off far from the click, and about 6 px outside a side of the box."""
ONE_DRAWN, SIDES_DRAWN, NEAR_DRAWN = 2 * DESCRIPTOR, 2 * DESCRIPTOR + 1, 2 * DESCRIPTOR + 5
"""Channels of the upscaled embedding after the pairs of descriptors: constant, four sides, nearness."""


def compare(hypernetwork: Any, click_level: float, box_level: float) -> None:
    """Make a hypernetwork's filter multiply the descriptor read with a position's, less a level.

    Values pass its ReLUs in pairs of both signs.

    Args:
        hypernetwork: `MLP` of three layers, of one mask.
        click_level: least likeness for clicks.
        box_level: least likeness for boxes.
    """
    first, second, last = hypernetwork.layers
    last.weight.mul_(0.3)
    last.weight[: NEAR_DRAWN + 1], last.bias[: NEAR_DRAWN + 1] = 0, 0
    click, box = 2 * DESCRIPTOR, 2 * DESCRIPTOR + 1
    for layer in (first, second):
        layer.weight[: box + 1], layer.bias[: box + 1] = 0, 0
    for number in range(DESCRIPTOR):
        plus, minus = number, DESCRIPTOR + number
        first.weight[plus, READ_CHANNELS.start + number], first.weight[minus, READ_CHANNELS.start + number] = 1, -1
        second.weight[plus, plus] = second.weight[minus, minus] = 1
        for sign, channel in ((1, 2 * number), (-1, 2 * number + 1)):
            last.weight[channel, plus] = sign * LIKENESS / TYPICAL
            last.weight[channel, minus] = -sign * LIKENESS / TYPICAL
    # 1 for clicks and 0 for boxes, whatever the size of the flag, and the other way round.
    see(first, click, IS_BOX_CHANNEL, -10)
    first.bias[click] = 1
    second.weight[click, click], second.weight[box, click], second.bias[box] = 1, -1, 1
    one = float(F.gelu(torch.tensor(1.0)))
    last.weight[ONE_DRAWN, click] = (-LIKENESS * click_level - FAR_PRICE) / one
    last.weight[ONE_DRAWN, box] = -LIKENESS * box_level / one
    last.weight[SIDES_DRAWN : SIDES_DRAWN + 4, box] = -OUT_PRICE
    last.weight[NEAR_DRAWN, click] = FAR_PRICE


LIFT, SWING = 3.0, 0.5
"""Offset and scale at which values pass GELU, where it is almost linear."""
STEEP = 3.0
"""Factor of the sides in the upscaled embedding."""
NEAR_WEIGHT = 0.6
"""Factor of the nearness there, so that it is about 1 at the click."""


def carry_in_image(sam: Sam) -> None:
    """Make the upscaling place a cell's 16 descriptors at their positions, and correct its sides to each position.

    The sides in a cell hold for its middle. Values pass the first GELU with an offset, the second in pairs of both
    signs. An empty channel is subtracted, since the norm between the two transposed convolutions adds the same to all
    channels.
    """
    first, norm, _, second, _ = sam.mask_decoder.output_upscaling
    sides, near, one, empty = (4 * DESCRIPTOR + i for i in (0, 4, 5, 6))
    first.weight[:, : empty + 1], first.bias[: empty + 1] = 0, 0
    norm.weight[: empty + 1], norm.bias[: empty + 1] = SWING, LIFT
    second.weight[:, : NEAR_DRAWN + 1], second.bias[: NEAR_DRAWN + 1] = 0, 0
    second.bias[ONE_DRAWN] = 1

    def carry(carried: int, drawn: int, down: int, across: int, weight: float) -> None:
        second.weight[carried, drawn, down, across] += weight / SWING
        second.weight[empty, drawn, down, across] -= weight / SWING

    for number in range(DESCRIPTOR):
        for down, across in product(range(4), repeat=2):
            quarter = (down % 2) * 2 + across % 2
            channel = descriptor_channel(number, 4 * down + across)
            first.weight[channel, quarter * DESCRIPTOR + number, down // 2, across // 2] = 1
        for quarter in range(4):
            carry(quarter * DESCRIPTOR + number, 2 * number, quarter // 2, quarter % 2, 1)
            carry(quarter * DESCRIPTOR + number, 2 * number + 1, quarter // 2, quarter % 2, -1)
    first.weight[NEAR_CHANNEL, near] = first.weight[ONE_CHANNEL, one] = 1
    full = DRAWN / QUIET
    for down, across in product(range(2), repeat=2):
        carry(near, NEAR_DRAWN, down, across, NEAR_WEIGHT)
        for side, (axis, sign, _) in enumerate(CORNERS):
            # Difference between a position's side and that at the middle of its cell, near the side.
            toward = sign * (2 * (across, down)[axis] - 1) * FROM_SIDE / 4 * full
            first.weight[SIDE_CHANNELS.start + side, sides + side, down, across] = 1
            first.weight[ONE_CHANNEL, sides + side, down, across] = 4 * toward - full / 2
            carry(sides + side, SIDES_DRAWN + side, down, across, -STEEP)
            carry(one, SIDES_DRAWN + side, down, across, -STEEP * 2 * toward)
