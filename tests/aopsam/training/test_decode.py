"""The batched decoder is segment-anything's, and windows see the frame's positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aopsam.sam.decode import decode_prompts
from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.encode import encode
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.sam.prompts import Prompts as Asked
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


@torch.no_grad()
@pytest.mark.parametrize("label", [(POINT, PAD), (CORNER_A, CORNER_B)])
def test_efficient_sam_decodes_as_at_inference(label: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = efficient_sam_ti(img_size=128)
    torch.nn.init.normal_(model.mask_decoder.output_upscaling[1].weight, 1, 0.3)
    photo = encode(model, np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))
    places = torch.rand(3, 2, 2) * torch.tensor([90, 60])
    given = places.numpy() if label[0] == CORNER_A else places[:, 0].numpy()
    asked = Asked.from_boxes(given.reshape(3, 4)) if label[0] == CORNER_A else Asked.from_points(given)
    expected, estimates = decode_prompts(photo, asked, multimask=True)
    prompts = Prompts(
        torch.zeros(3, dtype=torch.int64), places * torch.tensor([128 / 90, 128 / 60]), torch.tensor([label] * 3)
    )
    pe = window_pe(model, torch.zeros(1, 2, dtype=torch.int64), 8, 8)
    logits, iou = decode(model, photo.embedding, pe, prompts)
    torch.testing.assert_close(logits[:, 1:], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(iou[:, 1:], estimates, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_smaller_drawing_of_a_stretched_photo_has_the_squares_positions() -> None:
    model = efficient_sam_ti(img_size=128)
    square = window_pe(model, torch.zeros(2, 2, dtype=torch.int64), 4, 4)
    assert square.shape == (2, 256, 4, 4)
    torch.testing.assert_close(square[1], model.prompt_encoder.pe_layer((4, 4)))
