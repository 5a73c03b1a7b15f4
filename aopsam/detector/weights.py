"""Write and read the detector's weights: safetensors in half precision, with the network's sizes as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from aopsam._half_weights import load_half, save_half
from aopsam.detector.network import BoxDetector

BUNDLED = Path(__file__).parent.parent / "weights" / "detector-tiny.safetensors"
"""Weights file of the detector for the bundled `tiny` SAM."""
_SHAPE = ("embedding_channels", "levels", "width")
"""Arguments that the network is built with, stored as metadata."""


def save_detector(detector: BoxDetector, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
    """Write a detector's weights in half precision.

    Args:
        detector: its `sam` and `sam_sha256` go into the metadata.
        path: file to write, ending in `.safetensors`.
        notes: further metadata (recipe, seed, data); keys of the detector's own metadata must not be in it.

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    own = {name: str(getattr(detector, name)) for name in ("sam", "sam_sha256", *_SHAPE)}
    save_half(detector, path, dict(notes or {}) | own)


def load_detector(path: Path | str | None = None) -> BoxDetector:
    """Read a detector written by `save_detector`: eval mode, float32, on the CPU.

    Args:
        path: file to read; None for the one bundled with `tiny`.

    Returns:
        The detector with `.sam` and `.sam_sha256` from the file's metadata and `.sha256` of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors file, or not one of a detector.
    """
    detector, _ = load_half(
        BUNDLED if path is None else path,
        "detector",
        lambda metadata, _: BoxDetector(*(int(metadata[name]) for name in _SHAPE)).float(),
        _SHAPE,
    )
    return detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
