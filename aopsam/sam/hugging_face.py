"""Any SAM that `transformers` knows, from the hub or from a folder: `load_sam("hf:ORG/NAME")`, `load_sam("hf:FOLDER")`.

The layers that run are those of `transformers` (`pip install 'aopsam[hf]'`): its image encoder and prompt encoder as
they are, its mask decoder's layers in the order of `fast_decoder.py`. Weights come from safetensors files alone, and no
code from a checkpoint runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from segment_anything.modeling import MaskDecoder, Sam
from torch import nn

from aopsam.sam.checkpoints import CheckpointError, file_sha256, obtain_snapshot
from aopsam.sam.decoders.shared import SharedMaskDecoder, SharedSam2MaskDecoder
from aopsam.sam.hq_decoder import HqMaskDecoder
from aopsam.sam.model import StretchedSam
from aopsam.sam.names import PREFIX

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
_BILINEAR = 2


@dataclass(frozen=True)
class Family:
    """Models of one architecture.

    Attributes:
        model: class of `transformers`; it also reads checkpoints for videos and leaves out what only videos need.
        processor: class of `transformers` whose constants hold where a checkpoint brings no image processor.
        decoder: class that makes the mask decoder ours.
        stretched: whether photos fill the model's square, where SAM pads them.
        pred_iou_thresh: default threshold of predicted IoU; that of the authors' everything mode, SAM's or SAM 2's.
    """

    model: str
    processor: str
    decoder: type[MaskDecoder]
    stretched: bool = False
    pred_iou_thresh: float = 0.88


_SAM2 = Family("Sam2Model", "Sam2ImageProcessor", SharedSam2MaskDecoder, stretched=True, pred_iou_thresh=0.8)
_EDGE_TAM = Family("EdgeTamModel", "Sam2ImageProcessor", SharedSam2MaskDecoder, stretched=True, pred_iou_thresh=0.8)
_SAM3 = Family("Sam3TrackerModel", "Sam3ImageProcessor", SharedSam2MaskDecoder, stretched=True, pred_iou_thresh=0.8)
FAMILIES: dict[str, Family] = {
    "sam": Family("SamModel", "SamImageProcessor", SharedMaskDecoder),
    "sam_hq": Family("SamHQModel", "SamImageProcessor", HqMaskDecoder),
    "sam2": _SAM2,
    "sam2_video": _SAM2,
    "edgetam": _EDGE_TAM,
    "edgetam_video": _EDGE_TAM,
    "sam3_tracker": _SAM3,
    "sam3_tracker_video": _SAM3,
    "sam3_video": _SAM3,
}
"""Families by the `model_type` of a checkpoint's config.json."""


