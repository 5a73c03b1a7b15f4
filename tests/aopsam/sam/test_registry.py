from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import aopsam
from aopsam.sam.checkpoints import CheckpointError
from aopsam.sam.registry import MODELS, Thresholds, load_sam

State = dict[str, torch.Tensor]


def random_state(name: str) -> State:
    torch.manual_seed(0)
    return MODELS[name].build().state_dict()


@pytest.fixture(scope="module")
def tiny_state() -> State:
    return random_state("tiny")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_mobile_sam_loads_from_every_format(suffix: str, tmp_path: Path) -> None:
    state = random_state("mobile_sam")
    path = tmp_path / f"mobile_sam{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    model = load_sam("mobile_sam", path)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())
    assert not model.training
    assert model.device.type == "cpu"
    assert model.name == "mobile_sam"
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.thresholds == Thresholds(pred_iou_thresh=0.88, stability_score_thresh=0.95, box_nms_thresh=0.7)


def test_sam_predictor_accepts_a_loaded_model_in_both_precisions(tiny_state: State, tmp_path: Path) -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    save_file(tiny_state, tmp_path / "tiny.safetensors")
    model = load_sam("tiny", str(tmp_path / "tiny.safetensors"))
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    predictor = SamPredictor(model)
    predictor.set_image(rgb)
    masks, iou, _ = predictor.predict(np.array([[20, 20]]), np.array([1]))
    assert (masks.shape, iou.shape) == ((3, 48, 64), (3,))
    full = predictor.get_image_embedding()
    # The encoder's convolutions in half precision take long on a CPU: the decoder, from the same embedding, is enough.
    model.half()
    predictor.features = full.half()
    masks_half, iou_half, _ = predictor.predict(np.array([[20, 20]]), np.array([1]), box=np.array([5, 6, 40, 41]))
    assert masks_half.shape == (3, 48, 64)
    assert iou_half.dtype == np.float16


def test_half_precision_files_are_computed_in_float32(tiny_state: State, tmp_path: Path) -> None:
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tiny_state.items()}
    save_file(half, tmp_path / "tiny.safetensors")
    model = load_sam("tiny", tmp_path / "tiny.safetensors")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_thresholds_of_the_file_come_first(tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_state, path, metadata={"pred_iou_thresh": "0.5", "box_nms_thresh": "0.6", "card": "ours"})
    stated = replace(MODELS["tiny"].thresholds, pred_iou_thresh=0.5, box_nms_thresh=0.6)
    assert load_sam("tiny", path).thresholds == stated
    save_file(tiny_state, path, metadata={"pred_iou_thresh": "high"})
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors.*'pred_iou_thresh': 'high'"):
        load_sam("tiny", path)


def test_bundled_model_is_found_and_states_its_thresholds() -> None:
    model = aopsam.load_sam("tiny")
    assert model.image_encoder.img_size < 1024
    assert model.thresholds != Thresholds()


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(
        ValueError, match=r"'vit_x'; did you mean vit_l\? choose from tiny, mobile_sam, vit_b, vit_l, vit_h"
    ):
        load_sam("vit_x")


def test_weights_of_another_model_are_recognised(tmp_path: Path) -> None:
    torch.save(random_state("mobile_sam"), tmp_path / "sam.pth")
    with pytest.raises(
        CheckpointError, match=r"sam\.pth holds weights of mobile_sam, not of vit_h: pass --sam mobile_sam"
    ):
        load_sam("vit_h", tmp_path / "sam.pth")


def test_misfits_are_named(tiny_state: State, tmp_path: Path) -> None:
    first, second, *_ = tiny_state
    wrong = {key: tensor for key, tensor in tiny_state.items() if key != first}
    wrong |= {second: torch.zeros(2, 3), "optimizer.step": torch.zeros(1)}
    torch.save(wrong, tmp_path / "sam.pth")
    with pytest.raises(CheckpointError) as caught:
        load_sam("tiny", tmp_path / "sam.pth")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "sam.pth does not fit tiny",
        f"missing: {first}",
        "unexpected: optimizer.step",
        f"{second} [2, 3] instead",
    ):
        assert part in message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such file"):
        load_sam("tiny", tmp_path / "nowhere.pth")


def test_a_failed_download_tells_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # nothing listens there: no network
    with pytest.raises(CheckpointError) as caught:
        load_sam("vit_b")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("vit_b: ", "sam_vit_b_01ec64.pth", f"put the file at {tmp_path}", "--checkpoint FILE"):
        assert part in message
    assert list(tmp_path.iterdir()) == []
