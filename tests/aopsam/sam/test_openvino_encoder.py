"""OpenVINO's embedding against PyTorch's, where OpenVINO is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from aopsam.sam.decoders.sam2 import SAM2_MODELS
from aopsam.sam.encode import encode
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.encoders.tiny_vit import TinyViTEncoder
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import assemble
from aopsam.sam.openvino_encoder import OpenVINOEncoder, use_openvino


def test_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeError, match=r"pip install 'aopsam\[openvino\]'"):
        OpenVINOEncoder(TinyEncoder(img_size=64))


def test_sam2_is_refused() -> None:
    with pytest.raises(ValueError, match="several levels of features"):
        use_openvino(SAM2_MODELS["hiera_t"](img_size=64))


def _encoders() -> dict[str, nn.Module]:
    settings = {"use_rel_pos": True, "window_size": 3, "global_attn_indexes": (1,), "out_chans": 256}
    return {
        "tiny": TinyEncoder(img_size=64),
        "mobile_sam": TinyViTEncoder(img_size=64),
        "vit": ViTEncoder(img_size=64, embed_dim=32, depth=2, num_heads=2, **settings),
    }


@pytest.mark.slow  # compiling takes seconds
@pytest.mark.parametrize("name", ["tiny", "mobile_sam", "vit"])
@pytest.mark.filterwarnings("default")  # OpenVINO's and PyTorch's own deprecations
def test_embeds_as_pytorch(name: str) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = assemble(_encoders()[name])
    rgb = np.random.RandomState(0).randint(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = encode(model, rgb)
    use_openvino(model)
    found = encode(model, rgb)
    assert found.content_cells == (3, 4)
    torch.testing.assert_close(found.embedding, expected.embedding, atol=1e-3, rtol=1e-3)
    assert (found.features is None) == (name != "tiny")
    torch.testing.assert_close(found.features, expected.features, atol=1e-3, rtol=1e-3)
    assert (found.trunk is None) == (name != "tiny")
    torch.testing.assert_close(found.trunk, expected.trunk, atol=1e-3, rtol=1e-3)
