"""Small SAMs of `transformers` with random weights at 64 px, saved as checkpoints are: for tests of what runs them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIDE = 64
_DECODER = {"hidden_size": 32, "mlp_dim": 48, "num_attention_heads": 4, "iou_head_hidden_dim": 24}


def _sam(transformers: Any, name: str, **of_decoder: int) -> Any:
    vision = {"hidden_size": 24, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": SIDE, "patch_size": 8, "window_size": 3, "global_attn_indexes": [1], "num_pos_feats": 16}
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 8, "image_embedding_size": 8}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER | of_decoder
    )
    return getattr(transformers, f"{name}Model")(config)


def _sam2_like(transformers: Any, name: str, vision: dict[str, Any], patch: int = 16) -> Any:
    cells = SIDE // patch
    vision |= {"fpn_hidden_size": 32, "backbone_feature_sizes": [[scale * cells] * 2 for scale in (4, 2, 1)]}
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": patch}
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER)
    )
    return getattr(transformers, f"{name}Model")(config)


def _sam2(transformers: Any) -> Any:
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 12,
        "num_attention_heads": 1,
        "image_size": [SIDE] * 2,
    }
    hiera |= {
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [12, 24, 48, 96],
        "window_size_per_stage": [4, 2, 2, 2],
    }
    hiera |= {"num_attention_heads_per_stage": [1, 2, 4, 8], "global_attention_blocks": [3]}
    hiera |= {"window_positional_embedding_background_size": [2, 2]}
    vision = {"model_type": "sam2_vision_model", "backbone_config": hiera, "backbone_channel_list": [96, 48, 24, 12]}
    return _sam2_like(transformers, "Sam2", vision)


def _edgetam(transformers: Any) -> Any:
    backbone = {
        "model_type": "timm_wrapper",
        "architecture": "test_efficientnet",
        "num_classes": 2,
        "label_names": ["a"],
    }
    backbone |= {"model_args": {"in_chans": 3, "features_only": True, "out_indices": [1, 2, 3, 4]}}
    vision = {"model_type": "edgetam_vision_model", "backbone_config": backbone}
    vision |= {"backbone_channel_list": [64, 48, 32, 24]}
    return _sam2_like(transformers, "EdgeTam", vision)


def _sam3_tracker(transformers: Any) -> Any:
    vit = {"model_type": "sam3_vit_model", "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
    vit |= {"num_attention_heads": 2, "image_size": SIDE, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1]}
    vit |= {"pretrain_image_size": 32}
    vision = {"model_type": "sam3_vision_model", "backbone_config": vit}
    return _sam2_like(transformers, "Sam3Tracker", vision, patch=8)


MAKERS: dict[str, Callable[[Any], Any]] = {
    "sam": lambda transformers: _sam(transformers, "Sam"),
    "sam_hq": lambda transformers: _sam(transformers, "SamHQ", vit_dim=24),
    "sam2": _sam2,
    "edgetam": _edgetam,
    "sam3_tracker": _sam3_tracker,
}
"""Builders of small models by family, given `transformers`."""


def small_model(family: str) -> Any:
    """Return a model with random weights, the same each time and large enough that masks differ, in eval mode."""
    import transformers

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MAKERS[family](transformers).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim > 1 else 0.3))
        model.mask_decoder.iou_prediction_head.proj_out.bias.add_(0.9)  # above thresholds, for most prompts
    return model


def save_small(folder: Path, family: str = "sam", processor: dict[str, Any] | None = None) -> Path:
    """Save a small model as `save_pretrained` does, with an image processor's file where one is given."""
    small_model(family).save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
