"""Annotated shards in SA-1B's layout, and a SAM with random weights, for tests."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from aopsam.masks import rle
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import save_predictor
from aopsam.sam.checkpoints import file_sha256
from aopsam.sam.model import EMBED_DIM
from aopsam.sam.registry import MODELS


def rectangle(hw: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(hw, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def jpeg(seed: int, hw: tuple[int, int]) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (hw[0] // 16, hw[1] // 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((hw[1], hw[0]), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def annotation(mask: np.ndarray, point: tuple[float, float] | None = None) -> dict[str, Any]:
    record: dict[str, Any] = {"segmentation": rle.encode(mask), "area": int(mask.sum())}
    return record | ({} if point is None else {"point_coords": [list(point)]})


def two_objects(hw: tuple[int, int] = (96, 128)) -> list[dict[str, Any]]:
    return [annotation(rectangle(hw, 10, 10, 40, 30), (20.0, 30.0)), annotation(rectangle(hw, 50, 60, 30, 50))]


def write_shard(path: Path, samples: dict[str, tuple[bytes, Any]]) -> Path:
    """A tar of `ID.jpg` and `ID.json`; a sample is (photo, annotations), and annotations None leave the JSON out."""
    with tarfile.open(path, "w") as tar:
        for name, (photo, annotations) in samples.items():
            members = {f"{name}.jpg": photo}
            if annotations is not None:
                image = {"image_id": 0, "width": 128, "height": 96, "file_name": f"{name}.jpg"}
                members[f"{name}.json"] = json.dumps({"image": image, "annotations": annotations}).encode()
            for member, data in members.items():
                info = tarfile.TarInfo(f"./{member}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


class ToyEncoder(nn.Module):
    """One convolution; reads squares of 128 px."""

    img_size = 128

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, EMBED_DIM, 16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patch(x)


def save_random(name: str, folder: Path) -> tuple[Path, Path]:
    """Random weights of a model of the registry, which keeps every mask, and of a predictor that belongs to it."""
    torch.manual_seed(0)
    model = MODELS[name].build()
    sam, predictor = folder / f"{name}.safetensors", folder / "predictor.safetensors"
    metadata = {"pred_iou_thresh": "0", "stability_score_thresh": "0", "box_nms_thresh": "0.9"}
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, sam, metadata)
    network = PromptPredictor()
    network.sam, network.sam_sha256 = name, file_sha256(sam)
    network.sampling = Sampling(threshold=0.0)
    save_predictor(network, predictor)
    return sam, predictor
