"""Write initial weights into a SAM around `TinyEncoder`, so that its mask decoder answers prompts before training.

With random projections, positions in queries and keys do not match, and for hundreds of steps a prompt cannot attend
to the place it points at. Here the weights begin as a program of five steps in segment-anything's own layers (the
package's docstring follows one click through them):

1. Every token copies the prompt's position and kind (first self-attention).
2. For a click, it reads the four 8-pixel quadrants around it, each from the cell where that quadrant is nearest, and
   keeps those that the click lies in (first cross attention, first MLP).
3. Every cell of the image gets its distance inside each side of a box, or its nearness to a click (first attention from
   image to tokens).
4. For a box, a token reads the mean descriptor inside it (second cross attention, second MLP).
5. A position's logit is the likeness of its descriptor (`TinyEncoder` gives one to each stride-4 position) to the one
   that was read, less a level, and less a price far from the click or outside the box (hypernetworks, upscaling).

All of these weights then train; weights that the program does not use begin at random.
"""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention

from aopsam.sam.encoders.edge_aware import LEARNED, WIDTH
from aopsam.sam.encoders.tiny import CONTEXT, TinyEncoder
from aopsam.training.decode import STRIDE
from aopsam.training.initial_decoder.drawing import LEVELS, carry_in_image, compare, draw_prompt
from aopsam.training.initial_decoder.layout import (
    CLEAN_CHANNELS,
    CORNER_A_CHANNEL,
    CORNER_B_CHANNEL,
    FINDING,
    FINDING_PX,
    FREE,
    FREQUENCIES,
    HALF_TURN,
    HEAD_WIDTH,
    HEADS,
    NEGATIVE_CHANNEL,
    ONE_CHANNEL,
    OUTPUT_CHANNEL,
    PAD_CHANNEL,
    POINT_CHANNEL,
    QUADRANT_CHANNELS,
    QUIET,
    READ_CHANNELS,
    WITHIN_CELL,
    within,
)
from aopsam.training.initial_decoder.reading import (
    keep_inside,
    keep_quadrant,
    read_inside,
    read_quadrants,
    take_over_prompt,
)

COORDINATES = 1
"""Head of `EdgeAware` whose coordinates the descriptors begin as."""
TOKEN_SCALE = 0.06
"""Factor of the random parts of learnt tokens, so that the prompt's position dominates in a mask token."""
SPREAD = (0.5, 3.5)
"""Standard deviation of the free frequencies, in periods a half frame, in the first and the last head: 0.5 separates
thirds of the frame, 3.5 single cells."""
FREE_GAIN = 3.2
"""Weight of a free frequency in queries and keys: a prompt on its own cell scores 2 x FREE_GAIN^2, about 20."""
LONG = 8.0
"""Weight of READ_CHANNELS before the last norm: they dominate, so that norm leaves them an almost constant length."""


def start_descriptors(encoder: TinyEncoder) -> None:
    """Make descriptors begin as the coordinates of one `EdgeAware` head: the photo's own, averaged up to its edges."""
    with torch.no_grad():
        encoder.pack.weight.mul_(TOKEN_SCALE)
        encoder.pack_regions.weight.mul_(TOKEN_SCALE)
        for number in range(WIDTH - LEARNED):
            encoder.pack_regions.weight[number, WIDTH * COORDINATES + LEARNED + number] = 1


def start_decoder(sam: Sam, seed: int) -> None:
    """Write the program into a Sam around a `TinyEncoder`: prompt encoder, mask decoder, and norm of the context.

    In place; the same seed gives the same weights.
    """
    transformer = sam.mask_decoder.transformer
    first, second = transformer.layers
    frame_px = sam.image_encoder.img_size
    with torch.no_grad():
        _choose_frequencies(sam, torch.Generator().manual_seed(seed))
        _mark_tokens(sam)
        for half, layer in enumerate(transformer.layers):
            _read_positions(layer.cross_attn_token_to_image, half)
            _read_positions(layer.cross_attn_image_to_token, half)
        _read_positions(transformer.final_attn_token_to_image, 0)
        _protect(sam)
        take_over_prompt(first.self_attn)
        read_quadrants(first.cross_attn_token_to_image)
        keep_quadrant(first.mlp)
        draw_prompt(first.cross_attn_image_to_token, frame_px)
        read_inside(second.cross_attn_token_to_image)
        keep_inside(second.mlp)
        for hypernetwork, levels in zip(sam.mask_decoder.output_hypernetworks_mlps, LEVELS, strict=True):
            compare(hypernetwork, *levels)
        carry_in_image(sam)


