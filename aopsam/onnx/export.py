"""Write a SAM and the predictor that proposes for it as ONNX files: `pip install 'aopsam[onnx]'`.

By PyTorch's TorchScript exporter: the newer one needs a package more (onnxscript), and segment-anything's own decoder
for ONNX, which is exported here, was written to be traced.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from torch.nn import functional

from aopsam.predictor.frame import FRAME_SIZE, MEAN_RGB, STD_RGB
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting.proposer import Proposer
from aopsam.sam.encode import SUBCELLS
from aopsam.sam.names import is_hugging_face
from aopsam.sam.registry import MODELS, digest_of, name_of, thresholds_of

if TYPE_CHECKING:
    from types import ModuleType

EXPORTABLE = ("tiny", "mobile_sam", "vit_b", "vit_l", "vit_h", "efficientvit_sam_l2")
"""Models that can be exported: one embedding of a padded photo, segment-anything's decoder."""
FILES = (
    "decoder.onnx",
    "encoder.onnx",
    "low_res_decoder.onnx",
    "predictor.onnx",
    "proposer_encoder.onnx",
    "model.json",
)
"""Names of what is written."""
OPSET = 17
"""Version of ONNX's operators: the first with layer normalisation."""

_PROMPTS = {0: "prompts", 1: "points"}
_LOW_RES_INPUTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
_LOW_RES_OUTPUTS = ("iou_predictions", "low_res_masks")


def check_exportable(name: str) -> None:
    """Check that a model can be exported, if there is one of that name.

    Raises:
        ValueError: it cannot.
    """
    if name not in EXPORTABLE and (name in MODELS or is_hugging_face(name)):
        raise ValueError(f"{name} cannot be exported to ONNX; the models that can are {', '.join(EXPORTABLE)}")


