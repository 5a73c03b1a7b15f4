"""Write and read a mask head's weights; find the one that belongs to a SAM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from segment_anything.modeling import Sam

from aopsam._half_weights import load_half, of_the_model, save_half
from aopsam.mask_head.network import MaskHead

BUNDLED = Path(__file__).parent.parent / "weights" / "mask-head-tiny.safetensors"
"""Weights file of the mask head for the bundled `tiny` SAM."""


def save_mask_head(head: MaskHead, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
    """Write a mask head's weights in half precision.

    Args:
        head: its `sam` and `sam_sha256` go into the metadata.
        path: file to write, ending in `.safetensors`.
        notes: further metadata (recipe, seed, data).

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    save_half(head, path, dict(notes or {}) | {"sam": head.sam, "sam_sha256": head.sam_sha256})


def load_mask_head(path: Path | str) -> MaskHead:
    """Read a mask head written by `save_mask_head`: eval mode, float32, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors file, or not one of a mask head.
    """
    head, _ = load_half(path, "mask_head", lambda _metadata, _tensors: MaskHead().float())
    return head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def find_mask_head(model: Sam, path: str | None = None) -> MaskHead | None:
    """Return the mask head that belongs to a model's very weights, on its device.

    Args:
        model: the SAM whose masks are to be drawn once more.
        path: the mask head's file; by default the bundled one, if it belongs to the model, else there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no mask head, or one of other weights.
    """
    head = _bundled() if path is None else load_mask_head(path)
    return of_the_model(head, model, "mask_head", path)


@cache
def _bundled() -> MaskHead:
    return load_mask_head(BUNDLED)
