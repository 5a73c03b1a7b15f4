"""The strategy `attention`: whose rows it reads, what clusters, where it asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import add_decomposed_rel_pos
from sklearn.cluster import HDBSCAN

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting import make_strategy
from aopsam.prompting.attention import Attention, cell_centres_px, cluster_medoids, cosine_distances
from aopsam.prompting.fates import Fates
from aopsam.sam.attention import Head, attention_rows, global_attention, keeping_queries_and_keys
from aopsam.sam.encode import EncodedPhoto, encode, keep_head
from aopsam.sam.encoders.hiera import HieraEncoder
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import assemble


@pytest.fixture(scope="module")
def vit() -> Sam:
    """Three blocks at 128 px, the middle one with windows; random weights, random relative positions."""
    torch.manual_seed(0)
    encoder = ViTEncoder(
        img_size=128,
        embed_dim=32,
        depth=3,
        num_heads=4,
        out_chans=256,
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(0, 2),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "rel_pos" in name:
                parameter.normal_()
    model = assemble(encoder)
    model.name, model.sha256 = "vit", "1" * 64
    return model


def _whole_matrix(model: Sam, rgb: np.ndarray, block: int) -> torch.Tensor:
    """(heads, N, N): what segment-anything's own attention computes, written down."""
    attention = model.image_encoder.blocks[block].attn
    seen: list[torch.Tensor] = []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        tokens = inputs[0]
        batch, height, width, _ = tokens.shape
        qkv = module.qkv(tokens).reshape(batch, height * width, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, _ = qkv.flatten(1, 2).unbind(0)
        scores = (q * module.scale) @ k.transpose(-2, -1)
        scores = add_decomposed_rel_pos(scores, q, module.rel_pos_h, module.rel_pos_w, (height, width), (height, width))
        seen.append(scores.softmax(dim=-1))

    hook = attention.register_forward_pre_hook(look)
    pixels = model.preprocess(torch.from_numpy(rgb).permute(2, 0, 1)[None].float())
    with torch.inference_mode():
        ImageEncoderViT.forward(model.image_encoder, pixels)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(("block", "head"), [(0, 1), (2, 3)])
def test_rows_are_those_of_the_whole_matrix(vit: Sam, block: int, head: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    bare = encode(vit, rgb).embedding
    keep_head(vit, Head(block, head))
    photo = encode(vit, rgb)
    assert (photo.embedding == bare).all()
    rows = attention_rows(
        global_attention(vit.image_encoder)[block], photo.queries_keys[block, head], (8, 8), photo.content_cells
    )
    torch.testing.assert_close(rows, _whole_matrix(vit, rgb, block)[head, :48], rtol=1e-4, atol=1e-6)


def test_rows_of_hiera_are_those_of_its_global_block() -> None:
    torch.manual_seed(0)
    encoder = HieraEncoder(8, 1, (1, 1, 2, 1), (3,), table_cells=4, windows=(4, 2, 4, 2), img_size=64).eval()
    attention = encoder.trunk.blocks[3].attn
    assert list(global_attention(encoder)) == [3]
    seen: list[torch.Tensor] = []
    hook = attention.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode(), keeping_queries_and_keys(encoder, frozenset({Head(3, 1)})) as kept:
        encoder(torch.randn(1, 3, 64, 64))
        hook.remove()
        q, k, _ = attention.qkv(seen[0]).view(16, 3, 4, 8)[:, :, 1].unbind(1)
    expected = (q @ k.T / 8**0.5).softmax(dim=1)
    torch.testing.assert_close(attention_rows(attention, kept[3, 1], (4, 4), (4, 4)), expected)


def test_rows_of_tiny_are_those_of_its_last_block(tiny: Sam, scene: np.ndarray) -> None:
    block = tiny.image_encoder.blocks[1]
    tokens: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0]))
    keep_head(tiny, Head(1, 5))
    photo = encode(tiny, scene)
    hook.remove()
    with torch.inference_mode():
        q, k, _ = block.qkv(block.norm1(tokens[0])).view(-1, 3, 8, 32)[:, :, 5].unbind(1)
        expected = (q @ k.T / 32**0.5).softmax(dim=1)[: 24 * 32]
    rows = attention_rows(global_attention(tiny.image_encoder)[1], photo.queries_keys[1, 5], (32, 32), (24, 32))
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-7)


