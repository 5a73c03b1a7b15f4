"""The Segment Anything models by name: how each is built, where its weights are, what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import Sam
from torch.overrides import TorchFunctionMode

from aopsam.sam.checkpoints import CheckpointError, RemoteFile, file_sha256, obtain, read_state_dict
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.encoders.tiny_vit import TinyViTEncoder
from aopsam.sam.encoders.vit import vit_b, vit_h, vit_l
from aopsam.sam.model import assemble

_BUNDLED = Path(__file__).parent.parent / "weights"
_META = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM/raw/34bbbfdface3c18e5221aa7de6032d7220c6c6a1/weights"


@dataclass(frozen=True)
class Thresholds:
    """Which masks a model keeps in everything mode, unless the caller says otherwise.

    The defaults are those of segment-anything's `SamAutomaticMaskGenerator`.

    Attributes:
        pred_iou_thresh: least IoU that the model predicts for its own mask, 0 to 1.
        stability_score_thresh: least stability score of a mask, 0 to 1.
        box_nms_thresh: IoU of two masks' boxes above which the worse mask is a duplicate, 0 to 1.
        elimination_k: factor of `aop`'s rule `scaled`, at least 0. The rule compares similarities with predicted IoUs:
            1.3, AoP-SAM's, suits models whose estimates lie near 0.9; the lower they lie, the higher it must be.
    """

    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_nms_thresh: float = 0.7
    elimination_k: float = 1.3


@dataclass(frozen=True)
class ModelSpec:
    """A model that `load_sam` knows.

    Attributes:
        build: the model with random weights, in eval mode.
        weights: the published file, or the one that comes with the package.
        terms: licence of the weights.
        thresholds: what the model keeps where its file says nothing.
    """

    build: Callable[[], Sam]
    weights: RemoteFile | Path
    terms: str
    thresholds: Thresholds = Thresholds()


# Neither project publishes a SHA-256 (SAM's file names carry the start of an MD5). These are the digests that others
# publish for the same addresses: https://github.com/computational-cell-analytics/micro-sam micro_sam/util.py at
# 00006fc6 (all four), https://github.com/open-edge-platform/model_api/issues/351 (vit_h) and /350 (mobile_sam).
MODELS: dict[str, ModelSpec] = {
    "tiny": ModelSpec(
        build=lambda: assemble(TinyEncoder()),
        weights=_BUNDLED / "tiny.safetensors",
        terms="research and education; see aopsam/weights/tiny.md",
    ),
    "mobile_sam": ModelSpec(
        build=lambda: assemble(TinyViTEncoder()),
        weights=RemoteFile(
            f"{_MOBILE_SAM}/mobile_sam.pt", "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
        ),
        terms="Apache-2.0",
    ),
    "vit_b": ModelSpec(
        build=lambda: assemble(vit_b()),
        weights=RemoteFile(
            f"{_META}/sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
        ),
        terms="Apache-2.0",
    ),
    "vit_l": ModelSpec(
        build=lambda: assemble(vit_l()),
        weights=RemoteFile(
            f"{_META}/sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
        ),
        terms="Apache-2.0",
    ),
    "vit_h": ModelSpec(
        build=lambda: assemble(vit_h()),
        weights=RemoteFile(
            f"{_META}/sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
        ),
        terms="Apache-2.0",
    ),
}
"""Models by the name that `load_sam` and `--sam` take."""


def load_sam(name: str, checkpoint: str | Path | None = None) -> Sam:
    """A segment-anything `Sam` in eval mode, float32, on the CPU; `.to()` and `.half()` work.

    It carries three more attributes: `name` (as given), `sha256` (hex digest of the weights file) and `thresholds`
    (`Thresholds`: the file's own where its metadata states them, else the model's).

    Args:
        name: a key of `MODELS`.
        checkpoint: a .safetensors, .pth or .pt file with the model's official keys. Without it the bundled file is
            read (`tiny`), or the official one, downloaded on first use into `checkpoints.cache_dir()`.

    Raises:
        ValueError: unknown name.
        CheckpointError: weights that cannot be had, cannot be read or do not fit the model.
    """
    if name not in MODELS:
        raise ValueError(f"unknown SAM {name!r}; the names are {', '.join(MODELS)}")
    spec = MODELS[name]
    path, digest = _locate(name, checkpoint)
    state, metadata = read_state_dict(path)
    _check_fit(name, path, {key: tuple(tensor.shape) for key, tensor in state.items()})
    with _NoRandomNumbers():
        model = spec.build()
    model.load_state_dict(state, strict=True)
    model.name = name
    model.sha256 = digest
    model.thresholds = _read_thresholds(path, metadata, spec.thresholds)
    return model


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves parameters uninitialised: all are loaded next, and drawing those of vit_h takes many seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in {"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_"}:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _locate(name: str, checkpoint: str | Path | None) -> tuple[Path, str]:
    """Path of the weights and their SHA-256."""
    weights = MODELS[name].weights
    if checkpoint is not None:
        return Path(checkpoint), file_sha256(Path(checkpoint))
    if isinstance(weights, RemoteFile):
        return obtain(name, weights)
    return weights, file_sha256(weights)


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # names and shapes without memory or random numbers
        return {key: tuple(tensor.shape) for key, tensor in MODELS[name].build().state_dict().items()}


def _check_fit(name: str, path: Path, found: dict[str, tuple[int, ...]]) -> None:
    expected = _shapes(name)
    if found == expected:
        return
    if right := next((other for other in MODELS if other != name and found == _shapes(other)), None):
        raise CheckpointError(
            f"{path} holds weights of {right}, not of {name}: pass --sam {right} (load_sam({right!r}))"
        )
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshapen = [
        f"{key} {list(found[key])} instead of {list(shape)}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    faults = (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
    listed = "; ".join(f"{what}: {_first_few(names)}" for what, names in faults if names)
    raise CheckpointError(f"{path} does not fit {name}: {listed}")


def _first_few(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _read_thresholds(path: Path, metadata: dict[str, str], default: Thresholds) -> Thresholds:
    stated = {field.name: metadata[field.name] for field in fields(Thresholds) if field.name in metadata}
    try:
        return replace(default, **{key: float(value) for key, value in stated.items()})
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata states thresholds that are no numbers: {stated}") from error
