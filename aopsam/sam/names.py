"""Names of models of `transformers`, `hf:ORG/NAME` and `hf:FOLDER`; without torch, for command lines."""

from __future__ import annotations

from pathlib import Path

PREFIX = "hf:"

TRAINABLE = ("tiny", "mobile_sam", "vit_b", "vit_l", "vit_h", "efficient_sam_ti", "efficient_sam_s")
"""Models that `aopsam.training` takes: prompts in the encoder's pixels, one embedding, segment-anything's decoder or
EfficientSAM's. SAM 2 (embeddings of three sizes) and EfficientViT-SAM (prompts in other pixels) are not among them."""


def is_hugging_face(name: str) -> bool:
    """Return whether a name means a model of `transformers`."""
    return name.startswith(PREFIX)


def absolute_name(name: str) -> str:
    """Return a name with its folder's absolute path, where it names a folder of this machine."""
    folder = Path(name.removeprefix(PREFIX)).expanduser()
    return f"{PREFIX}{folder.absolute()}" if is_hugging_face(name) and folder.is_dir() else name