def test_a_photo_keeps_its_own_attention(vit: Sam) -> None:
    """Whatever the model saw since, and also where it was encoded before there was a strategy."""
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 255, (2, 128, 128, 3), np.uint8)
    early = EncodedPhoto(first, vit, encode(vit, first).embedding, (128, 128))
    strategy = Attention(vit, min_cluster_size=2)
    photo = encode(vit, first)
    distances = strategy.distances(photo)
    other = strategy.distances(encode(vit, second))
    assert (strategy.distances(photo) == distances).all()
    assert (strategy.distances(early) == distances).all()
    assert (other != distances).any()


def test_medoids_of_large_clusters_first() -> None:
    """Two bundles of directions and two loners, which are like nothing."""
    angles = torch.deg2rad(torch.tensor([0.0, 1, 2, 3, 90, 91, 92, 93, 94, 95]))
    rows = torch.zeros(12, 4)
    rows[:10, 0], rows[:10, 1] = angles.cos(), angles.sin()
    rows[10, 2] = rows[11, 3] = 1
    medoids, share = cluster_medoids(cosine_distances(rows), 2, 3)
    assert medoids.tolist() in ([6, 1], [6, 2], [7, 1], [7, 2])
    assert share == pytest.approx([6 / 12, 4 / 12])
    assert len(cluster_medoids(cosine_distances(rows), 2, 6)[0]) == 0
    assert len(cluster_medoids(cosine_distances(rows[:2]), 5, 6)[0]) == 0


def test_a_medoid_is_the_item_nearest_to_all_of_its_cluster() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    rows = torch.from_numpy(np.repeat(centres, 20, axis=0) + rng.normal(scale=0.05, size=(80, 8))).float()
    distances = cosine_distances(rows)
    medoids, _ = cluster_medoids(distances, 2, 15)
    assert sorted(medoids // 20) == [0, 1, 2, 3]
    for medoid in medoids:
        own = range(medoid // 20 * 20, medoid // 20 * 20 + 20)
        assert medoid == min(own, key=lambda item: sum(distances[item, other] for other in own))


@pytest.mark.parametrize("min_samples", [1, 3, 5, 200])
def test_densities_are_those_of_the_formula(min_samples: int) -> None:
    """d_mrd(p, q) = max(d_k(p), d_k(q), d(p, q)), d_k the distance to the k-th neighbour; beyond the last, the last."""
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(120, 3))).float()
    distances = cosine_distances(rows)
    core = np.array([np.sort(np.delete(line, i))[min(min_samples, 119) - 1] for i, line in enumerate(distances)])
    reach = np.maximum(np.maximum(core[:, None], core), distances)
    np.fill_diagonal(reach, 0)
    labels = HDBSCAN(min_cluster_size=4, min_samples=1, metric="precomputed", copy=True).fit(reach).labels_
    expected = sorted((labels == label).sum() / 120 for label in range(labels.max() + 1))
    medoids, share = cluster_medoids(distances, min_samples, 4)
    assert share[::-1] == pytest.approx(expected)
    assert (len(medoids) > 3) == (min_samples < 200)


def test_presets_have_their_names(vit: Sam) -> None:
    expected = {"low-latency": (2, 10), "high-quality": (2, 5), "sam3d": (5, 40), "sam1": (2, 3)}
    for preset, numbers in expected.items():
        strategy = make_strategy(f"attention-{preset}", vit)
        assert (strategy.min_samples, strategy.min_cluster_size) == numbers
    strategy = make_strategy("attention", vit, min_cluster_size=7)
    assert (strategy.min_samples, strategy.min_cluster_size) == (2, 7)


def test_what_describes_a_cell_depends_on_the_model(small_sam: Sam, tiny: Sam, vit: Sam) -> None:
    assert make_strategy("attention", vit).head == (2, 0)
    assert make_strategy("attention", vit, block=0, head=3).head == (0, 3)
    assert make_strategy("attention", tiny).head is None
    assert make_strategy("attention", tiny, rows="attention").head == (1, 0)
    assert make_strategy("attention", small_sam).head is None


