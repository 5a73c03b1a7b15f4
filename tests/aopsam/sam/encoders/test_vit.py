"""Our order of the work against segment-anything's own, of which each answer is a plain reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders import vit
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, load_sam

# isort: split
from segment_anything.modeling import ImageEncoderViT  # beside a CPU torch, only after aopsam

SIZES = ["vit_b", "vit_l", "vit_h"]


def description(encoder: nn.Module) -> list[tuple[object, ...]]:
    """What decides an encoder's answers besides its weights; of the encoder itself, the class is ours."""
    settings = ("window_size", "num_heads", "scale", "use_rel_pos", "img_size", "eps")
    return [
        (name, type(module) if name else None, module.extra_repr(), [getattr(module, key, None) for key in settings])
        for name, module in encoder.named_modules()
    ]


def small(seed: int = 0, **settings: object) -> ViTEncoder:
    """Two blocks with windows that do not fit the grid of 16 x 16, one global; positions that say something."""
    torch.manual_seed(seed)
    config = {"depth": 3, "num_heads": 2, "use_rel_pos": True, "window_size": 7, "global_attn_indexes": (1,)}
    encoder = ViTEncoder(img_size=256, embed_dim=32, out_chans=256, **(config | settings)).eval()
    for name, parameter in encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.5)
    return encoder


def photo(height: int = 256, batch: int = 1) -> torch.Tensor:
    """(B, 3, 256, 256) normalised noise, zeros below `height` as `Sam.preprocess` pads."""
    pixels = torch.randn(batch, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    pixels[:, :, height:] = 0
    return pixels


@pytest.mark.parametrize("name", SIZES)
def test_is_configured_as_in_the_package(name: str) -> None:
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        theirs, ours = sam_model_registry[name](), MODELS[name].build()
    assert isinstance(ours.image_encoder, ViTEncoder)
    assert description(ours.image_encoder) == description(theirs.image_encoder)
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("height", [256, 150])
@pytest.mark.parametrize(
    "settings",
    [{}, {"window_size": 8}, {"use_rel_pos": False}, {"use_abs_pos": False, "qkv_bias": False}],
    ids=["padded windows", "whole windows", "no relative positions", "no positions, no bias"],
)
@torch.no_grad()
def test_embeds_as_the_package(height: int, settings: dict[str, object]) -> None:
    encoder = small(**settings)
    expected = ImageEncoderViT.forward(encoder, photo(height))
    torch.testing.assert_close(encoder(photo(height)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scores", [1, 16**4, 2 * 49**2 * 4, 10**9])
@torch.no_grad()
def test_embeds_as_the_package_however_the_work_is_split(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "_SCORES_AT_ONCE", scores)
    monkeypatch.setattr(vit, "_TOKENS_AT_ONCE", 100)
    encoder = small()
    expected = ImageEncoderViT.forward(encoder, photo(batch=2))
    torch.testing.assert_close(encoder(photo(batch=2)), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_relative_positions_of_another_size_are_resized_as_in_the_package() -> None:
    encoder = small()
    for block in encoder.blocks:
        for name in ("rel_pos_h", "rel_pos_w"):
            setattr(block.attn, name, nn.Parameter(torch.randn(19, 16)))
    expected = ImageEncoderViT.forward(encoder, photo())
    torch.testing.assert_close(encoder(photo()), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_follows_weights_that_are_loaded_later() -> None:
    encoder, other = small(), small(seed=2)
    before = encoder(photo())
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(encoder(photo()), other(photo()))
    assert not torch.allclose(before, other(photo()), atol=0.1)


def test_gradients_are_those_of_the_package() -> None:
    encoder = small()
    wanted = torch.randn(1, 256, 16, 16, generator=torch.Generator().manual_seed(3))
    gradients = []
    for forward in (ImageEncoderViT.forward, ViTEncoder.forward):
        encoder.zero_grad()
        (forward(encoder, photo()) * wanted).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in encoder.named_parameters()})
    for name, theirs in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], theirs, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_stays_near(precision: torch.dtype) -> None:
    encoder = small()
    exact = encoder(photo(150))
    rounded = encoder.to(precision)(photo(150).to(precision))
    assert rounded.dtype == precision
    assert torch.cosine_similarity(rounded.float(), exact, dim=1).mean() > 0.999


@pytest.mark.slow
def test_vit_b_loads_strictly_and_embeds_as_the_package(tmp_path: Path) -> None:
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    theirs = sam_model_registry["vit_b"]()
    for parameter in theirs.image_encoder.parameters():
        if not parameter.any():  # positions start at zero: give them something to say
            nn.init.normal_(parameter, std=0.5)
    torch.save(theirs.state_dict(), tmp_path / "vit_b.pth")
    save_file(theirs.state_dict(), tmp_path / "vit_b.safetensors")
    ours = load_sam("vit_b", tmp_path / "vit_b.pth")
    again = load_sam("vit_b", tmp_path / "vit_b.safetensors").state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in ours.state_dict().items())
    for model in (ours, theirs):  # one of them global; all twelve take minutes on old machines
        model.image_encoder.blocks = model.image_encoder.blocks[:3]
    photo = torch.randint(0, 256, (1, 3, 700, 1024))
    with torch.no_grad():
        embeddings = [model.image_encoder(model.preprocess(photo)) for model in (ours, theirs)]
    torch.testing.assert_close(*embeddings, atol=1e-4, rtol=1e-4)


def test_half_precision_through_sam_predictor() -> None:
    from segment_anything import SamPredictor

    predictor = SamPredictor(assemble(small()).half())
    rgb = torch.randint(0, 256, (200, 256, 3), dtype=torch.uint8).numpy()
    predictor.set_image(rgb)
    assert predictor.get_image_embedding().dtype == torch.float16
    masks, _, _ = predictor.predict(box=torch.tensor([10, 10, 100, 90]).numpy())
    assert masks.shape == (3, 200, 256)


@torch.no_grad()
def test_positions_are_fitted_to_pictures_of_another_size() -> None:
    encoder = small()
    reference = ImageEncoderViT(
        img_size=112, embed_dim=32, out_chans=256, depth=3, num_heads=2, use_rel_pos=True, window_size=7,
        global_attn_indexes=(1,), norm_layer=nn.LayerNorm,
    )  # fmt: skip
    state = encoder.state_dict()
    table = state["pos_embed"].permute(0, 3, 1, 2)
    state["pos_embed"] = F.interpolate(table, (7, 7), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    for way in ("h", "w"):
        name = f"blocks.1.attn.rel_pos_{way}"
        state[name] = F.interpolate(state[name].T[None], size=13, mode="linear")[0].T
    reference.load_state_dict(state)
    pixels = photo()[..., :112, :112]
    torch.testing.assert_close(encoder(pixels), reference(pixels), rtol=1e-4, atol=1e-4)
    assert encoder.features(pixels).shape == (1, 32, 7, 7)
