"""Weights files that the project ships: safetensors in half precision with text metadata, written and read."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import nn

from aopsam.sam.registry import digest_of, name_of


class Trained(Protocol):
    """A network trained behind one SAM, whose name and digest of weights it carries, and the digest of its own file."""

    sam: str
    sam_sha256: str
    sha256: str

    def to(self, device: torch.device) -> object: ...

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> object: ...

    def eval(self) -> object: ...

    def requires_grad_(self, requires_grad: bool = True) -> object: ...


T = TypeVar("T", bound=Trained)
Build = Callable[[Mapping[str, str], Mapping[str, torch.Tensor]], T]
"""Makes a network in float32 from its metadata and its tensors, which are loaded afterwards."""


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


def load_half(path: Path | str, kind: str, build: Build[T], needed: Sequence[str] = ()) -> tuple[T, dict[str, str]]:
    """Read a network written by `save_half`: eval mode, float32, on the CPU.

    Args:
        path: file to read.
        kind: what it holds, such as `mask_head`, for messages; `pipelines/train_KIND.py` makes one.
        build: makes the network.
        needed: keys of the metadata that must be there, besides `sam` and `sam_sha256`.

    Returns:
        The network, with `sam` and `sam_sha256` of the metadata and `sha256` of the file, and the metadata.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no safetensors file, or not one of this kind.
    """
    path, what = Path(path), f"a {kind.replace('_', ' ')}"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such {kind.replace('_', ' ')}; train one with pipelines/train_{kind}.py")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator of its own)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    if missing := [key for key in ("sam", "sam_sha256", *needed) if key not in metadata]:
        raise ValueError(f"{path}: not {what} of save_{kind}: metadata lacks {missing[0]!r}")
    # Integers, such as BatchNorm's step counts, stay integers.
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        network = build(metadata, whole)
        network.load_state_dict(whole)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not the tensors of {what}: {error}") from error
    network.sam, network.sam_sha256 = metadata["sam"], metadata["sam_sha256"]
    network.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    network.eval()
    network.requires_grad_(False)
    return network, metadata


def of_the_model(trained: T, model: Sam, kind: str, path: str | None) -> T | None:
    """Return a copy of a trained module on a model's device, if it belongs to the model's very weights.

    Args:
        trained: the module.
        model: the SAM that it is wanted for.
        kind: what it is, as `load_half` takes it.
        path: the file that was asked for; None for the bundled one, which may belong to another SAM: then None.

    Raises:
        ValueError: the file that was asked for holds one of other weights.
    """
    if trained.sam_sha256 == digest_of(model):
        copied = copy.deepcopy(trained)
        copied.to(model.device)
        return copied
    if path is None:
        return None
    raise ValueError(
        f"{path}: a {kind.replace('_', ' ')} of {trained.sam} ({trained.sam_sha256[:12]}), not of"
        f" {name_of(model) or 'this SAM'} ({digest_of(model)[:12]}); train one with pipelines/train_{kind}.py"
    )
