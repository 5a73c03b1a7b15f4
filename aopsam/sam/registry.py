"""Load a Segment Anything model by name: builder, weights file, licence and thresholds of each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from segment_anything.modeling import Sam
from torch.overrides import TorchFunctionMode

from aopsam._options import unknown
from aopsam.sam.checkpoints import CheckpointError, RemoteFile, file_sha256, obtain, read_state_dict
from aopsam.sam.decoders.efficient_sam import efficient_sam_s, efficient_sam_ti
from aopsam.sam.decoders.sam2 import SAM2_MODELS, image_weights
from aopsam.sam.encoders.efficientvit import efficientvit_sam_l2
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.encoders.tiny_vit import TinyViTEncoder
from aopsam.sam.encoders.vit import vit_b, vit_h, vit_l
from aopsam.sam.hugging_face import load_hugging_face, weights_digest
from aopsam.sam.model import assemble
from aopsam.sam.names import PREFIX, absolute_name, is_hugging_face

_BUNDLED = Path(__file__).parent.parent / "weights"
_META = "https://dl.fbaipublicfiles.com/segment_anything"
_EFFICIENT_SAM = "https://github.com/yformer/EfficientSAM/raw/d525f622e6f640acf5a0fc37c7ca1f243da5bde0/weights"
_MOBILE_SAM = "https://github.com/ChaoningZhang/MobileSAM/raw/34bbbfdface3c18e5221aa7de6032d7220c6c6a1/weights"


@dataclass(frozen=True)
class Thresholds:
    """Default thresholds of a model's masks in everything mode.

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
    """A model of the registry.

    Attributes:
        build: function that returns the model with random weights, in eval mode.
        weights: the published file, or the one that comes with the package.
        terms: licence of the weights.
        thresholds: thresholds of the model where its file states none.
        part: function that selects the model's weights, under its names, from the tensors of the published file.
    """

    build: Callable[[], Sam]
    weights: RemoteFile | Path
    terms: str
    thresholds: Thresholds = Thresholds()
    part: Callable[[Mapping[str, Any]], dict[str, Any]] = dict


def _sam2_specs() -> dict[str, ModelSpec]:
    """Return the models of SAM 2 and SAM 2.1, which differ in their weights alone, and in modules for videos."""
    folders = {"sam2": "072824", "sam2.1": "092824"}
    sizes = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
    digests = {
        "sam2_hiera_t": "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
        "sam2_hiera_s": "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
        "sam2_hiera_b+": "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
        "sam2_hiera_l": "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
        "sam2.1_hiera_t": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        "sam2.1_hiera_s": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        "sam2.1_hiera_b+": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        "sam2.1_hiera_l": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    }
    names = {name: name.split("_hiera_") for name in digests}
    return {
        name: ModelSpec(
            build=SAM2_MODELS[f"hiera_{size}"],
            weights=RemoteFile(f"{_META}_2/{folders[family]}/{family}_hiera_{sizes[size]}.pt", digests[name]),
            terms="Apache-2.0",
            thresholds=Thresholds(pred_iou_thresh=0.8),
            part=image_weights,
        )
        for name, (family, size) in names.items()
    }


