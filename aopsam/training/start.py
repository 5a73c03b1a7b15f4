"""Initial weights with which the mask decoder answers before it has learnt anything.

With random projections, positions in queries and keys do not match, and a prompt cannot find where it points for
hundreds of steps. Here queries and keys of every cross attention read the same Fourier features, so that attention
starts as a bump around the prompt: wide in the first heads, narrow in the last. Through that bump a mask token reads
the descriptor of the region under the prompt (`TinyEncoder` puts one at every stride-4 position), carries it unchanged
to its hypernetwork, and the upscaling carries the photo's descriptors unchanged to the masks: the first masks are all
positions whose descriptor resembles the prompt's, at three thresholds. From there on everything learns.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F

from aopsam.sam.encoders.edge_aware import LEARNED, WIDTH
from aopsam.sam.encoders.tiny import DESCRIPTOR, TinyEncoder

HEADS = 8
PER_HEAD = 8
"""Frequencies that one head reads: sine and cosine of each fill its 16 channels."""
GAIN = 3.2
"""Weight of a feature in queries and keys: a prompt on its own cell scores 2 x GAIN^2, about 20."""
TOKEN_SCALE = 0.06
"""What learnt tokens are shrunk to, so that they do not drown the prompt's position in a mask token."""
COORDINATES = 1
"""The head of `EdgeAware` whose coordinates descriptors begin as."""
CARRIED = 16 * DESCRIPTOR
"""Channels of the embedding that hold descriptors."""
READ = slice(256 - DESCRIPTOR, 256)
"""Channels of a token that hold what it has read."""
READ_GAIN = 14.0
"""Weight of the descriptor read, so that it is about twice as large as a token's other channels (measured)."""
QUIET = 0.3
"""Size of what an image cell holds beside its position (1), so that it does not drown the position in the scores."""
LIFT, SWING = 3.0, 0.5
"""Where GELU is straight: descriptors pass it as LIFT plus SWING times their value."""
THRESHOLDS = (0.7, 0.5, 0.8, 0.93)
"""Of the single mask and the three alternatives, as shares of a typical likeness of a prompt with itself."""
LIKENESS = 8.0
"""Logit of that likeness, counted from its threshold at 0."""
TYPICAL = 27.0
"""Sum over descriptors, as the decoder computes it, of a prompt's region with itself (median, measured)."""
GAIN_OUT = LIKENESS / TYPICAL


def start_descriptors(encoder: TinyEncoder) -> None:
    """Let descriptors begin as the region's coordinates: the photo's own, averaged up to its edges, of one head."""
    with torch.no_grad():
        encoder.pack.weight.mul_(TOKEN_SCALE)
        encoder.pack_regions.weight.mul_(TOKEN_SCALE)
        for number in range(WIDTH - LEARNED):
            encoder.pack_regions.weight[number, WIDTH * COORDINATES + LEARNED + number] = 1


def start_decoder(sam: Sam, seed: int) -> None:
    """Overwrite positional frequencies and decoder of a Sam around a `TinyEncoder`, and quiet the encoder's last norm.

    In place; the same seed, the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder, transformer = sam.prompt_encoder, sam.mask_decoder.transformer
    # Standard deviations in half frames: at 0.5 a head tells thirds of the frame apart, at 3.5 single cells.
    spread = torch.logspace(torch.log10(torch.tensor(0.5)), torch.log10(torch.tensor(3.5)), HEADS)
    head = torch.arange(2 * HEADS * PER_HEAD) % HEADS
    gaussian = torch.randn(2, len(head), generator=generator)
    with torch.no_grad():
        encoder.pe_layer.positional_encoding_gaussian_matrix.copy_(gaussian * spread[head])
        for embedding in (*encoder.point_embeddings, encoder.not_a_point_embed):
            embedding.weight.mul_(TOKEN_SCALE)
        sam.mask_decoder.mask_tokens.weight.mul_(TOKEN_SCALE)
        sam.mask_decoder.iou_token.weight.mul_(TOKEN_SCALE)
        for index, block in enumerate(transformer.layers):
            _read_positions(block.cross_attn_token_to_image, head, index % 2)
            _read_positions(block.cross_attn_image_to_token, head, index % 2)
        _read_positions(transformer.final_attn_token_to_image, head, 0)
        # The first self-attention has no residual: as identity, it hands every mask token the prompt's position.
        first = transformer.layers[0].self_attn
        for projection in (first.v_proj, first.out_proj):
            torch.nn.init.eye_(projection.weight)
            torch.nn.init.zeros_(projection.bias)
        _carry_in_tokens(sam)
        for token, threshold in enumerate(THRESHOLDS):
            _compare(sam.mask_decoder.output_hypernetworks_mlps[token], threshold)
        _carry_in_image(sam)


def _carry_in_tokens(sam: Sam) -> None:
    """The narrowest head of the first block writes the cell's mean descriptor into READ; nothing else touches it."""
    transformer = sam.mask_decoder.transformer
    first, second = transformer.layers
    first.norm1.weight[READ] = 0
    mine = slice((HEADS - 1) * 2 * PER_HEAD, (HEADS - 1) * 2 * PER_HEAD + DESCRIPTOR)
    look = first.cross_attn_token_to_image
    look.v_proj.weight[mine], look.v_proj.bias[mine] = 0, 0
    look.out_proj.weight[:, mine], look.out_proj.weight[READ], look.out_proj.bias[READ] = 0, 0, 0
    for number in range(DESCRIPTOR):
        look.v_proj.weight[mine.start + number, 16 * number : 16 * (number + 1)] = 1 / 16
        look.out_proj.weight[READ.start + number, mine.start + number] = READ_GAIN
    final = transformer.final_attn_token_to_image
    writers = [second.self_attn.out_proj, second.cross_attn_token_to_image.out_proj, final.out_proj]
    for layer in (*writers, first.mlp.lin2, second.mlp.lin2):
        layer.weight[READ], layer.bias[READ] = 0, 0
    for layer in (second.cross_attn_token_to_image.q_proj, final.q_proj):
        layer.weight[:, READ] = 0
    for block in transformer.layers:
        block.cross_attn_image_to_token.k_proj.weight[:, READ] = 0


