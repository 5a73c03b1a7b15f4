"""Prompts, encoding and decoding against segment-anything's own predictor."""

from __future__ import annotations

from functools import partial
from threading import get_ident

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from aopsam.sam.decode import (
    Round,
    decodable_together,
    decode_passing,
    decode_prompts,
    decode_together,
    masks_on_cells,
    upscale,
)
from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.decoders.sam2 import SAM2_MODELS
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.fast_decoder import Made
from aopsam.sam.model import assemble
from aopsam.sam.prompts import Prompts
from tests.helpers.small_sams import SmallEncoder


@pytest.fixture
def photo(small_sam: Sam, scene: np.ndarray) -> EncodedPhoto:
    return encode(small_sam, scene)


@pytest.fixture
def predictor(small_sam: Sam, scene: np.ndarray) -> SamPredictor:
    predictor = SamPredictor(small_sam)
    predictor.set_image(scene)
    return predictor


def test_embedding_and_content(photo: EncodedPhoto, predictor: SamPredictor) -> None:
    assert torch.equal(photo.embedding, predictor.features)
    assert photo.input_hw == (96, 128)
    assert photo.content_cells == (6, 8)


def test_points_decode_as_in_segment_anything(photo: EncodedPhoto, predictor: SamPredictor) -> None:
    points = np.array([[10.0, 20.0], [300.0, 200.0], [160.5, 120.25]])
    logits, iou = decode_prompts(photo, Prompts.from_points(points), points_per_batch=2)
    full = upscale(photo, logits.flatten(0, 1)).unflatten(0, (3, 3))
    for i, point in enumerate(points):
        masks, scores, low_res = predictor.predict(point[None], np.array([1]), return_logits=True)
        assert logits[i].numpy() == pytest.approx(
            low_res[:, :28], abs=1e-4
        )  # 24 rows show the photo, and one more cell
        assert iou[i].numpy() == pytest.approx(scores, abs=1e-5)
        assert full[i].numpy() == pytest.approx(masks, abs=1e-4)


def test_boxes_decode_as_in_segment_anything_to_one_mask(photo: EncodedPhoto, predictor: SamPredictor) -> None:
    box = np.array([10.0, 20.0, 100.0, 90.0])
    logits, iou = decode_prompts(photo, Prompts.from_boxes(box[None]))
    _, scores, low_res = predictor.predict(box=box, multimask_output=False)
    assert logits.shape[:2] == (1, 1)
    assert logits[0].numpy() == pytest.approx(low_res[:, :28], abs=1e-4)
    assert iou[0].numpy() == pytest.approx(scores, abs=1e-5)
    assert decode_prompts(photo, Prompts.from_boxes(box[None]), multimask=True)[0].shape[1] == 3


@pytest.mark.parametrize("kind", ["point", "box"])
def test_prompts_of_several_points_decode_as_in_segment_anything(
    photo: EncodedPhoto, predictor: SamPredictor, kind: str
) -> None:
    points, labels = np.array([[200.0, 150.0], [50.0, 30.0]]), np.array([0, 1])
    first, box = np.array([10.0, 20.0]), np.array([10.0, 20.0, 100.0, 90.0])
    prompts = Prompts.from_points(first[None]) if kind == "point" else Prompts.from_boxes(box[None])
    logits, iou = decode_prompts(photo, prompts.with_points(points[None], labels[None]), multimask=True)
    _, scores, low_res = predictor.predict(
        np.concatenate([first[None], points]) if kind == "point" else points,
        np.concatenate([[1], labels]) if kind == "point" else labels,
        box=None if kind == "point" else box,
    )
    assert logits[0].numpy() == pytest.approx(low_res[:, :28], abs=1e-4)
    assert iou[0].numpy() == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("multimask", [True, False])
def test_the_fast_decoder_is_segment_anythings(tiny: Sam, scene: np.ndarray, multimask: bool) -> None:
    photo = encode(tiny, scene)
    points = np.random.default_rng(0).random((37, 2)) * [320, 240]
    coords = torch.from_numpy(points).float()[:, None] * (512 / 320)
    sparse, dense = tiny.prompt_encoder(points=(coords, torch.ones(37, 1)), boxes=None, masks=None)
    with torch.inference_mode():
        reference, iou = tiny.mask_decoder(
            photo.embedding, tiny.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=multimask
        )
    rows, columns = (4 * cells for cells in photo.mask_cells)
    assert (rows, columns) == (100, 128)  # 384 of 512 pixels show the photo; what lies below is not made
    reference = reference[..., :rows, :columns]
    decoded = decode_passing(photo, Prompts.from_points(points), multimask=multimask)
    assert torch.allclose(decoded.predicted_iou, iou, atol=1e-5)
    assert torch.allclose(decoded.logits, reference.flatten(0, 1), atol=1e-3)
    ordered = iou.flatten().sort().values
    widest = int(ordered.diff().argmax())
    bar = float(ordered[widest : widest + 2].mean())  # no rounding reaches across it
    some = decode_passing(photo, Prompts.from_points(points), multimask=multimask, min_iou=bar)
    assert some.index.tolist() == (iou > bar).nonzero().tolist()
    assert torch.allclose(some.logits, reference[iou > bar], atol=1e-3)


