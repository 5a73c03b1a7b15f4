"""Weights files that the project ships: safetensors in half precision with text metadata, written and read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn


def save_half(module: nn.Module, path: Path | str, metadata: Mapping[str, str]) -> None:
    """Write a module's state in half precision; integers (BatchNorm's step counts) stay integers.

    Args:
        module: the trained module.
        path: file to write; its folder must exist.
        metadata: what a loader needs and notes for readers (recipe, seed, data); text to text.

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().contiguous().cpu()
        for name, tensor in module.state_dict().items()
    }
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(f"{path}: not finite in half precision: {', '.join(broken)}")
    save_file(tensors, path, dict(metadata))


def read_half(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, str], str]:
    """Return the tensors of a weights file in float32 (integers as they are), its metadata and its SHA-256.

    Args:
        path: file to read.
        kind: what it holds, such as `detector`, for messages; `pipelines/train_KIND.py` makes one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such {kind}; train one with pipelines/train_{kind}.py")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator of its own)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return whole, metadata, hashlib.sha256(path.read_bytes()).hexdigest()
