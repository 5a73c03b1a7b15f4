"""Set the initial weights with which mask tokens read the descriptor under their prompt (steps 1, 2 and 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from segment_anything.modeling.transformer import Attention
from torch import nn

from aopsam.sam.encoders.tiny import DESCRIPTOR, descriptor_channel
from aopsam.training.decode import STRIDE
from aopsam.training.initial_decoder.layout import (
    CORNER_A_CHANNEL,
    CORNER_B_CHANNEL,
    EMPTY_CHANNEL,
    FINDING,
    FINDING_PX,
    FLAGS,
    FREQUENCIES,
    HALF_TURN,
    HEAD_WIDTH,
    HEADS,
    INSIDE_CHANNELS,
    IS_BOX_CHANNEL,
    OUTPUT_CHANNEL,
    POINT_CHANNEL,
    QUADRANT_CHANNELS,
    READ_CHANNELS,
    SIDE_CHANNELS,
    WITHIN_CELL,
    empty_head,
    within,
)

ALIKE = 6.0
"""Weight of flags in queries and keys of the first self-attention; squared and over the root of a head's width, 6.4."""
FIND = 5.0
"""Weight of each frequency's cosine between query and key in the attention score."""
QUADRANT_PX = 4.0
"""Distance from the middle of a cell to that of its quadrants, along x and y."""
QUADRANT_SIGNS = tuple((x, y) for y, x in product((-1, 1), repeat=2))
READ_GAIN = 14.0
"""Factor of the descriptors read, which makes them about twice as large as a token's other channels (measured)."""
GATES = ((-0.05, 0.2), (0.6, 1.0))
"""Threshold and weight of the two gates of a quadrant. The condition runs from -2 (far) over 0 (the corner of four
quadrants) to 2 (the quadrant's middle). The descriptor that results finds masks as well as the mean of the 3 x 3
positions around the click (measured)."""
OPEN = 30.0
"""Factor of a gate's condition, which must exceed the size of descriptors, about 2."""
INSIDE_SCORE = 12.0
"""Score of a full side; a cell inside the box has four, its neighbour outside three."""


def take_over_prompt(attention: Attention) -> None:
    """Make the first self-attention, which has no residual, copy the prompt to every token.

    Seven heads copy the mean of clicks and corners, the last one keeps each token's own flags.
    """
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    width = attention.internal_dim // attention.num_heads
    for head in range(HEADS - 1):
        attention.q_proj.bias[head * width] = ALIKE
        for flag in (POINT_CHANNEL, CORNER_A_CHANNEL, CORNER_B_CHANNEL):
            attention.k_proj.weight[head * width, flag] = ALIKE
    # Not copied: the half-turn frequencies, which only corners may have, flags, and the channels of descriptors.
    taken = ~within(0, len(HALF_TURN)) & ~within(FLAGS.start, FLAGS.stop)
    taken[QUADRANT_CHANNELS.start :] = False
    channels = taken.nonzero()[:, 0].tolist()
    for slot, channel in enumerate(channels):
        attention.v_proj.weight[slot, channel] = attention.out_proj.weight[channel, slot] = 1
    box = len(channels)
    attention.v_proj.weight[box, CORNER_A_CHANNEL] = attention.v_proj.weight[box, CORNER_B_CHANNEL] = 1
    attention.out_proj.weight[IS_BOX_CHANNEL, box] = 1
    for slot, flag in enumerate(range(OUTPUT_CHANNEL, IS_BOX_CHANNEL), (HEADS - 1) * width):
        attention.q_proj.weight[slot, flag] = attention.k_proj.weight[slot, flag] = ALIKE
        attention.v_proj.weight[slot, flag] = attention.out_proj.weight[flag, slot] = 1