def _compare(hypernetwork: Any, threshold: float) -> None:
    """Filters that multiply descriptors read and drawn, less a threshold; ReLU is passed in pairs of signs."""
    first, second, last = hypernetwork.layers
    last.weight.mul_(0.3)
    last.weight[: 2 * DESCRIPTOR + 1] = 0
    for layer in (first, second):
        layer.weight[: 2 * DESCRIPTOR], layer.bias[: 2 * DESCRIPTOR] = 0, 0
    for number in range(DESCRIPTOR):
        plus, minus = number, DESCRIPTOR + number
        first.weight[plus, READ.start + number], first.weight[minus, READ.start + number] = 1, -1
        second.weight[plus, plus] = second.weight[minus, minus] = 1
        for sign, channel in ((1, 2 * number), (-1, 2 * number + 1)):
            last.weight[channel, plus], last.weight[channel, minus] = sign * GAIN_OUT, -sign * GAIN_OUT
            last.bias[channel] = 0
    last.bias[2 * DESCRIPTOR] = -LIKENESS * threshold / float(F.gelu(torch.tensor(1.0)))


def _carry_in_image(sam: Sam) -> None:
    """Both transposed convolutions lay the 16 descriptors of a cell out; GELU is passed lifted, then in pairs."""
    sam.image_encoder.norm.weight.fill_(QUIET)
    sam.prompt_encoder.no_mask_embed.weight.mul_(QUIET)[:, :CARRIED] = 0
    for block in sam.mask_decoder.transformer.layers:
        block.norm4.weight.fill_(QUIET)
        told = block.cross_attn_image_to_token.out_proj
        told.weight[:CARRIED], told.bias[:CARRIED] = 0, 0
    first, norm, _, second, _ = sam.mask_decoder.output_upscaling
    used = 4 * DESCRIPTOR
    first.weight[:, :used], first.bias[:used] = 0, 0
    norm.weight[:used], norm.bias[:used] = SWING, LIFT
    second.weight[:, : 2 * DESCRIPTOR + 1], second.bias[: 2 * DESCRIPTOR + 1] = 0, 0
    second.bias[2 * DESCRIPTOR] = 1
    for number in range(DESCRIPTOR):
        for down in range(4):
            for across in range(4):
                quarter = (down % 2) * 2 + across % 2
                first.weight[16 * number + 4 * down + across, quarter * DESCRIPTOR + number, down // 2, across // 2] = 1
        for quarter in range(4):
            for sign, channel in ((1, 2 * number), (-1, 2 * number + 1)):
                second.weight[quarter * DESCRIPTOR + number, channel, quarter // 2, quarter % 2] = sign / SWING
                second.bias[channel] = -sign * LIFT / SWING


def _read_positions(attention: Attention, head: torch.Tensor, half: int) -> None:
    """Let head n read PER_HEAD of the frequencies that belong to it; `half` picks the first or second set."""
    count = len(head)
    weight = torch.zeros(HEADS * 2 * PER_HEAD, 2 * count)
    for number in range(HEADS):
        mine = torch.nonzero(head == number)[:, 0][half * PER_HEAD : (half + 1) * PER_HEAD]
        for slot, frequency in enumerate(mine.tolist()):
            weight[number * 2 * PER_HEAD + slot, frequency] = GAIN
            weight[number * 2 * PER_HEAD + PER_HEAD + slot, count + frequency] = GAIN
    attention.q_proj.weight.mul_(0.3).add_(weight)
    attention.k_proj.weight.mul_(0.3).add_(weight)
