"""Initial weights with which the mask decoder finds a prompt's place before it has learnt anything.

With random projections, positions in queries and keys do not match, and a prompt cannot find where it points for
hundreds of steps. Here queries and keys of every cross attention read the same Fourier features, so that attention
starts as a bump around the prompt: wide in the first heads, narrow in the last.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention

HEADS = 8
PER_HEAD = 8
"""Frequencies that one head reads: sine and cosine of each fill its 16 channels."""
GAIN = 2.2
"""Weight of a feature in queries and keys: a prompt on its own cell scores 2 x GAIN^2, about 10."""
TOKEN_SCALE = 0.3


def start_decoder(sam: Sam, seed: int) -> None:
    """Overwrite the positional frequencies and the decoder's attention in place; the same seed, the same weights."""
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
