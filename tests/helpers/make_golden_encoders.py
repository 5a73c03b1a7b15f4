"""Take tests/data/{efficient_sam,efficientvit_sam,sam2}_*_golden.npz from the models' reference implementations.

    git clone https://github.com/yformer/EfficientSAM
    git clone https://github.com/mit-han-lab/efficientvit
    git clone https://github.com/facebookresearch/sam2 && pip install hydra-core iopath tqdm
    PYTHONPATH=.:EfficientSAM:efficientvit:sam2 python tests/helpers/make_golden_encoders.py

The files in the repository come from commits d525f622e6f640acf5a0fc37c7ca1f243da5bde0 (EfficientSAM),
de7d7733cc0329f391b33f1f459271562ec27bd5 (efficientvit) and 2b90b9f5ceec907a1c18123530e92e794ad901a4 (sam2). The names
are those of the reference models' state dicts, which the references load their published files into strictly; the
weights are random, the same as in the tests. A photo goes through the reference's own resizing, encoder, prompt encoder
and decoder, most of them in a smaller square (`tests.helpers.golden.SQUARE_PX`), which changes no weight.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import aopsam  # isort: skip  # noqa: F401  torchvision works after it

import torch
from torch import nn

from tests.helpers.golden import BOXES, PHOTO, POINTS, SQUARE_PX, random_state, resize_square, samples, save

Answers = dict[str, tuple[torch.Tensor, torch.Tensor]]


def _each(decode: Callable[[str, bool], tuple[torch.Tensor, torch.Tensor]]) -> Answers:
    return {
        f"{kind}_{'several' if several else 'single'}": decode(kind, several)
        for kind in ("points", "boxes")
        for several in (True, False)
    }


def _fill(model: nn.Module) -> dict[str, list[int]]:
    """Random weights into the model; their names and shapes."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(random_state(shapes), strict=True)
    model.eval()
    return shapes


def efficient_sam(name: str, channels: int, heads: int) -> None:
    """EfficientSAM, through `get_image_embeddings` and `predict_masks`."""
    from efficient_sam.efficient_sam import build_efficient_sam

    model = build_efficient_sam(channels, heads)
    shapes = _fill(model)
    resize_square(model.image_encoder, model.prompt_encoder, SQUARE_PX[name])
    height, width = PHOTO.shape[:2]
    embedding = model.get_image_embeddings(torch.from_numpy(PHOTO).permute(2, 0, 1)[None] / 255)

    def decode(kind: str, several: bool) -> tuple[torch.Tensor, torch.Tensor]:
        coords, labels = (POINTS[:, None], [[1]]) if kind == "points" else (BOXES.reshape(-1, 2, 2), [[2, 3]])
        coords, labels = torch.from_numpy(coords)[None], torch.tensor(labels).expand(len(coords), -1)[None]
        logits, iou = model.predict_masks(embedding, coords, labels, several, height, width)
        return logits[0], iou[0]

    save(name, shapes, samples(embedding, _each(decode)))


def efficientvit_sam() -> None:
    """EfficientViT-SAM-L2, through `EfficientViTSamPredictor`."""
    for training_or_gpu in ("drop", "triton_rms_norm"):  # they need more packages, this model needs neither
        name = f"efficientvit.models.nn.{training_or_gpu}"
        sys.modules[name] = types.SimpleNamespace(TritonRMSNorm2dFunc=None)  # type: ignore[assignment]
    from efficientvit.models.efficientvit.sam import EfficientViTSamPredictor
    from efficientvit.sam_model_zoo import create_efficientvit_sam_model

    model = create_efficientvit_sam_model("efficientvit-sam-l2", pretrained=False)
    shapes = _fill(model)
    predictor = EfficientViTSamPredictor(model)
    predictor.set_image(PHOTO)

    def decode(kind: str, several: bool) -> tuple[torch.Tensor, torch.Tensor]:
        points, boxes = predictor.apply_coords(POINTS[:, None]), predictor.apply_boxes(BOXES)
        given: tuple[Any, ...] = (torch.from_numpy(points).float(), torch.ones(len(points), 1), None)
        if kind == "boxes":
            given = (None, None, torch.from_numpy(boxes).float())
        _, iou, logits = predictor.predict_torch(*given, None, several)
        return logits, iou

    save("efficientvit_sam_l2", shapes, samples(predictor.features, _each(decode)))


def sam2(name: str, config: str) -> None:
    """A SAM 2 of the version 2.1, whose files hold all that those of 2.0 do, through `SAM2ImagePredictor`."""
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    size = SQUARE_PX[name]
    model = build_sam2(config, device="cpu")
    shapes = _fill(model)
    resize_square(model, model.sam_prompt_encoder, size)
    model.image_size = size
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(size // stride, size // stride) for stride in (4, 8, 16)]
    predictor.set_image(PHOTO)

    def decode(kind: str, several: bool) -> tuple[torch.Tensor, torch.Tensor]:
        coords, labels = (POINTS[:, None], [[1]]) if kind == "points" else (BOXES.reshape(-1, 2, 2), [[2, 3]])
        coords = predictor._transforms.transform_coords(torch.from_numpy(coords), True, PHOTO.shape[:2])
        points = (coords, torch.tensor(labels).expand(len(coords), -1))
        sparse, dense = model.sam_prompt_encoder(points=points, boxes=None, masks=None)
        features = predictor._features
        place = model.sam_prompt_encoder.get_dense_pe()
        return model.sam_mask_decoder(
            features["image_embed"], place, sparse, dense, several, True, features["high_res_feats"]
        )[:2]

    save(name, shapes, samples(predictor.get_image_embedding(), _each(decode)))


@torch.inference_mode()
def main() -> None:
    """Write all files."""
    efficient_sam("efficient_sam_ti", 192, 3)
    efficient_sam("efficient_sam_s", 384, 6)
    efficientvit_sam()
    sam2("sam2_hiera_t", "configs/sam2.1/sam2.1_hiera_t.yaml")
    sam2("sam2_hiera_s", "configs/sam2.1/sam2.1_hiera_s.yaml")
    sam2("sam2_hiera_b+", "configs/sam2.1/sam2.1_hiera_b+.yaml")
    sam2("sam2_hiera_l", "configs/sam2.1/sam2.1_hiera_l.yaml")


if __name__ == "__main__":
    main()
