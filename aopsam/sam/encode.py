"""Encode a photo as SAM's image embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional

from aopsam._as_loaded import as_loaded
from aopsam.masks.resampling import Resampling
from aopsam.sam.attention import Head, keeping_queries_and_keys
from aopsam.sam.decoders.sam2 import Sam2
from aopsam.sam.fast_decoder import PromptedDecoder
from aopsam.sam.hq_decoder import HqMaskDecoder, PromptedHqDecoder
from aopsam.sam.hugging_face import HuggingFaceSam
from aopsam.sam.model import StretchedSam
from aopsam.sam.things import ThingHead, Things, find_thing_head, find_things

SUBCELLS = 4
"""Positions of a low-resolution mask per cell of the embedding, to each side."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = (*_DTYPES, "auto")
"""Names of the precisions that `set_encoder_precision` takes."""


@dataclass(frozen=True)
class EncodedPhoto:
    """A photo and its embedding by one SAM.

    Attributes:
        rgb: (H, W, 3) uint8, original pixels.
        model: the SAM that encoded it.
        embedding: (1, C, h, w), the model's dtype and device.
        input_hw: rows and columns of the model's square that show the photo; the rest is padding.
        finer: further inputs of SAM 2's decoder, (1, C', 2h, 2w) and (1, C'', 4h, 4w), or of HQ-SAM's, the latter.
        queries_keys: (2, N, c) of the attention heads that `keep_head` named, of all cells.
        features: of `tiny`'s encoder, for its mask head: (1, C', 4h, 4w), see `TinyEncoder.with_features`.
        trunk: of `tiny`'s encoder, for its thing head: (1, C', 2h, 2w), see there.
        thing_head: of the model; None for the bundled one, if it is the model's.
    """

    rgb: np.ndarray
    model: Sam
    embedding: torch.Tensor
    input_hw: tuple[int, int]
    finer: tuple[torch.Tensor, ...] = ()
    queries_keys: Mapping[Head, torch.Tensor] = field(default_factory=dict)
    features: torch.Tensor | None = None
    trunk: torch.Tensor | None = None
    thing_head: ThingHead | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in original pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def content_cells(self) -> tuple[int, int]:
        """Rows and columns of the embedding that show the photo and not only padding."""
        rows, columns = self.embedding.shape[-2:]
        size = self.model.image_encoder.img_size
        return -(-self.input_hw[0] * rows // size), -(-self.input_hw[1] * columns // size)

    @property
    def mask_cells(self) -> tuple[int, int]:
        """Rows and columns of the embedding whose masks reach into the photo: those of the content, and one more where
        interpolation between low-resolution positions reads beyond them."""
        size = self.model.image_encoder.img_size
        rows, columns = (
            min(cells, int((side - 0.5) * SUBCELLS * cells / size + 0.5) // SUBCELLS + 1)
            for side, cells in zip(self.input_hw, self.embedding.shape[-2:], strict=True)
        )
        return rows, columns

    @cached_property
    def decoder(self) -> PromptedDecoder:
        """The mask decoder for this photo, with what depends on the photo alone computed once."""
        prompt_encoder = self.model.prompt_encoder
        # What prompts without a mask add to the embedding is the same for all.
        _, no_mask = prompt_encoder(points=None, boxes=None, masks=None)
        place = prompt_encoder.get_dense_pe()
        decoder = self.model.mask_decoder
        kind = PromptedHqDecoder if isinstance(decoder, HqMaskDecoder) else PromptedDecoder
        return kind(decoder, self.embedding + no_mask, place, self.mask_cells, self.finer)

    @cached_property
    def resampling(self) -> Resampling:
        """Resampling of low-resolution masks to original pixels."""
        rows, columns = (SUBCELLS * cells for cells in self.mask_cells)
        side = SUBCELLS * self.embedding.shape[-1]
        square, shown = self.enlarged
        return Resampling((rows, columns), side, square, shown, self.hw)

    @cached_property
    def things(self) -> Things | None:
        """The things in the photo; None where no thing head belongs to the model."""
        head = self.thing_head or find_thing_head(self.model)
        if self.trunk is None or head is None:
            return None
        return find_things(head, self.trunk, self.input_hw, self.hw)

    def with_thing_head(self, head: ThingHead | None) -> EncodedPhoto:
        """Return the photo with the things that a head of its model finds; itself for None and for the bundled head."""
        if head is None:
            return self
        own = self.thing_head or find_thing_head(self.model)
        return self if own is not None and own.sha256 == head.sha256 else replace(self, thing_head=head)

    @property
    def enlarged(self) -> tuple[int, tuple[int, int]]:
        """Side of the square that low-resolution masks are first enlarged to, and its rows and columns that show the
        photo. For a `StretchedSam` it is the low resolution itself."""
        if isinstance(self.model, StretchedSam):
            side = SUBCELLS * self.embedding.shape[-1]
            return side, (side, side)
        return self.model.image_encoder.img_size, self.input_hw


def check_photo(rgb: object) -> None:
    """Check that a photo is an (H, W, 3) uint8 array with at least one pixel.

    Raises:
        ValueError: it is not; the message says what it is and what would be right.
    """
    if not isinstance(rgb, np.ndarray):
        raise ValueError(f"expected a photo as a NumPy array (H, W, 3) uint8, got {type(rgb).__name__}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"expected a photo of shape (H, W, 3) and dtype uint8, got {rgb.shape} {rgb.dtype}")


@torch.inference_mode()
def encode(model: Sam, rgb: np.ndarray) -> EncodedPhoto:
    """Encode one photo, pre-processed as the model's authors do: segment-anything resizes the long side to the model's
    size and pads with zeros, a `StretchedSam` fills its square.

    Args:
        model: any SAM of the registry.
        rgb: (H, W, 3) uint8.

    Raises:
        ValueError: `rgb` is not an (H, W, 3) uint8 array with at least one pixel.
    """
    return encode_together(model, [rgb])[0]


@torch.inference_mode()
def encode_together(model: Sam, photos: Sequence[np.ndarray]) -> list[EncodedPhoto]:
    """Encode photos in one batch; each as `encode` does, up to rounding: `benchmarks/batches.py` says where exactly.

    Raises:
        ValueError: as `encode`.
    """
    for rgb in photos:
        check_photo(rgb)
    with as_loaded(model):
        return _encode(model, photos)


def _encode(model: Sam, photos: Sequence[np.ndarray]) -> list[EncodedPhoto]:
    squares, inputs_hw = zip(*(square_of(model, rgb) for rgb in photos), strict=True)
    pixels = torch.cat(squares)
    with keeping_queries_and_keys(model.image_encoder, getattr(model, "kept_heads", frozenset())) as kept:
        encoder = getattr(model.image_encoder, "with_features", model.image_encoder)
        encoded = encoder(pixels.to(_dtype(model.image_encoder, pixels.dtype)))
    levels = [level.to(pixels.dtype) for level in (encoded if isinstance(encoded, tuple | list) else [encoded])]
    finer, others = [], []
    if isinstance(model, Sam2 | HuggingFaceSam):
        embeddings, *finer = model.levels(*levels)
    else:
        embeddings, *others = levels
    return [
        EncodedPhoto(
            rgb,
            model,
            embeddings[i : i + 1],
            inputs_hw[i],
            tuple(level[i : i + 1] for level in finer),
            {head: of_all.chunk(len(photos), dim=1)[i] for head, of_all in kept.items()},
            *(level[i : i + 1] for level in others),
        )
        for i, rgb in enumerate(photos)
    ]


def square_of(model: Sam, rgb: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return the square (1, 3, S, S) that a model reads of a photo, normalised, and its rows and columns that show the
    photo."""
    rgb = np.ascontiguousarray(rgb)  # torch takes no mirrored view
    size = model.image_encoder.img_size
    if isinstance(model, StretchedSam):
        return _stretch(model, rgb), (size, size)
    resized = _resize(rgb, size)
    tensor = torch.as_tensor(resized, device=model.device).permute(2, 0, 1).contiguous()[None]
    return model.preprocess(tensor.to(model.pixel_mean.dtype)), (resized.shape[0], resized.shape[1])


def keep_head(model: Sam, head: Head) -> None:
    """Make `encode` also keep the queries and keys of a head in every photo that it encodes with a model."""
    model.kept_heads = getattr(model, "kept_heads", frozenset()) | {head}


def set_encoder_precision(model: Sam, precision: str) -> None:
    """Set the precision of a SAM's image encoder alone; `encode` casts its input and output.

    Args:
        model: any SAM of the registry, already on its device: `.to(dtype)` later changes the encoder as well.
        precision: one of `PRECISIONS`. `auto` is bfloat16 where the device multiplies such matrices (CUDA from compute
            capability 8.0 on, a CPU with AMX or AVX512-BF16), else float32.

    Raises:
        ValueError: unknown precision.
    """
    model.image_encoder.to(precision_dtype(precision, model.device))


def precision_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype that a name in `PRECISIONS` stands for on a device.

    Raises:
        ValueError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r} of the image encoder; the names are {', '.join(PRECISIONS)}")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        quick = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        quick = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    else:
        quick = False
    return torch.bfloat16 if quick else torch.float32


def _dtype(encoder: torch.nn.Module, default: torch.dtype) -> torch.dtype:
    return next((parameter.dtype for parameter in encoder.parameters()), default)


def _stretch(model: StretchedSam, rgb: np.ndarray) -> torch.Tensor:
    """Stretch a photo to the model's square and normalise it: (H, W, 3) uint8 -> (1, 3, S, S)."""
    tensor = torch.tensor(rgb, device=model.device).permute(2, 0, 1)[None].float()  # copied: it may be read-only
    size = model.image_encoder.img_size
    square = functional.interpolate(
        tensor, (size, size), mode="bilinear", align_corners=False, antialias=model.antialias
    )
    return ((square - model.pixel_mean) / model.pixel_std).to(model.pixel_mean.dtype)


def _resize(rgb: np.ndarray, size: int) -> np.ndarray:
    """Resize a photo as segment-anything does; a side that would round to 0 keeps one pixel."""
    height, width = ResizeLongestSide.get_preprocess_shape(rgb.shape[0], rgb.shape[1], size)
    if height and width:
        return ResizeLongestSide(size).apply_image(rgb)
    rows = np.linspace(0, rgb.shape[0] - 1, max(height, 1)).round().astype(int)
    columns = np.linspace(0, rgb.shape[1] - 1, max(width, 1)).round().astype(int)
    return np.ascontiguousarray(rgb[rows][:, columns])
