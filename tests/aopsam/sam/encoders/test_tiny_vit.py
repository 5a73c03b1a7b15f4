"""MobileSAM against its reference implementation, by values of tests/helpers/make_golden_mobile_sam.py."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from aopsam.sam.encoders.tiny_vit import TinyViTEncoder
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS
from tests.helpers import ROOT

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

DATA = ROOT / "tests" / "data"


def random_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights that depend on each tensor's name and shape alone, on any version of PyTorch."""
    return {name: torch.from_numpy(np.asarray(_random(name, shape))) for name, shape in shapes.items()}


def _random(name: str, shape: list[int]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()))
    normal = random.standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("attention_biases"):
        return normal.astype(np.float32)  # strong, so that a wrong offset shows
    if len(shape) > 1:
        return (normal / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return (0.1 * normal + name.endswith("weight")).astype(np.float32)


@torch.no_grad()
def golden(sam: Sam) -> dict[str, np.ndarray]:
    """Samples of what a 1024-pixel SAM answers to noise, to a point and to a box."""
    noise = np.random.RandomState(0).standard_normal((1, 3, 1024, 1024))
    embedding = sam.image_encoder(torch.from_numpy(noise).float())
    values = {
        "embedding": embedding[0, ::32, ::8, ::8],
        "channel_mean": embedding.mean(dim=(0, 2, 3)),
        "channel_std": embedding.std(dim=(0, 2, 3)),
    }
    point = (torch.tensor([[[300.0, 500.0]]]), torch.tensor([[1]]))
    box = torch.tensor([[100.0, 200.0, 600.0, 900.0]])
    for name, prompt in (("point", (point, None, None)), ("box", (None, box, None))):
        sparse, dense = sam.prompt_encoder(*prompt)
        logits, iou = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
        values |= {f"{name}_logits": logits[0, :, ::16, ::16], f"{name}_iou": iou[0]}
    return {name: value.numpy() for name, value in values.items()}


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[int]]:
    return json.loads((DATA / "mobile_sam_keys.json").read_text())


def test_has_the_official_keys_and_shapes(shapes: dict[str, list[int]]) -> None:
    with torch.device("meta"):
        state = MODELS["mobile_sam"].build().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == shapes


def test_answers_like_the_reference(shapes: dict[str, list[int]]) -> None:
    sam = assemble(TinyViTEncoder())
    sam.load_state_dict(random_state(shapes), strict=True)
    expected = np.load(DATA / "mobile_sam_golden.npz")
    found = golden(sam)
    assert set(found) == set(expected.files)
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4, rtol=1e-4, err_msg=name)


def test_biases_follow_weights_that_are_loaded_in_eval_mode() -> None:
    encoder = TinyViTEncoder(img_size=64).eval()
    photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = encoder(photo)
        state = encoder.state_dict()
        for name in state:
            if name.endswith("attention_biases"):
                state[name] = torch.randn(state[name].shape, generator=torch.Generator().manual_seed(1))
        encoder.load_state_dict(state)
        assert (encoder(photo) - before).abs().max() > 1e-3


def test_half_precision_through_sam_predictor() -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    torch.manual_seed(0)
    sam = assemble(TinyViTEncoder(img_size=64))
    rgb = np.random.RandomState(0).randint(0, 256, (48, 64, 3), dtype=np.uint8)
    embeddings = []
    for precision in (torch.float32, torch.float16):
        predictor = SamPredictor(sam.to(precision))
        predictor.set_image(rgb)
        embeddings.append(predictor.get_image_embedding())
        masks, iou, _ = predictor.predict(np.array([[20, 20]]), np.array([1]))
        assert masks.shape == (3, 48, 64)
        assert np.isfinite(iou).all()
    assert embeddings[1].dtype == torch.float16
    torch.testing.assert_close(embeddings[1].float(), embeddings[0], atol=0.02, rtol=0.02)
