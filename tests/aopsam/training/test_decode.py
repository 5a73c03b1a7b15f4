"""The batched decoder is segment-anything's, and windows see the frame's positions."""

from __future__ import annotations

import pytest
import torch

from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.training.decode import CORNER_A, CORNER_B, PAD, POINT, Prompts, decode, prompt_tokens, window_pe
from aopsam.training.initial_decoder.program import start_decoder


@pytest.fixture(scope="module")
def sam():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = assemble(TinyEncoder(img_size=128))
    start_decoder(model, 0)
    return model


@torch.no_grad()
def test_equals_segment_anything(sam) -> None:  # type: ignore[no-untyped-def]
    embeddings = torch.randn(2, 256, 8, 8)
    points = torch.rand(3, 1, 2) * 128
    prompts = Prompts(
        torch.tensor([0, 1, 1]),
        torch.cat([points, torch.zeros(3, 1, 2)], dim=1),
        torch.tensor([[POINT, PAD]] * 3),
    )
    pe = window_pe(sam, torch.zeros(2, 2, dtype=torch.int64), 8, 8)
    for mask_input in (None, torch.randn(3, 1, 32, 32)):
        logits, estimates = decode(sam, embeddings, pe, prompts, mask_input)
        for n in range(3):
            sparse, dense = sam.prompt_encoder(
                points=(points[n : n + 1], torch.ones(1, 1)),
                boxes=None,
                masks=None if mask_input is None else mask_input[n : n + 1],
            )
            expected = sam.mask_decoder.predict_masks(
                embeddings[prompts.window[n]][None], sam.prompt_encoder.get_dense_pe(), sparse, dense
            )
            torch.testing.assert_close(logits[n : n + 1], expected[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(estimates[n : n + 1], expected[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_box_tokens_equal_the_prompt_encoders(sam) -> None:  # type: ignore[no-untyped-def]
    box = torch.tensor([[10.0, 20.0, 60.0, 90.0]])
    prompts = Prompts(torch.tensor([0]), box.view(1, 2, 2), torch.tensor([[CORNER_A, CORNER_B]]))
    expected, _ = sam.prompt_encoder(points=None, boxes=box, masks=None)
    torch.testing.assert_close(prompt_tokens(sam, prompts), expected)


@torch.no_grad()
def test_window_positions_are_the_frames(sam) -> None:  # type: ignore[no-untyped-def]
    whole = sam.prompt_encoder.get_dense_pe()
    cut = window_pe(sam, torch.tensor([[3, 2], [0, 4]]), 4, 5)
    assert torch.equal(cut[0], whole[0, :, 2:6, 3:8])
    assert torch.equal(cut[1], whole[0, :, 4:8, 0:5])


@torch.no_grad()
def test_untrained_decoder_looks_where_the_prompt_points(sam) -> None:  # type: ignore[no-untyped-def]
    attention = sam.mask_decoder.transformer.final_attn_token_to_image
    place = sam.prompt_encoder.get_dense_pe()[0].flatten(1).T
    prompt = Prompts(torch.tensor([0]), torch.tensor([[[87.5, 39.5]]]), torch.tensor([[POINT]]))
    token = prompt_tokens(sam, prompt)[0] - sam.prompt_encoder.point_embeddings[1].weight
    scores = (attention.q_proj(token) @ attention.k_proj(place).T)[0]
    assert divmod(int(scores.argmax()), 8) == (2, 5)
