"""Image encoders on OpenVINO, which is quicker on a CPU than PyTorch: `pip install 'aopsam[openvino]'`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam.sam.decoders.sam2 import Sam2
from aopsam.sam.encode import precision_dtype
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.hugging_face import HuggingFaceSam

if TYPE_CHECKING:
    from types import ModuleType

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


class OpenVINOEncoder(nn.Module):
    """A SAM's image encoder compiled by OpenVINO: the same input and output, and no weights to train.

    Args:
        encoder: in float32, on the CPU, in eval mode; it is compiled (seconds to a minute) and can be dropped then.
        precision: one of `encode.PRECISIONS`; a CPU without instructions for it computes in float32 all the same.

    Raises:
        RuntimeError: OpenVINO is not installed.
        ValueError: unknown precision.
    """

    def __init__(self, encoder: nn.Module, precision: str = "float32") -> None:
        super().__init__()
        openvino = _import_openvino()
        size = int(encoder.img_size)  # type: ignore[arg-type]
        self.img_size = size
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[precision_dtype(precision, torch.device("cpu"))],
        }
        with warnings.catch_warnings():  # PyTorch's export warns of its own deprecations
            warnings.simplefilter("ignore", FutureWarning)
            # Without gradients the encoders write to a buffer of their own, which a graph cannot represent.
            with torch.inference_mode(False), torch.enable_grad():
                graph = openvino.convert_model(torch.export.export(_all_of(encoder), (torch.zeros(1, 3, size, size),)))
        self._request = openvino.compile_model(graph, "CPU", settings).create_infer_request()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, S, S) normalised RGB -> (B, 256, S / stride, S / stride), dtype and device of `x`."""
        return self.with_features(x)[0]

    def with_features(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the embedding, and of `tiny` what else `TinyEncoder.with_features` gives."""
        photos = [
            self._request.infer([photo.float().cpu().numpy()], share_outputs=False).to_tuple() for photo in x.split(1)
        ]
        return tuple(torch.cat([torch.from_numpy(one) for one in of_all]).to(x) for of_all in zip(*photos, strict=True))


class _WithFeatures(nn.Module):
    """`tiny`'s encoder, whose forward pass returns all that `with_features` gives."""

    def __init__(self, encoder: TinyEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.encoder.with_features(x)


def _all_of(encoder: nn.Module) -> nn.Module:
    return _WithFeatures(encoder).eval() if isinstance(encoder, TinyEncoder) else encoder


def use_openvino(model: Sam, precision: str = "float32") -> None:
    """Replace a SAM's image encoder by an `OpenVINOEncoder` of the same weights, with PyTorch's number of threads.

    Raises:
        ValueError: SAM 2, whose encoder gives more than an embedding, or a model of `transformers`; also the errors of
            `OpenVINOEncoder`.
    """
    if isinstance(model, HuggingFaceSam):
        raise ValueError("encoders of transformers (hf:) run on PyTorch alone: use torch")
    if isinstance(model, Sam2):
        raise ValueError(
            "SAM 2's encoder gives several levels of features, of which OpenVINO would keep one: use PyTorch"
        )
    model.image_encoder = OpenVINOEncoder(model.image_encoder, precision)


def _import_openvino() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise RuntimeError("OpenVINO is not installed: pip install 'aopsam[openvino]'") from error
    return openvino