def test_an_upright_photo_decodes_as_in_segment_anything(tiny: Sam, scene: np.ndarray) -> None:
    upright = np.ascontiguousarray(scene.transpose(1, 0, 2))
    photo, predictor = encode(tiny, upright), SamPredictor(tiny)
    predictor.set_image(upright)
    masks, scores, _ = predictor.predict(np.array([[100.0, 200.0]]), np.array([1]), return_logits=True)
    logits, iou = decode_prompts(photo, Prompts.from_points(np.array([[100.0, 200.0]])))
    assert logits.shape[-2:] == (128, 100)
    assert iou[0].numpy() == pytest.approx(scores, abs=1e-5)
    assert upscale(photo, logits[0]).numpy() == pytest.approx(masks, abs=1e-3)


def test_half_precision_decodes_as_single_precision_does(scene: np.ndarray) -> None:
    torch.manual_seed(0)
    model = assemble(SmallEncoder())
    points = Prompts.from_points(np.array([[40.0, 60.0], [200.0, 100.0]]))
    logits, iou = decode_prompts(encode(model, scene), points)
    half_logits, half_iou = decode_prompts(encode(model.half(), scene), points)
    assert half_iou.numpy() == pytest.approx(iou.numpy(), abs=2e-2)
    assert ((half_logits > 0) == (logits > 0)).float().mean() > 0.97