# No project publishes a SHA-256 (SAM's file names carry the start of an MD5). These are the digests that others publish
# for the same addresses: https://github.com/computational-cell-analytics/micro-sam micro_sam/util.py at 00006fc6 (SAM
# and MobileSAM) and micro_sam/v2/util.py at 4f6cca85 (SAM 2), https://github.com/open-edge-platform/model_api/issues/351
# (vit_h) and /350 (mobile_sam), scripts/install.sh of https://github.com/InterDigitalInc/CompressAI-Vision
# (EfficientViT-SAM). None is published for EfficientSAM: the digests are those of its authors' git repository.
#
# Thresholds: SAM's, and those of sam2/automatic_mask_generator.py; EfficientSAM's are those of
# notebooks/EfficientSAM_segment_everything_example.ipynb.
MODELS: dict[str, ModelSpec] = {
    "tiny": ModelSpec(
        build=lambda: assemble(TinyEncoder()),
        weights=_BUNDLED / "tiny.safetensors",
        terms="research and education; see aopsam/weights/tiny.md",
        thresholds=Thresholds(elimination_k=3.5),
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
    "efficient_sam_ti": ModelSpec(
        build=efficient_sam_ti,
        weights=RemoteFile(
            f"{_EFFICIENT_SAM}/efficient_sam_vitt.pt", git_blob="af883c49e33c68f01107be52df0ecad26a48355f"
        ),
        terms="Apache-2.0",
        thresholds=Thresholds(pred_iou_thresh=0.7, stability_score_thresh=0.9),
    ),
    "efficient_sam_s": ModelSpec(
        build=efficient_sam_s,
        weights=RemoteFile(
            f"{_EFFICIENT_SAM}/efficient_sam_vits.pt.zip", git_blob="fa4e9f05f753e109dbde052f97d37903b833cf53"
        ),
        terms="Apache-2.0",
        thresholds=Thresholds(pred_iou_thresh=0.7, stability_score_thresh=0.9),
    ),
    "efficientvit_sam_l2": ModelSpec(
        build=efficientvit_sam_l2,
        weights=RemoteFile(
            "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_l2.pt",
            "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a",
        ),
        terms="Apache-2.0",
    ),
    **_sam2_specs(),
}
"""Models by the name that `load_sam` and `--sam` take."""


def load_sam(name: str, checkpoint: str | Path | None = None) -> Sam:
    """Load a segment-anything `Sam` in eval mode, float32, on the CPU; `.to()` and `.half()` work.

    It carries three more attributes: `name` (as given), `sha256` (hex digest of the weights file) and `thresholds`
    (`Thresholds`: the file's own where its metadata states them, else the model's).

    Args:
        name: a key of `MODELS`; or `hf:ORG/NAME` of the Hugging Face hub or `hf:FOLDER`, any SAM of `transformers`
            (`hugging_face.py`), which takes no checkpoint.
        checkpoint: a .safetensors, .pth or .pt file with the model's official keys. Without it the bundled file is
            read (`tiny`), or the official one, downloaded on first use into `cache_dir()`.

    Raises:
        ValueError: unknown name.
        CheckpointError: weights that cannot be found, downloaded or read, or that do not fit the model.
    """
    if is_hugging_face(name):
        return _load_hugging_face(name, checkpoint)
    spec = _spec(name)
    path, digest = _locate(name, checkpoint)
    published, metadata = read_state_dict(path)
    _check_fit(name, path, {key: tuple(tensor.shape) for key, tensor in published.items()})
    state = spec.part(published)
    model = _build(spec)
    model.float().load_state_dict(state, strict=True)  # whatever torch's default is
    model.name = name
    model.sha256 = digest
    model.thresholds = _read_thresholds(path, metadata, spec.thresholds)
    return model


def known_digest(name: str) -> str:
    """Return the SHA-256 of the weights that `load_sam(name)` gives, without loading or downloading them.

    Empty where nobody published one (EfficientSAM), and for a model of the Hugging Face hub that is not here.

    Raises:
        ValueError: unknown name.
    """
    if is_hugging_face(name):
        return weights_digest(name)
    weights = _spec(name).weights
    return weights.sha256 if isinstance(weights, RemoteFile) else file_sha256(weights)


def name_of(model: Sam) -> str:
    """Return the name of a SAM, empty for one that `load_sam` has not loaded."""
    return getattr(model, "name", "")


def digest_of(model: Sam) -> str:
    """Return the SHA-256 of a SAM's weights, empty for one that `load_sam` has not loaded."""
    return getattr(model, "sha256", "")


def thresholds_of(model: Sam) -> Thresholds:
    """Return the thresholds of a SAM, segment-anything's for one that `load_sam` has not loaded."""
    return getattr(model, "thresholds", Thresholds())


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


def _spec(name: str) -> ModelSpec:
    if name not in MODELS:
        meant = f"; did you mean {PREFIX}{name}?" if "/" in name else ""
        raise ValueError(f"unknown SAM {unknown(name, [*MODELS, 'hf:ORG/NAME', 'hf:FOLDER'])}{meant}")
    return MODELS[name]


def _load_hugging_face(name: str, checkpoint: str | Path | None) -> Sam:
    if checkpoint is not None:
        raise CheckpointError(f"{name} names its weights itself: drop the checkpoint {checkpoint}")
    model, digest, family = load_hugging_face(name)
    model.name, model.sha256 = absolute_name(name), digest
    model.thresholds = Thresholds(pred_iou_thresh=family.pred_iou_thresh)
    return model


def _locate(name: str, checkpoint: str | Path | None) -> tuple[Path, str]:
    """Return the path of the weights and their SHA-256."""
    weights = MODELS[name].weights
    if checkpoint is not None:
        return Path(checkpoint), file_sha256(Path(checkpoint))
    if isinstance(weights, RemoteFile):
        return obtain(name, weights)
    return weights, file_sha256(weights)


def _build(spec: ModelSpec) -> Sam:
    with _NoRandomNumbers():
        return spec.build()


@cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    # Not on torch's meta device: it imports torch's compiler, which takes longer. Memory that is not written costs
    # nothing.
    return {key: tuple(tensor.shape) for key, tensor in _build(MODELS[name]).state_dict().items()}


def _check_fit(name: str, path: Path, published: dict[str, tuple[int, ...]]) -> None:
    found, expected = MODELS[name].part(published), _shapes(name)
    if found == expected:
        return
    others = ((other, spec) for other, spec in MODELS.items() if other != name)
    if right := next((other for other, spec in others if spec.part(published) == _shapes(other)), None):
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
