"""Write and read the predictor's weights: safetensors in half precision, with SAM and sampling as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aopsam._half_weights import load_half, save_half
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling

BUNDLED = Path(__file__).parent.parent / "weights" / "predictor-tiny.safetensors"
"""Weights file of the predictor for the bundled `tiny` SAM."""


def save_predictor(predictor: PromptPredictor, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
    """Write a predictor's weights in half precision.

    Args:
        predictor: its `sam`, `sam_sha256` and `sampling` go into the metadata.
        path: file to write, ending in `.safetensors`.
        notes: further metadata (recipe, seed, data); keys of the predictor's own metadata must not be in it.

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    metadata = dict(notes or {}) | {
        "sam": predictor.sam,
        "sam_sha256": predictor.sam_sha256,
        "threshold": repr(predictor.sampling.threshold),
        "smoothing_sigma": repr(predictor.sampling.smoothing_sigma),
        "spacing": repr(predictor.sampling.spacing),
    }
    save_half(predictor, path, metadata)


def load_predictor(path: Path | str | None = None) -> PromptPredictor:
    """Read a predictor written by `save_predictor`: eval mode, float32, on the CPU.

    Args:
        path: file to read; None for the one bundled with `tiny`.

    Returns:
        The predictor with `.sam`, `.sam_sha256`, `.sampling` from the file's metadata and `.sha256` of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors file, or not one of a prompt predictor.
    """
    predictor, metadata = load_half(
        BUNDLED if path is None else path,
        "predictor",
        lambda _, tensors: PromptPredictor(embedding_channels=tensors["embedding.weight"].shape[1]).float(),
        ("threshold", "smoothing_sigma", "spacing"),
    )
    predictor.sampling = Sampling(
        threshold=float(metadata["threshold"]),
        smoothing_sigma=float(metadata["smoothing_sigma"]),
        spacing=int(metadata["spacing"]),
    )
    return predictor
