"""How masks are drawn around what was read, in the initial weights of the mask decoder (`start.py`)."""

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
    CORNER_A,
    CORNER_B,
    FREQUENCIES,
    HALF_TURN,
    HEAD_WIDTH,
    IS_BOX,
    NEAR,
    NEGATIVE,
    ONE,
    PAD,
    POINT,
    QUIET,
    READ,
    SIDES,
    empty_head,
    see,
)

CORNERS = ((0, 1, CORNER_A), (0, -1, CORNER_B), (1, 1, CORNER_A), (1, -1, CORNER_B))
"""Of each side: the axis it lies across, whether inside is up or down that axis, and the corner it goes through."""
CLICK_FLAG, CORNER_FLAG = 0.7, 1.2
"""The flag of a click and of a corner after the third norm (measured); keys see one more, from the token itself."""
FROM_SIDE = 1 / 6
"""Score a pixel inside a side: over 24 px it rises from 12 % to 88 % of a cell's attention."""
FROM_CLICK = 20.0
"""Score of a click that is near along x or y; half a frame away it is none."""
AWAY = -12.0
"""Score of tokens that a head must not attend to."""
OTHERS = math.log(5)
"""Score at which a token is as much attended to as the five output tokens, at 0 each, together."""
DRAWN = 0.6
"""Weight in the image of all of a cell's attention."""


def draw_prompt(attention: Attention, frame_px: int) -> None:
    """Cells attend to a corner, or to the click, by where they lie, and else to output tokens, which say nothing."""
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
        attention.out_proj.weight[SIDES.start + head, row + 2] = DRAWN / CORNER_FLAG
    row = empty_head(attention, len(CORNERS))
    for slot, (axis, part) in enumerate(product(range(2), (0, FREQUENCIES)), row):
        attention.q_proj.weight[slot, HALF_TURN[axis] + part] = FROM_CLICK**0.5
        see(attention.k_proj, slot, HALF_TURN[axis] + part, FROM_CLICK**0.5)
    _attend(attention, row + 4, POINT, OTHERS + 1 - 2 * FROM_CLICK / root, CLICK_FLAG)
    attention.out_proj.weight[NEAR, row + 4] = DRAWN / CLICK_FLAG


def _attend(attention: Attention, row: int, wanted: int, score: float, seen: float) -> None:
    """Score tokens by their flags: `score` for the wanted one, whose flag is also the value."""
    attention.q_proj.bias[row] = HEAD_WIDTH**0.5
    for flag in (POINT, NEGATIVE, CORNER_A, CORNER_B, PAD):
        see(attention.k_proj, row, flag, (score if flag == wanted else AWAY) / (1 + seen))
    see(attention.v_proj, row, wanted, 1)


LEVELS = ((0.75, 0.5), (0.375, 0.0), (0.75, 0.6), (0.94, 0.85))
"""Of the single mask and the three alternatives: likeness from which a position belongs, for clicks and for boxes."""
LIKENESS = 8.0
"""Logit of a prompt's likeness with itself, counted from its threshold at 0."""
TYPICAL = 54.0
"""Sum over descriptors, as the decoder computes it, of a prompt's region with itself (median, measured)."""
FAR_PRICE, OUT_PRICE = 2.0, 8.0
"""Logits for lying far from the click, and for about 6 px outside a side."""
ONE_DRAWN, SIDES_DRAWN, NEAR_DRAWN = 2 * DESCRIPTOR, 2 * DESCRIPTOR + 1, 2 * DESCRIPTOR + 5
"""Channels of the upscaled embedding, after the pairs of descriptors."""