@pytest.mark.parametrize("rows", ["attention", "similarity"])
@pytest.mark.parametrize("hw", [(50, 128), (128, 37)])
def test_prompts_are_cells_of_the_photo_and_the_same_each_time(tiny: Sam, hw: tuple[int, int], rows: str) -> None:
    rgb = np.kron(np.random.default_rng(0).integers(0, 255, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    photo = encode(tiny, np.ascontiguousarray(rgb[: hw[0], : hw[1]]))
    fates = Fates()
    options = {"rows": rows} | ({"head": 3} if rows == "attention" else {})
    strategy = make_strategy("attention-sam1", tiny, **options)
    (prompts,) = strategy.rounds(photo, fates)
    points = prompts.coords_px[:, 0]
    assert (points > 0).all()
    assert (points < hw[::-1]).all()
    assert len(points) > 1
    assert fates.dropped.total() == 0
    assert (np.diff(prompts.confidence) <= 0).all()
    centres = {tuple(centre) for centre in np.float32(cell_centres_px(photo))}
    assert {tuple(point) for point in points} <= centres
    encode(tiny, rgb)
    (again,) = strategy.rounds(encode(tiny, photo.rgb), Fates())
    assert (again.coords_px == prompts.coords_px).all()
    fates = Fates()
    (few,) = make_strategy("attention-sam1", tiny, max_prompts=1, **options).rounds(photo, fates)
    assert (few.coords_px == prompts.coords_px[:1]).all()
    assert fates.dropped == {"more than max_prompts": len(prompts) - 1}


def test_cells_are_centred_in_what_they_show_of_the_photo(tiny: Sam) -> None:
    photo = encode(tiny, np.zeros((50, 128, 3), np.uint8))  # 12.5 rows of cells, 4 px each
    centres = cell_centres_px(photo).reshape(13, 32, 2)
    assert centres[0, 0] == pytest.approx([2, 2])
    assert centres[12, 31] == pytest.approx([126, 49])


def test_where_nothing_clusters_nothing_is_asked(small_sam: Sam) -> None:
    fates = Fates()
    photo = encode(small_sam, np.zeros((16, 128, 3), np.uint8))
    assert list(make_strategy("attention", small_sam).rounds(photo, fates)) == []
    assert fates.dropped.total() == 0
    assert AutoMaskGenerator(small_sam, prompts="attention").label(photo.rgb).records == []


def test_encoders_without_global_attention_compare_embeddings(small_sam: Sam, scene: np.ndarray) -> None:
    strategy = make_strategy("attention", small_sam)
    photo = encode(small_sam, scene)
    cells = photo.embedding[0, :, :6].flatten(1).numpy()
    cells = cells - cells.mean(axis=1, keepdims=True)
    cells = cells / np.linalg.norm(cells, axis=0)
    rows = cells.T @ cells
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(strategy.distances(photo), 1 - rows @ rows.T, atol=1e-5)


def test_what_does_not_exist_is_named(small_sam: Sam, tiny: Sam, vit: Sam) -> None:
    for model, options, message in [
        (small_sam, {"rows": "attention"}, "small has no block of global attention; use rows=similarity"),
        (vit, {"block": 1}, r"block=1 of vit has no global attention, \[0, 2\] have"),
        (tiny, {"head": 8, "rows": "attention"}, "head=8; block 1 of tiny has heads 0 to 7"),
        (tiny, {"head": 1}, "block and head belong to rows=attention"),
        (tiny, {"rows": "columns"}, "rows='columns'; choose from None, attention, similarity"),
        (tiny, {"min_samples": 0}, "min_samples=0; expected a whole number of at least 1"),
        (tiny, {"min_cluster_size": 1}, "min_cluster_size=1; expected a whole number of at least 2"),
        (tiny, {"max_prompts": 0}, "max_prompts=0; expected a whole number of at least 1"),
        (tiny, {"k": 1}, "unknown option 'k'; choose from rows, block"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_strategy("attention", model, **options)
