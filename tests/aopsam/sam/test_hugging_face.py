from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.prompting.embedding_source import EmbeddingSource
from aopsam.sam.checkpoints import CheckpointError
from aopsam.sam.decode import Round, decode_passing, decode_prompts, decode_together
from aopsam.sam.encode import encode, encode_together, square_of
from aopsam.sam.openvino_encoder import use_openvino
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import known_digest, load_sam
from tests.helpers.small_hugging_face import MAKERS, SIDE, small_model

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    for family in MAKERS:
        small_model(family).save_pretrained(root / family)
    return {family: root / family for family in MAKERS}


def photo(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


LOST = "point_embedding, iou_token_out = self.transformer("
"""Line of SamHQ's decoder that drops what the transformer made of the image."""

PROMPTS = {
    "points": Prompts.from_points(np.array([[5, 6], [40, 30], [55, 0]])),
    "several points": Prompts.from_labelled_points(
        np.array([[[5, 6], [20, 11]], [[40, 30], [3, 38]]]), np.array([[1, 0], [1, 1]])
    ),
    "boxes": Prompts.from_boxes(np.array([[3, 4, 30, 31], [10, 0, 55, 39], [0, 0, 9, 8]])),
    "boxes and points": Prompts.from_boxes(np.array([[3, 4, 30, 31], [10, 0, 55, 39]])).with_points(
        np.array([[[9, 9]], [[30, 20]]]), np.array([[1], [0]])
    ),
}


def reference(model: Any, pixels: torch.Tensor, prompts: Prompts, scale: torch.Tensor, multimask: bool) -> Any:
    """Run the model's own `forward`."""
    coords = torch.from_numpy(prompts.coords_px) * scale
    labels = torch.from_numpy(prompts.labels)
    given: dict[str, Any] = {}
    if prompts.are_boxes:
        given["input_boxes"] = coords[:, :2].reshape(1, -1, 4)
        coords, labels = coords[:, 2:], labels[:, 2:]
    else:
        coords, labels = coords[:, :-1], labels[:, :-1]
    if coords.shape[1]:
        given |= {"input_points": coords[None], "input_labels": labels[None]}
    with torch.inference_mode():
        out = model(pixel_values=pixels, multimask_output=multimask, **given)
    return out.pred_masks[0], out.iou_scores[0]


def mended(family: str) -> Any:
    """A small model without what transformers 5.24 gets wrong: see `hugging_face.py`."""
    model = small_model(family)
    if family == "sam_hq":
        decoder = type(model.mask_decoder)
        source, scope = inspect.getsource(decoder.forward), dict[str, Any]()
        assert LOST in source
        mended = textwrap.dedent(source.replace(LOST, "point_embedding, image_embeddings = self.transformer("))
        exec(mended, vars(sys.modules[decoder.__module__]), scope)
        model.mask_decoder.forward = scope["forward"].__get__(model.mask_decoder)
    if family == "sam3_tracker":
        model.vision_encoder.neck.fpn_layers = model.vision_encoder.neck.fpn_layers[:3]
    return model


@pytest.mark.parametrize("family", MAKERS)
def test_masks_and_estimates_are_those_of_transformers(family: str, folders: dict[str, Path]) -> None:
    theirs, ours = mended(family), load_sam(f"hf:{folders[family]}")
    rgb = photo()
    encoded = encode(ours, rgb)
    pixels, (height, width) = square_of(ours, rgb)
    scale = torch.tensor([width / rgb.shape[1], height / rgb.shape[0]])
    rows, columns = (4 * cells for cells in encoded.mask_cells)
    for kind, prompts in PROMPTS.items():
        for multimask in (True, False):
            masks, scores = reference(theirs, pixels, prompts, scale, multimask)
            made, estimates = decode_prompts(encoded, prompts, multimask=multimask)
            where = f"{kind}, {multimask=}"
            assert masks.std() > 0.01, "blind"
            torch.testing.assert_close(
                made, masks[..., :rows, :columns], atol=1e-4, rtol=1e-4, msg=lambda m, w=where: f"{w}: {m}"
            )
            torch.testing.assert_close(estimates, scores, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["sam_hq", "sam2"])
def test_photos_and_prompts_together_are_those_of_each_alone(family: str, folders: dict[str, Path]) -> None:
    model = load_sam(f"hf:{folders[family]}")
    rgbs, prompts = [photo(40, 56), photo(64, 30, seed=1)], PROMPTS["points"]
    together = decode_together([Round(each, prompts) for each in encode_together(model, rgbs)])
    for rgb, made in zip(rgbs, together, strict=True):
        logits, estimates = decode_prompts(encode(model, rgb), prompts)
        torch.testing.assert_close(made.logits, logits.flatten(0, 1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(made.predicted_iou, estimates, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["sam_hq", "sam2"])
def test_masks_that_do_not_pass_are_not_made(family: str, folders: dict[str, Path]) -> None:
    encoded = encode(load_sam(f"hf:{folders[family]}"), photo())
    for multimask in (True, False):
        logits, estimates = decode_prompts(encoded, PROMPTS["points"], multimask=multimask)
        bar = float(estimates.median())
        made = decode_passing(encoded, PROMPTS["points"], min_iou=bar, multimask=multimask)
        chosen = (estimates > bar).nonzero()
        assert 0 < len(chosen) < estimates.numel()
        assert made.index.tolist() == chosen.tolist()
        torch.testing.assert_close(made.logits, logits[tuple(chosen.T)], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "kind", "size"),
    [
        ("sam", "SamImageProcessor", {"longest_edge": SIDE}),
        ("sam2", "Sam2ImageProcessor", {"height": SIDE, "width": SIDE}),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_photos_are_prepared_as_by_the_checkpoints_own_processor(
    family: str, kind: str, size: dict[str, int], within: bool, tmp_path: Path, folders: dict[str, Path]
) -> None:
    import transformers

    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    processor = getattr(transformers, kind)(
        size=size, pad_size={"height": SIDE, "width": SIDE}, image_mean=mean, image_std=std
    )
    shutil.copytree(folders[family], tmp_path, dirs_exist_ok=True)
    processor.save_pretrained(tmp_path)
    if within:  # where `processor.save_pretrained` writes it
        written = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "preprocessor_config.json").unlink()
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": written}))
    model = load_sam(f"hf:{tmp_path}")
    for rgb in (photo(45, 100), photo(120, 50)):
        expected = processor(rgb, return_tensors="pt")["pixel_values"]
        levels = (square_of(model, rgb)[0] - expected).abs() * torch.tensor(std).view(3, 1, 1) * 255
        assert levels.max() < 1.01
        assert levels.mean() < 0.4


def test_without_a_processors_file_its_familys_constants_hold(folders: dict[str, Path]) -> None:
    sam, sam3 = (load_sam(f"hf:{folders[family]}") for family in ("sam", "sam3_tracker"))
    assert sam.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert sam3.pixel_std.flatten().tolist() == pytest.approx([127.5] * 3)
    assert [sam.thresholds.pred_iou_thresh, sam3.thresholds.pred_iou_thresh] == [0.88, 0.8]
    assert sam.image_encoder.img_size == SIDE


def test_checkpoints_for_videos_load_as_models_of_images(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["sam2"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"memory_encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    _change(tmp_path / "config.json", model_type="sam2_video")
    of_video, of_images = load_sam(f"hf:{tmp_path}"), load_sam(f"hf:{folders['sam2']}")
    rgb = photo()
    made, expected = (decode_prompts(encode(model, rgb), PROMPTS["boxes"])[0] for model in (of_video, of_images))
    assert torch.equal(made, expected)


def test_a_fine_tune_in_half_precision_and_several_files_loads(folders: dict[str, Path], tmp_path: Path) -> None:
    model = small_model("sam")
    with torch.no_grad():
        model.mask_decoder.mask_tokens.weight.mul_(1.5)
    model.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    tuned, plain = load_sam(f"hf:{tmp_path}"), load_sam(f"hf:{folders['sam']}")
    assert {parameter.dtype for parameter in tuned.parameters()} == {torch.float32}
    assert torch.allclose(tuned.mask_decoder.mask_tokens.weight, plain.mask_decoder.mask_tokens.weight * 1.5, atol=0.01)
    assert tuned.sha256 == known_digest(tuned.name) != plain.sha256
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    save_file({name: value + 1 for name, value in load_file(last).items()}, last, {"format": "pt"})
    assert known_digest(tuned.name) != tuned.sha256


def test_name_digest_and_networks_bound_to_it(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders["sam"].parent)
    model = load_sam("hf:sam")
    assert model.name == f"hf:{folders['sam']}"
    assert model.sha256 == hashlib.sha256((folders["sam"] / "model.safetensors").read_bytes()).hexdigest()
    predictor = SimpleNamespace(sam=model.name, sam_sha256=model.sha256)
    assert EmbeddingSource(model, predictor, "a predictor").sam is None
    source = EmbeddingSource(load_sam("tiny"), predictor, "a predictor")
    assert source.sam is not None
    assert source.sam.sha256 == model.sha256
    predictor.sam_sha256 = "0" * 64
    with pytest.raises(ValueError, match=f"a predictor was trained on the embeddings of {model.name}"):
        EmbeddingSource(load_sam("tiny"), predictor, "a predictor")


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _half_a_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _without_the_decoder(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "mask_decoder" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_only_a_pickle, "no model.safetensors, only pytorch_model.bin, which may hold code and is not read"),
        (_half_a_file, "transformers cannot read it"),
        (_without_the_decoder, "not all weights of a SamModel; missing: mask_decoder."),
        (lambda folder: (folder / "config.json").unlink(), "config.json: no such file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda folder: _change(folder / "config.json", model_type="clip"), "model_type 'clip' is no SAM"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text('{"size": {"longest_edge": 1024}}'),
            "size {'longest_edge': 1024}, where the model reads squares of 64 pixels",
        ),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text('{"resample": 3}'),
            "another rule than resample 2",
        ),
    ],
)
def test_bad_folders_are_refused_with_one_line(
    harm: Callable[[Path], object], said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["sam"], tmp_path, dirs_exist_ok=True)
    harm(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_sam(f"hf:{tmp_path}")
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_in_a_folder_does_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["sam"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "ours.py").write_text("raise SystemExit('code ran')\n")
    _change(tmp_path / "config.json", auto_map={"AutoConfig": "ours.C", "AutoModel": "ours.M"})
    assert load_sam(f"hf:{tmp_path}").sha256 == load_sam(f"hf:{folders['sam']}").sha256


@pytest.mark.parametrize("name", ["hf:", "hf:/no/such/folder", "hf:nowhere", "hf:s3://bucket/model"])
def test_names_that_are_neither_folder_nor_of_the_hub(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"write hf:FOLDER or hf:ORG/NAME"):
        load_sam(name)


def test_a_model_of_the_hub_comes_from_its_cache(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"^hf:org/small: neither a folder here nor to be had from the hub"):
        load_sam("hf:org/small")
    assert known_digest("hf:org/small") == ""
    cached = tmp_path / "models--org--small"
    shutil.copytree(folders["sam"], cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("a" * 40)
    model = load_sam("hf:org/small")
    assert (model.name, model.sha256) == ("hf:org/small", load_sam(f"hf:{folders['sam']}").sha256)


def test_what_is_wrong_besides_the_folder(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hf:{folders['sam']}"
    with pytest.raises(CheckpointError, match=r"names its weights itself: drop the checkpoint w\.pt"):
        load_sam(name, "w.pt")
    with pytest.raises(ValueError, match=r"did you mean hf:facebook/sam-vit-base\?"):
        load_sam("facebook/sam-vit-base")
    with pytest.raises(ValueError, match="run on PyTorch alone"):
        use_openvino(load_sam(name))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"pip install 'aopsam\[hf\]'"):
        load_sam(name)


def test_everything_mode_proposes_with_tiny_and_decodes_with_the_model(folders: dict[str, Path]) -> None:
    model = load_sam(f"hf:{folders['sam2']}")
    generator = AutoMaskGenerator(model, prompts="aop", pred_iou_thresh=0.0, stability_score_thresh=0.0)
    assert generator.strategies[0].weights()["predictor"]["sam"] == "tiny"
    masks = generator.generate(photo(60, 80))
    assert masks
    assert all(mask["segmentation"].shape == (60, 80) for mask in masks)