def read_quadrants(attention: Attention) -> None:
    """Make head q attend to the cell whose quadrant q is nearest to the prompt, and write its mean descriptor to
    QUADRANT_CHANNELS."""
    for number, sign in enumerate(QUADRANT_SIGNS):
        row = empty_head(attention, number)
        for axis, (k, length) in product(range(2), enumerate(FINDING_PX)):
            slot = row + 2 * (axis * len(FINDING_PX) + k)
            sine, cosine = FINDING[axis] + k, FREQUENCIES + FINDING[axis] + k
            turn = 2 * math.pi * sign[axis] * QUADRANT_PX / length
            along, across = FIND**0.5 * math.cos(turn), FIND**0.5 * math.sin(turn)
            attention.q_proj.weight[slot, sine] = attention.q_proj.weight[slot + 1, cosine] = FIND**0.5
            # The position a few pixels away has the cell's own sines and cosines, rotated.
            attention.k_proj.weight[slot, sine] = attention.k_proj.weight[slot + 1, cosine] = along
            attention.k_proj.weight[slot, cosine], attention.k_proj.weight[slot + 1, sine] = across, -across
        for descriptor in range(DESCRIPTOR):
            for down, aside in product(range(2), repeat=2):
                position = 4 * (2 * (sign[1] > 0) + down) + 2 * (sign[0] > 0) + aside
                attention.v_proj.weight[row + descriptor, descriptor_channel(descriptor, position)] = 1 / 4
            attention.out_proj.weight[QUADRANT_CHANNELS.start + number * DESCRIPTOR + descriptor, row + descriptor] = (
                READ_GAIN
            )


def keep_quadrant(mlp: Any) -> None:
    """Make the first MLP add the descriptor of the quadrant that the click lies in to READ_CHANNELS; none for a box."""
    unit = 0
    for number, sign in enumerate(QUADRANT_SIGNS):
        condition = {IS_BOX_CHANNEL: -10 * OPEN}
        for axis in range(2):
            middle = 2 * math.pi * (STRIDE / 2 + sign[axis] * QUADRANT_PX) / STRIDE
            condition[WITHIN_CELL[axis]] = OPEN * math.sin(middle)
            condition[FREQUENCIES + WITHIN_CELL[axis]] = OPEN * math.cos(middle)
        for edge, weight in GATES:
            unit = _gate(mlp, unit, condition, -edge * OPEN, QUADRANT_CHANNELS.start + number * DESCRIPTOR, weight)


def read_inside(attention: Attention) -> None:
    """Make the first head attend to cells inside all sides, and write their mean descriptor to INSIDE_CHANNELS."""
    row = empty_head(attention, 0)
    attention.q_proj.bias[row] = HEAD_WIDTH**0.5
    attention.k_proj.weight[row, SIDE_CHANNELS] = INSIDE_SCORE
    for descriptor in range(DESCRIPTOR):
        for position in range(16):
            attention.v_proj.weight[row + descriptor, descriptor_channel(descriptor, position)] = 1 / 16
        attention.out_proj.weight[INSIDE_CHANNELS.start + descriptor, row + descriptor] = READ_GAIN


def keep_inside(mlp: Any) -> None:
    """Make the second MLP add the mean descriptor inside to READ_CHANNELS, for boxes only."""
    _gate(mlp, 0, {IS_BOX_CHANNEL: 10 * OPEN}, -4 * OPEN, INSIDE_CHANNELS.start, 1.0)


def _gate(mlp: Any, start: int, condition: Mapping[int, float], bias: float, read: int, weight: float) -> int:
    """Set hidden units that add the descriptor at channel `read` to READ_CHANNELS where the condition is well above 0.

    relu(value + c) - relu(c) is the value where c is above its size, and 0 where c is below minus its size. Returns the
    next unit.
    """
    stop = start + 1 + DESCRIPTOR
    mlp.lin1.weight[start:stop], mlp.lin1.bias[start:stop], mlp.lin2.weight[:, start:stop] = 0, bias, 0
    for channel, value in condition.items():
        mlp.lin1.weight[start:stop, channel] += value
        mlp.lin1.weight[start:stop, EMPTY_CHANNEL] -= value
    for number in range(DESCRIPTOR):
        unit = start + 1 + number
        mlp.lin1.weight[unit, read + number] = 1
        mlp.lin2.weight[READ_CHANNELS.start + number, unit], mlp.lin2.weight[READ_CHANNELS.start + number, start] = (
            weight,
            -weight,
        )
    return stop