def export_sam(model: Sam, folder: Path, predictor: PromptPredictor | None = None) -> list[str]:
    """Write a SAM and its predictor for ONNX Runtime.

    - `encoder.onnx`: `pixels` (1, 3, S, S), a photo normalised and padded with zeros, to `image_embeddings`;
    - `decoder.onnx`: segment-anything's interface, for any number of prompts of any number of points each: from
      `image_embeddings`, `point_coords` (B, n, 2), `point_labels` (B, n), `mask_input`, `has_mask_input` and
      `orig_im_size` to `masks` (B, 4, H, W), `iou_predictions` (B, 4) and `low_res_masks` (B, 4, 4h, 4w); the first
      of the four is the decoder's single mask;
    - `low_res_decoder.onnx`: the same without `orig_im_size` and `masks`: for everything mode, which enlarges the few
      masks that it keeps;
    - `predictor.onnx`: `pixels` (1, 3, 256, 256) and `image_embeddings` to `confidence` (1, 1, 256, 256) in 0 to 1;
    - `proposer_encoder.onnx`, only where the predictor reads the embeddings of another SAM: that one's encoder;
    - `model.json`: what the files are, written last.

    Args:
        model: in float32, on the CPU, in eval mode.
        folder: an existing one.
        predictor: by default the one that belongs to the model, else `tiny` proposes.

    Returns:
        The names of the files, `model.json` last.

    Raises:
        ValueError: a model that cannot be exported, a predictor of other weights, or `onnx` is not installed.
        CheckpointError: the weights of the SAM that the predictor belongs to cannot be had.
    """
    onnx = _import_onnx()
    proposer = Proposer(model, predictor)
    proposing = proposer.source.sam or model
    for sam in (model, proposing):
        check_exportable(name_of(sam))
    encoders = {"encoder.onnx": model} | ({} if proposing is model else {"proposer_encoder.onnx": proposing})
    for file, sam in encoders.items():
        _write(sam.image_encoder, _inputs(pixels=_square(sam)), ["image_embeddings"], folder / file)
    prompts = dict.fromkeys(("point_coords", "point_labels"), _PROMPTS)
    outputs = ["masks", *_LOW_RES_OUTPUTS]
    _write(_Decoder(model), _decoder_inputs(model), outputs, folder / "decoder.onnx", prompts)
    onnx.utils.extract_model(
        folder / "decoder.onnx", folder / "low_res_decoder.onnx", list(_LOW_RES_INPUTS), list(_LOW_RES_OUTPUTS)
    )
    frame = torch.zeros(1, 3, FRAME_SIZE, FRAME_SIZE)
    given = _inputs(pixels=frame, image_embeddings=_embedding(proposing))
    _write(_Confidence(proposer.predictor), given, ["confidence"], folder / "predictor.onnx")
    about = {
        **_about(model),
        "mask_threshold": model.mask_threshold,
        "thresholds": asdict(thresholds_of(model)),
        "encoder": _reads(model),
        "predictor": {
            "sha256": proposer.predictor.sha256,
            "square_px": FRAME_SIZE,
            "mean_rgb": MEAN_RGB,
            "std_rgb": STD_RGB,
            "sampling": asdict(proposer.predictor.sampling),
            "proposer_encoder": None if proposing is model else _about(proposing) | _reads(proposing),
        },
        "opset": OPSET,
        "versions": {package: version(package) for package in ("aopsam", "torch", "onnx")},
        "files": {path.name: _facts(path) for path in sorted(folder.iterdir())},
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return [*about["files"], "model.json"]


class _Decoder(SamOnnxModel):
    """segment-anything's decoder for ONNX, also for prompts that were learnt in a larger square.

    Its own cut to the photo's part of the square is a number to today's exporter: that of the photo it was traced with.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__(model, return_single_mask=False)
        self._enlarge = model.prompt_encoder.input_image_size[0] / self.img_size

    def _embed_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        centre = 0.5 / self._enlarge - 0.5  # half a pixel of that square, of which the base class adds half of its own
        return super()._embed_points(point_coords + centre, point_labels)

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        square = functional.interpolate(masks, (self.img_size, self.img_size), mode="bilinear", align_corners=False)
        rows, columns = self.resize_longest_image_size(orig_im_size, self.img_size)
        height, width = orig_im_size.to(torch.int64)
        shown = square[..., :rows, :columns]
        return functional.interpolate(shown, (height, width), mode="bilinear", align_corners=False)


class _Confidence(nn.Module):
    def __init__(self, predictor: PromptPredictor) -> None:
        super().__init__()
        self._predictor = predictor

    def forward(self, pixels: Tensor, image_embeddings: Tensor) -> Tensor:
        confidence: Tensor = self._predictor(pixels, image_embeddings).sigmoid()
        return confidence


def _write(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own deprecation, and of each number that it takes as constant
        # Without gradients the encoders write to a buffer of their own, which a graph cannot represent.
        with torch.inference_mode(False), torch.enable_grad():
            torch.onnx.export(
                network,
                tuple(inputs.values()),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=dynamic_axes,
            )


def _inputs(**tensors: Tensor) -> dict[str, Tensor]:
    return tensors


def _square(sam: Sam) -> Tensor:
    size = sam.image_encoder.img_size
    return torch.zeros(1, 3, size, size)


def _embedding(sam: Sam) -> Tensor:
    return torch.zeros(1, sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)


def _decoder_inputs(sam: Sam) -> dict[str, Tensor]:
    """Return inputs of the right kind; of two prompts of two points, so that neither number is taken for one."""
    rows, columns = sam.prompt_encoder.image_embedding_size
    return {
        "image_embeddings": _embedding(sam),
        "point_coords": torch.zeros(2, 2, 2),
        "point_labels": torch.ones(2, 2),
        "mask_input": torch.zeros(1, 1, SUBCELLS * rows, SUBCELLS * columns),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([3.0, 4.0]),
    }


def _about(sam: Sam) -> dict[str, Any]:
    return {"sam": name_of(sam), "sam_sha256": digest_of(sam)}


def _reads(sam: Sam) -> dict[str, Any]:
    mean, std = (values.flatten().tolist() for values in (sam.pixel_mean, sam.pixel_std))
    return {"square_px": sam.image_encoder.img_size, "mean_rgb": mean, "std_rgb": std}


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _import_onnx() -> ModuleType:
    try:
        import onnx.utils
    except ImportError as error:
        raise ValueError("onnx is not installed: pip install 'aopsam[onnx]'") from error
    return onnx