@pytest.mark.parametrize("boxes", [False, True])
def test_portions_side_by_side_are_those_of_one_thread(
    photo: EncodedPhoto, monkeypatch: pytest.MonkeyPatch, boxes: bool
) -> None:
    corner = np.random.default_rng(0).random((75, 2)) * [200, 140]
    prompts = Prompts.from_boxes(np.hstack([corner, corner + 50])) if boxes else Prompts.from_points(corner)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = decode_passing(photo, prompts)
    bar = float(alone.predicted_iou.median()) + 1e-4
    alone = decode_passing(photo, prompts, min_iou=bar)
    sizes, kind = set(), type(photo.decoder)
    real = kind.__call__

    def noting(decoder: object, sparse: torch.Tensor, counts: list[int], **options: object) -> list[Made]:
        sizes.add((len(sparse), get_ident() == main, torch.is_inference_mode_enabled()))
        return real(decoder, sparse, counts, **options)

    main = get_ident()
    monkeypatch.setattr(kind, "__call__", noting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with torch.autocast("cpu"):  # a caller's, which is not the workers'
        several = decode_passing(photo, prompts, min_iou=bar)
    assert sizes == {(13, False, True), (10, False, True)}  # equal portions, at most 16: the last has what is left
    assert torch.allclose(several.predicted_iou, alone.predicted_iou, atol=1e-5)
    assert several.index.tolist() == alone.index.tolist()
    assert torch.allclose(several.logits, alone.logits, atol=1e-4)
    sizes.clear()
    decode_passing(photo, prompts, min_iou=bar, points_per_batch=40)  # memory for two portions of 16
    assert {size for size, *_ in sizes} == {13, 10}
    sizes.clear()
    decode_passing(photo, prompts, min_iou=bar, points_per_batch=20)
    assert sizes == {(15, True, True)}


def test_out_of_memory_halves_the_batch_and_goes_on(photo: EncodedPhoto, monkeypatch: pytest.MonkeyPatch) -> None:
    points = Prompts.from_points(np.random.default_rng(0).random((9, 2)) * [320, 240])
    expected = decode_prompts(photo, points)
    sizes, kind = [], type(photo.decoder)
    real = kind.__call__

    def short_of_memory(decoder: object, sparse: torch.Tensor, counts: list[int], **options: object) -> list[Made]:
        sizes.append(len(sparse))
        if len(sparse) > 2:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return real(decoder, sparse, counts, **options)

    monkeypatch.setattr(kind, "__call__", short_of_memory)
    logits, iou = decode_prompts(photo, points)
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    assert torch.allclose(logits, expected[0], atol=1e-5)
    assert torch.allclose(iou, expected[1], atol=1e-6)

    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(kind, "__call__", broken)
    with pytest.raises(RuntimeError, match="something else"):
        decode_prompts(photo, points)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("name", ["sam", "efficient_sam", "sam2"])
def test_prompts_of_several_photos_decode_as_those_of_each(scene: np.ndarray, name: str, boxes: bool) -> None:
    torch.manual_seed(0)
    builders = {"sam": lambda: assemble(SmallEncoder()), "efficient_sam": partial(efficient_sam_ti, 128)}
    model = (builders | {"sam2": partial(SAM2_MODELS["hiera_t"], 128)})[name]()
    draw, rounds = np.random.default_rng(0), []
    for rgb, count in ((scene, 3), (scene[:90, ::-1], 1), (scene[:, :110], 4)):
        corner = draw.random((count, 2)) * 40
        prompts = Prompts.from_boxes(np.hstack([corner, corner + 50])) if boxes else Prompts.from_points(corner)
        photo = encode(model, rgb)
        estimates = decode_prompts(photo, prompts)[1]
        rounds.append(Round(photo, prompts, float(estimates.mean()) - 1e-4))  # about half of them pass
    for together, asked in zip(decode_together(rounds), rounds, strict=True):
        alone = decode_passing(asked.photo, asked.prompts, min_iou=asked.min_iou)
        assert torch.allclose(together.predicted_iou, alone.predicted_iou, atol=1e-5)
        assert together.index.tolist() == alone.index.tolist()
        assert together.logits.shape == alone.logits.shape
        assert torch.allclose(together.logits, alone.logits, atol=1e-4)


def test_small_rounds_of_a_kind_are_decoded_together(photo: EncodedPhoto) -> None:
    points, boxes = Prompts.from_points(np.ones((30, 2))), Prompts.from_boxes(np.ones((30, 4)))
    more = points.with_points(np.ones((30, 1, 2)), np.ones((30, 1), np.int64))
    prompts = [points[:5], boxes[:4], points[:0], points[:16], points[:8], more[:2], boxes[:9], points[:4]]
    rounds = [Round(photo, some) for some in prompts]
    assert decodable_together(rounds, 64) == [[0, 4], [1, 6], [2], [3], [5], [7]]  # 16 at once on a CPU
    assert decodable_together(rounds, 9) == [[0], [1], [2], [3], [4], [5], [6], [7]]


def test_no_prompts_decode_to_nothing(photo: EncodedPhoto) -> None:
    logits, iou = decode_prompts(photo, Prompts.from_points(np.zeros((0, 2))))
    assert logits.shape == (0, 3, 28, 32)
    assert iou.shape == (0, 3)


def test_masks_on_cells_keep_small_masks_and_ignore_padding(photo: EncodedPhoto) -> None:
    logits = torch.full((2, 32, 32), -1.0)
    logits[0, 5, 6] = 1.0  # a sixteenth of cell (1, 1)
    logits[1, 24:] = 1.0  # rows 24 and on show padding
    cells = masks_on_cells(photo, logits)
    assert cells.shape == (2, 6, 8)
    assert cells[0, 1, 1] == 1 / 16
    assert cells[0].sum() == 1 / 16
    assert cells[1].sum() == 0
    assert masks_on_cells(photo, logits[:0]).shape == (0, 6, 8)


def test_what_a_mask_covers_of_the_padding_in_a_cell_of_both_does_not_count(small_sam: Sam) -> None:
    photo = encode(small_sam, np.zeros((210, 320, 3), np.uint8))  # 84 of 128 rows: a quarter of the sixth row of cells
    upright = encode(small_sam, np.zeros((320, 210, 3), np.uint8))
    logits = torch.full((2, 32, 32), -1.0)
    logits[0, 21:] = 1.0  # the padding alone
    logits[1, 20:] = 1.0  # one of four low-resolution rows in a cell, and the padding
    cells = masks_on_cells(photo, logits)
    assert cells.shape == (2, 6, 8)
    assert cells[0].sum() == 0
    assert (cells[1, 5] == 1 / 4).all()
    assert torch.equal(masks_on_cells(upright, logits.transpose(1, 2)), cells.transpose(1, 2))


def test_prompts_slice_by_mask_and_range() -> None:
    prompts = Prompts.from_points(np.arange(6).reshape(3, 2), np.array([0.9, 0.5, 0.1]))
    assert prompts[1:].coords_px[:, 0].tolist() == [[2, 3], [4, 5]]
    assert prompts[np.array([True, False, True])].confidence.tolist() == pytest.approx([0.9, 0.1])
    assert not prompts[:0].are_boxes


def test_a_mask_prompt_works_in_half_precision(scene: np.ndarray) -> None:
    model = assemble(SmallEncoder()).half()
    predictor = SamPredictor(model)
    predictor.set_image(scene)
    masks, _, _ = predictor.predict(np.array([[9, 9]]), np.array([1]), mask_input=np.zeros((1, 32, 32), np.float32))
    assert masks.shape == (3, 240, 320)