def _choose_frequencies(sam: Sam, generator: torch.Generator) -> None:
    """Set the position frequencies; segment-anything multiplies 2 pi, the frequency, and a coordinate in [-1, 1]."""
    half_frame = sam.image_encoder.img_size / 2
    gaussian = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    gaussian[:, : FREE.start] = 0
    for axis in range(2):
        gaussian[axis, HALF_TURN[axis]] = 0.25
        gaussian[axis, WITHIN_CELL[axis]] = half_frame / STRIDE
        for number, length in enumerate(FINDING_PX):
            gaussian[axis, FINDING[axis] + number] = half_frame / length
    spread = torch.logspace(math.log10(SPREAD[0]), math.log10(SPREAD[1]), HEADS)
    free = torch.arange(FREE.stop - FREE.start)
    gaussian[:, FREE] = torch.randn(2, len(free), generator=generator) * spread[free % HEADS]


def _mark_tokens(sam: Sam) -> None:
    """Shrink the learnt tokens and set the flag of each."""
    encoder, decoder = sam.prompt_encoder, sam.mask_decoder
    negative, point, corner_a, corner_b = encoder.point_embeddings
    program = within(0, FREE.start)
    for token, flag in (
        (decoder.iou_token, OUTPUT_CHANNEL),
        (decoder.mask_tokens, OUTPUT_CHANNEL),
        (negative, NEGATIVE_CHANNEL),
        (point, POINT_CHANNEL),
        (corner_a, CORNER_A_CHANNEL),
        (corner_b, CORNER_B_CHANNEL),
        (encoder.not_a_point_embed, PAD_CHANNEL),
    ):
        token.weight.mul_(TOKEN_SCALE)
        token.weight[:, program] = 0
        token.weight[:, flag] = 1


def _read_positions(attention: Attention, half: int) -> None:
    """Let head n read free frequencies of its scale, half of its width of them; the first head's are the coarsest."""
    scale = torch.arange(FREE.stop - FREE.start) % HEADS
    weight = torch.zeros(HEADS * HEAD_WIDTH, 2 * FREQUENCIES)
    for number in range(HEADS):
        of_scale = torch.nonzero(scale == number)[:, 0] + FREE.start
        mine = of_scale[: HEAD_WIDTH // 2] if half == 0 else of_scale[-HEAD_WIDTH // 2 :]
        for slot, frequency in enumerate(mine.tolist(), number * HEAD_WIDTH):
            weight[slot, frequency] = weight[slot + HEAD_WIDTH // 2, FREQUENCIES + frequency] = FREE_GAIN
    attention.q_proj.weight.mul_(0.3).add_(weight)
    attention.k_proj.weight.mul_(0.3).add_(weight)


def _protect(sam: Sam) -> None:
    """Keep random weights from writing into the program's channels and from reading descriptors as positions."""
    transformer = sam.mask_decoder.transformer
    program = within(0, FREE.start)
    program[QUADRANT_CHANNELS.start :] = True
    closed = ~within(0, CONTEXT // 2)
    closed[list(CLEAN_CHANNELS)] = True
    final = transformer.final_attn_token_to_image
    writers = [final.out_proj]
    for layer in transformer.layers:
        writers += [layer.self_attn.out_proj, layer.cross_attn_token_to_image.out_proj, layer.mlp.lin2]
        to_image = layer.cross_attn_image_to_token
        to_image.out_proj.weight[closed], to_image.out_proj.bias[closed] = 0, 0
        to_image.k_proj.weight[:, QUADRANT_CHANNELS.start :] = to_image.v_proj.weight[:, QUADRANT_CHANNELS.start :] = 0
        layer.norm4.weight.fill_(QUIET)
    for writer in writers:
        writer.weight[program], writer.bias[program] = 0, 0
    for reader in (transformer.layers[1].cross_attn_token_to_image, final):
        reader.q_proj.weight[:, QUADRANT_CHANNELS.start :] = 0
    transformer.layers[0].norm1.weight[QUADRANT_CHANNELS.start :] = 0
    transformer.layers[1].norm3.weight[READ_CHANNELS] = LONG
    context = sam.image_encoder.norm
    context.weight.fill_(QUIET)
    context.weight[[n if n < FREQUENCIES else n - FREQUENCIES + CONTEXT // 2 for n in CLEAN_CHANNELS]] = 0
    context.bias[ONE_CHANNEL] = QUIET
    sam.prompt_encoder.no_mask_embed.weight.mul_(QUIET)[:, closed] = 0