class HuggingFaceSam(Sam):
    """A SAM whose layers are those of a model of `transformers`, called like segment-anything's."""

    def __init__(self, theirs: Any, family: Family, mean: list[float], std: list[float]) -> None:
        encoder = _ImageEncoder(theirs.vision_encoder, int(theirs.prompt_encoder.input_image_size))
        prompt_encoder = _PromptEncoder(theirs.prompt_encoder, theirs.shared_image_embedding)
        super().__init__(encoder, prompt_encoder, family.decoder(theirs.mask_decoder), mean, std)
        self.no_memory: Any = getattr(theirs, "no_memory_embedding", None)

    def levels(self, coarse: torch.Tensor, *more: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the mask decoder's inputs from the encoder's outputs: the embedding and finer features, if any."""
        decoder = self.mask_decoder
        if isinstance(decoder, HqMaskDecoder):
            return coarse, decoder.of_photo(coarse, *more)
        if isinstance(decoder, SharedSam2MaskDecoder):
            middle, fine = more
            return coarse + self.no_memory.view(1, -1, 1, 1), decoder.conv_s1(middle), decoder.conv_s0(fine)
        return (coarse,)


class _StretchedHuggingFaceSam(HuggingFaceSam, StretchedSam):
    """One that reads photos stretched to its square."""

    antialias = True


class _ImageEncoder(nn.Module):
    """The image encoder: (B, 3, S, S) normalised RGB -> the embedding, coarsest first of several levels.

    Attributes:
        img_size: S.
    """

    def __init__(self, theirs: nn.Module, size: int) -> None:
        super().__init__()
        self.img_size, self._theirs = size, theirs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self._theirs(x, return_dict=True)
        if hasattr(out, "fpn_hidden_states"):
            return tuple(out.fpn_hidden_states[:3][::-1])
        if hasattr(out, "intermediate_embeddings"):
            return out.last_hidden_state, out.intermediate_embeddings[0].permute(0, 3, 1, 2)
        return (out.last_hidden_state,)


class _PromptEncoder(nn.Module):
    """The prompt encoder, called like segment-anything's: a batch is of prompts, not of photos."""

    def __init__(self, theirs: Any, position: nn.Module) -> None:
        super().__init__()
        self._theirs, self._position = theirs, position
        self.image_embedding_size: tuple[int, int] = tuple(theirs.image_embedding_size)

    def get_dense_pe(self) -> torch.Tensor:
        """Return the positional encoding of the embedding's cells, (1, C, h, w)."""
        weight = self._theirs.no_mask_embed.weight
        y, x = ((torch.arange(n, device=weight.device) + 0.5) / n for n in self.image_embedding_size)
        cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        place: torch.Tensor = self._position(cells).permute(2, 0, 1)[None]
        return place

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts as segment-anything's does: tokens (B, n, C), and (B or 1, C, h, w) to add to the embedding.

        Args:
            points: (B, n, 2) XY in pixels of the model's square, and (B, n) labels.
            boxes: (B, 4) XYXY in those pixels.
            masks: (B, 1, 4h, 4w) logits.
        """
        coords, labels = (None, None) if points is None else (points[0][None], points[1][None])
        sparse, dense = self._theirs(coords, labels, None if boxes is None else boxes[None], masks)
        tokens = dense.new_zeros(1, 0, dense.shape[1]) if sparse is None else sparse[0].to(dense.dtype)
        return tokens, dense


def load_hugging_face(name: str) -> tuple[HuggingFaceSam, str, Family]:
    """Load a model of `transformers` in eval mode, float32, on the CPU.

    Args:
        name: `hf:ORG/NAME` of the hub, downloaded on first use into its own cache, or `hf:FOLDER`.

    Returns:
        The model, the SHA-256 of its weights, and its family.

    Raises:
        CheckpointError: the extra is missing, or a checkpoint cannot be had, is no SAM of `FAMILIES`, holds no
            safetensors or does not fit its own configuration; the message is one line.
    """
    transformers = _import_transformers()
    folder = _folder(name)
    config = _read_json(folder / "config.json")
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is no SAM that takes points and boxes; "
            f"those are {', '.join(FAMILIES)}"
        )
    digest = _digest(folder)
    with _quietly(transformers):
        theirs = _read(transformers, family, folder)
    mean, std = _normalisation(transformers, family, folder, int(theirs.prompt_encoder.input_image_size))
    kind = _StretchedHuggingFaceSam if family.stretched else HuggingFaceSam
    return kind(theirs, family, mean, std).eval(), digest, family


def weights_digest(name: str) -> str:
    """Return the SHA-256 of a model's weights without loading or downloading it; empty where it is not on this machine.

    Of weights in several files it is that of their digests, one a line in the order of the files' names.
    """
    try:
        return _digest(_folder(name, download=False))
    except CheckpointError:
        return ""


def _import_transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError("transformers is not installed: pip install 'aopsam[hf]'") from error
    return transformers


def _folder(name: str, *, download: bool = True) -> Path:
    """Return the folder that holds a model's files."""
    given = name.removeprefix(PREFIX)
    folder = Path(given).expanduser()
    if given and folder.is_dir():
        return folder
    if given.count("/") != 1 or given.startswith(("/", ".", "~")):
        raise CheckpointError(f"{name}: no such folder, nor a name of the hub: write hf:FOLDER or hf:ORG/NAME")
    return obtain_snapshot(given, download=download)


def _weights(folder: Path) -> list[Path]:
    """Return the safetensors files that hold a model's weights."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = _read_json(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise CheckpointError(f"{index}: no weight_map of tensors to files")
        return [folder / Path(name).name for name in sorted(set(names.values()))]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    found = f", only {', '.join(pickles[:3])}, which may hold code and is not read" if pickles else ""
    raise CheckpointError(f"{folder}: no model.safetensors{found}: save_pretrained writes one")


def _digest(folder: Path) -> str:
    digests = [file_sha256(path) for path in _weights(folder)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; a model that save_pretrained wrote has one") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a mapping, found {type(found).__name__}")
    return found


def _read(transformers: ModuleType, family: Family, folder: Path) -> Any:
    """Return the model of `transformers` that a folder holds."""
    try:
        theirs, info = getattr(transformers, family.model).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError, SafetensorError) as error:
        said = " ".join(str(error).split())
        raise CheckpointError(f"{folder}: transformers cannot read it ({said[:300]})") from error
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(f"{folder}: not all weights of a {family.model}; missing: {', '.join(missing[:3])}{more}")
    return theirs.eval()


def _normalisation(
    transformers: ModuleType, family: Family, folder: Path, size: int
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of RGB, 0 to 255, by which a checkpoint's own processor normalises photos.

    Raises:
        CheckpointError: it does something else than resize to the model's square by bilinear interpolation.
    """
    default = getattr(transformers, family.processor)
    source, given = _processor(folder)
    rescale = given.get("rescale_factor", default.rescale_factor) if given.get("do_rescale", True) else 1
    mean, std = given.get("image_mean", default.image_mean), given.get("image_std", default.image_std)
    if not given.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    asked = given.get("size", {})
    sides = set(asked.values()) if isinstance(asked, dict) else {asked}
    if sides - {size, None}:
        raise CheckpointError(f"{source}: size {asked}, where the model reads squares of {size} pixels")
    if given.get("resample", _BILINEAR) not in (_BILINEAR, None) or not given.get("do_resize", True):
        raise CheckpointError(f"{source}: photos are resized by another rule than resample 2, bilinear interpolation")
    try:
        return [float(value) / rescale for value in mean], [float(value) / rescale for value in std]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{source}: image_mean {mean} and image_std {std} are no numbers to divide by") from error


def _processor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file that describes a checkpoint's image processor and what it says, nothing where there is none."""
    alone, among_others = folder / "preprocessor_config.json", folder / "processor_config.json"
    if alone.is_file() or not among_others.is_file():
        return alone, _read_json(alone) if alone.is_file() else {}
    within = _read_json(among_others).get("image_processor", {})
    return among_others, within if isinstance(within, dict) else {}


@contextmanager
def _quietly(transformers: ModuleType) -> Iterator[None]:
    """Let `transformers` neither draw progress bars nor warn of weights that only videos need."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
