"""Shape, size and cost of the tiny encoder, and what its embedding holds."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from aopsam.sam.encoders.tiny import DESCRIPTOR, FEATURES, FINE, AttentionBlock, TinyEncoder, descriptors
from aopsam.sam.model import assemble


@torch.no_grad()
def test_shape_and_cost() -> None:
    encoder = TinyEncoder().eval()
    with FlopCounterMode(display=False) as counter:
        embedding = encoder(torch.zeros(1, 3, 512, 512))
    assert embedding.shape == (1, 256, 32, 32)
    assert counter.get_total_flops() < 15e9
    assert sum(p.numel() for p in assemble(encoder).parameters()) < 10e6


@torch.no_grad()
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_windows_and_half_precision(precision: torch.dtype) -> None:
    encoder = TinyEncoder().eval()
    assert encoder(torch.zeros(2, 3, 48, 96)).shape == (2, 256, 3, 6)
    half = encoder.to(precision)(torch.randn(1, 3, 64, 64).to(precision))
    assert half.dtype == precision
    assert torch.isfinite(half).all()


@torch.no_grad()
def test_every_stride_4_position_reaches_the_embedding() -> None:
    torch.manual_seed(0)
    encoder = TinyEncoder().eval()
    plain = torch.zeros(1, 3, 64, 64)
    dots = plain.clone()
    dots[..., 20:22, 24:26] = 3
    changed = (encoder(dots) - encoder(plain)).abs().sum(1)[0]
    assert divmod(int(changed.argmax()), 4) == (1, 1)


@torch.no_grad()
def test_the_embedding_holds_descriptors_of_unit_length_and_edges_come_with_it() -> None:
    torch.manual_seed(0)
    embedding, edges = TinyEncoder(64).eval().embed(torch.randn(2, 3, 64, 64))
    assert embedding.shape == (2, 256, 4, 4)
    assert edges.shape == (2, 1, 16, 16)
    found = descriptors(embedding)
    assert found.shape == (2, DESCRIPTOR, 16, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 16, 16))
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 16, 16), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_features_are_those_that_descriptors_are_made_from_and_the_trunks_map() -> None:
    torch.manual_seed(0)
    encoder, photos = TinyEncoder(64).eval(), torch.randn(2, 3, 64, 64)
    embedding, features, at8 = encoder.with_features(photos)
    torch.testing.assert_close(embedding, encoder(photos))
    assert features.shape == (2, FEATURES, 16, 16)
    made = (encoder.pack(features[:, :FINE]) + encoder.pack_regions(features[:, FINE:]))[:, :DESCRIPTOR]
    made = F.normalize(made - made.mean(1, keepdim=True), dim=1)
    torch.testing.assert_close(made, descriptors(embedding))
    torch.testing.assert_close(at8, encoder.trunk(photos)[1][1])


@torch.no_grad()
def test_attention_in_training_is_that_of_inference() -> None:
    torch.manual_seed(0)
    block, tokens = AttentionBlock(64), torch.randn(2, 12, 64)
    torch.testing.assert_close(block.train()(tokens), block.eval()(tokens))


@pytest.mark.filterwarnings("default")  # PyTorch's export warns of its own deprecations
def test_the_exported_graph_is_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = TinyEncoder(64).eval()
    photo = torch.randn(1, 3, 64, 64)
    graph = torch.export.export(encoder, (photo,)).module()
    torch.testing.assert_close(graph(photo), encoder(photo), atol=1e-4, rtol=1e-4)