def compare(hypernetwork: Any, click_level: float, box_level: float) -> None:
    """Filters that multiply descriptors read and drawn, less a threshold; ReLU is passed in pairs of signs."""
    first, second, last = hypernetwork.layers
    last.weight.mul_(0.3)
    last.weight[: NEAR_DRAWN + 1], last.bias[: NEAR_DRAWN + 1] = 0, 0
    click, box = 2 * DESCRIPTOR, 2 * DESCRIPTOR + 1
    for layer in (first, second):
        layer.weight[: box + 1], layer.bias[: box + 1] = 0, 0
    for number in range(DESCRIPTOR):
        plus, minus = number, DESCRIPTOR + number
        first.weight[plus, READ.start + number], first.weight[minus, READ.start + number] = 1, -1
        second.weight[plus, plus] = second.weight[minus, minus] = 1
        for sign, channel in ((1, 2 * number), (-1, 2 * number + 1)):
            last.weight[channel, plus] = sign * LIKENESS / TYPICAL
            last.weight[channel, minus] = -sign * LIKENESS / TYPICAL
    # 1 for clicks and 0 for boxes, whatever the size of the flag, and the other way round.
    see(first, click, IS_BOX, -10)
    first.bias[click] = 1
    second.weight[click, click], second.weight[box, click], second.bias[box] = 1, -1, 1
    one = float(F.gelu(torch.tensor(1.0)))
    last.weight[ONE_DRAWN, click] = (-LIKENESS * click_level - FAR_PRICE) / one
    last.weight[ONE_DRAWN, box] = -LIKENESS * box_level / one
    last.weight[SIDES_DRAWN : SIDES_DRAWN + 4, box] = -OUT_PRICE
    last.weight[NEAR_DRAWN, click] = FAR_PRICE


LIFT, SWING = 3.0, 0.5
"""Where GELU is straight: what is carried passes it as LIFT plus SWING times its value."""
STEEP = 3.0
"""Of the sides in the upscaled embedding."""
NEAR_WEIGHT = 0.6
"""Of nearness there, so that it is about 1 at the click."""


def carry_in_image(sam: Sam) -> None:
    """Lay a cell's 16 descriptors out, and sharpen sides, which a cell knows at its middle, to the position's own.

    GELU is passed lifted, then in pairs. A channel of nothing goes along, to take off again what the norm between the
    two transposed convolutions adds to all channels.
    """
    first, norm, _, second, _ = sam.mask_decoder.output_upscaling
    sides, near, one, nothing = (4 * DESCRIPTOR + i for i in (0, 4, 5, 6))
    first.weight[:, : nothing + 1], first.bias[: nothing + 1] = 0, 0
    norm.weight[: nothing + 1], norm.bias[: nothing + 1] = SWING, LIFT
    second.weight[:, : NEAR_DRAWN + 1], second.bias[: NEAR_DRAWN + 1] = 0, 0
    second.bias[ONE_DRAWN] = 1

    def carry(carried: int, drawn: int, down: int, across: int, weight: float) -> None:
        second.weight[carried, drawn, down, across] += weight / SWING
        second.weight[nothing, drawn, down, across] -= weight / SWING

    for number in range(DESCRIPTOR):
        for down, across in product(range(4), repeat=2):
            quarter = (down % 2) * 2 + across % 2
            channel = descriptor_channel(number, 4 * down + across)
            first.weight[channel, quarter * DESCRIPTOR + number, down // 2, across // 2] = 1
        for quarter in range(4):
            carry(quarter * DESCRIPTOR + number, 2 * number, quarter // 2, quarter % 2, 1)
            carry(quarter * DESCRIPTOR + number, 2 * number + 1, quarter // 2, quarter % 2, -1)
    first.weight[NEAR, near] = first.weight[ONE, one] = 1
    full = DRAWN / QUIET
    for down, across in product(range(2), repeat=2):
        carry(near, NEAR_DRAWN, down, across, NEAR_WEIGHT)
        for side, (axis, sign, _) in enumerate(CORNERS):
            # What a pixel further inside adds to a side, near it.
            toward = sign * (2 * (across, down)[axis] - 1) * FROM_SIDE / 4 * full
            first.weight[SIDES.start + side, sides + side, down, across] = 1
            first.weight[ONE, sides + side, down, across] = 4 * toward - full / 2
            carry(sides + side, SIDES_DRAWN + side, down, across, -STEEP)
            carry(one, SIDES_DRAWN + side, down, across, -STEEP * 2 * toward)
