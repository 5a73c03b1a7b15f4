"""The encoder's own precision; the rest of the model stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aopsam.sam.attention import Head
from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.decoders.sam2 import SAM2_MODELS
from aopsam.sam.encode import encode, encode_together, keep_head, precision_dtype, set_encoder_precision
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS
from aopsam.training.recipes import MaskHeadRecipe

CPU = torch.device("cpu")
RGB = np.random.RandomState(0).randint(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_encoder_alone_computes_in_another_precision(precision: str) -> None:
    torch.manual_seed(0)
    model = assemble(TinyEncoder(img_size=64))
    exact = encode(model, RGB).embedding
    set_encoder_precision(model, precision)
    rounded = encode(model, RGB).embedding
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert torch.cosine_similarity(rounded, exact, dim=1).mean() > 0.99
    assert {parameter.dtype for parameter in model.image_encoder.parameters()} == {precision_dtype(precision, CPU)}
    assert {parameter.dtype for parameter in model.mask_decoder.parameters()} == {torch.float32}


def test_float32_changes_nothing() -> None:
    model = assemble(TinyEncoder(img_size=64))
    exact = encode(model, RGB).embedding
    set_encoder_precision(model, "float32")
    assert torch.equal(encode(model, RGB).embedding, exact)


def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, avx512, expected in ((False, False, torch.float32), (True, False, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx512=avx512: avx512)
        assert precision_dtype("auto", CPU) == expected
        with MaskHeadRecipe().mixed(CPU):
            assert torch.is_autocast_enabled("cpu") == (expected is torch.bfloat16)


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown precision 'int8'.*float32, bfloat16, float16, auto"):
        precision_dtype("int8", CPU)


def test_a_mirrored_view_is_a_photo() -> None:
    model = MODELS["efficient_sam_ti"].build()
    mirrored = RGB[..., ::-1]
    assert torch.equal(encode(model, mirrored).embedding, encode(model, mirrored.copy()).embedding)


@pytest.mark.parametrize("name", ["tiny", "efficient_sam_ti", "sam2"])
def test_photos_encoded_together_are_encoded_as_each(name: str) -> None:
    torch.manual_seed(0)
    if name == "tiny":
        model, head = assemble(TinyEncoder(img_size=64)), Head(1, 2)
    elif name == "sam2":
        model, head = SAM2_MODELS["hiera_t"](128), Head(9, 1)
    else:
        model, head = efficient_sam_ti(128), Head(11, 2)
    keep_head(model, head)
    photos = [RGB, RGB[:20, ::-1], RGB[5:, :30]]
    for together, rgb in zip(encode_together(model, photos), photos, strict=True):
        alone = encode(model, rgb)
        assert np.array_equal(together.rgb, rgb)
        assert together.input_hw == alone.input_hw
        assert torch.allclose(together.embedding, alone.embedding, atol=1e-5)
        assert torch.allclose(together.queries_keys[head], alone.queries_keys[head], atol=1e-4)
        assert len(together.finer) == len(alone.finer)
        for one, other in zip(together.finer, alone.finer, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match="uint8"):
        encode_together(model, [RGB, RGB[..., 0]])
