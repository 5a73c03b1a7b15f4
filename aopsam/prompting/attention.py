"""`attention`: cells that attend alike are one object, and each such cluster is asked for once (Efficient SAM2).

Rows of the attention matrix of a deep global attention block, one head, are the features of the embedding's cells;
HDBSCAN (Campello et al. 2013) clusters them by cosine distance; a cluster's medoid is a point prompt. No training.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam._options import Count, Limits
from aopsam.prompting.fates import Fates
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.attention import Head, attention_rows, global_attention, head_count, similarity_rows
from aopsam.sam.encode import EncodedPhoto, encode, keep_head
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import name_of

Rows = Literal["attention", "similarity"]


class Preset(NamedTuple):
    """HDBSCAN's two parameters: which neighbour of a cell sets its density, and how many cells make a cluster."""

    min_samples: int
    min_cluster_size: int


BY_SIMILARITY = {"tiny"}
"""Models with global attention whose heads say no more of objects than random points do (benchmarks/LOG.md)."""


OWN_HEADS = {"sam2_hiera_l": Head(23, 2)}
"""Places that are read where it is not head 0 of the last block: Efficient SAM2 takes Hiera-L's first global block."""


class Attention(Strategy):
    """`attention-low-latency`: one point for each cluster of cells, in one round; large clusters first.

    Attributes:
        preset: of Efficient SAM2, table 1; there for grids of 64 x 64 cells that the photo fills.
    """

    preset: ClassVar[Preset] = Preset(2, 10)

    def __init__(
        self,
        model: Sam,
        *,
        rows: Rows | None = None,
        block: Annotated[int, Limits(0)] | None = None,
        head: Annotated[int, Limits(0)] | None = None,
        min_samples: Count | None = None,
        min_cluster_size: Annotated[int, Limits(2)] | None = None,
        max_prompts: Count | None = None,
    ) -> None:
        """Set up the strategy; `encode` keeps queries and keys of its head for every photo of `model` from then on.

        Args:
            model: the SAM that encodes and decodes.
            rows: what describes a cell: whom it attends to, or (`similarity`) which cells' embeddings are like its own.
                By default attention where the encoder has a block of global attention, else similarity; and similarity
                for the models in `BY_SIMILARITY`.
            block: of global attention, counted from 0; by default the last, or that in `OWN_HEADS`.
            head: of it, counted from 0, the default outside `OWN_HEADS`; which one tells objects apart differs between
                weights.
            min_samples: the preset's by default.
            min_cluster_size: the preset's by default.
            max_prompts: of one photo at most.

        Raises:
            ValueError: a block or head that the model does not have.
        """
        self.min_samples = self.preset.min_samples if min_samples is None else min_samples
        self.min_cluster_size = self.preset.min_cluster_size if min_cluster_size is None else min_cluster_size
        self.max_prompts = max_prompts
        import_module("sklearn.cluster")  # seconds, not to be charged to the first photo
        blocks = global_attention(model.image_encoder)
        if rows is None:
            rows = "attention" if blocks and name_of(model) not in BY_SIMILARITY else "similarity"
        if rows == "similarity" and (block, head) != (None, None):
            raise ValueError("attention: block and head belong to rows=attention")
        self.head = None if rows == "similarity" else _head(model, block, head)
        if self.head is not None:
            keep_head(model, self.head)

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build the strategy for a model."""
        return cls(context.model, **options)

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield all of them in one round; none where no cells cluster."""
        medoids, share = cluster_medoids(self.distances(photo), self.min_samples, self.min_cluster_size)
        prompts = Prompts.from_points(cell_centres_px(photo)[medoids], share)
        kept = prompts[: self.max_prompts]
        fates.drop(prompts[len(kept) :], "more than max_prompts")
        if len(kept):
            yield kept

    def distances(self, photo: EncodedPhoto) -> np.ndarray:
        """Return (N, N) float64 cosine distances between the N cells of the photo, row by row."""
        if self.head is None:
            rows = similarity_rows(photo.embedding, photo.content_cells)
        else:
            if self.head not in photo.queries_keys:  # encoded before this strategy was made
                photo = encode(photo.model, photo.rgb)
            attention = global_attention(photo.model.image_encoder)[self.head.block]
            cells = photo.embedding.shape[-2], photo.embedding.shape[-1]
            rows = attention_rows(attention, photo.queries_keys[self.head], cells, photo.content_cells)
        return cosine_distances(rows)


class HighQuality(Attention):
    """`attention-high-quality`."""

    preset = Preset(2, 5)


class Sam3d(Attention):
    """`attention-sam3d`."""

    preset = Preset(5, 40)


class Sam1(Attention):
    """`attention-sam1`."""

    preset = Preset(2, 3)


def cosine_distances(rows: torch.Tensor) -> np.ndarray:
    """Return cosine distances of (N, d) float32 rows: (N, N) float64, symmetric, 0 on the diagonal, at most 2."""
    unit = F.normalize(rows, dim=1)
    distances = (1 - unit @ unit.T).clamp_min(0).fill_diagonal_(0)
    return torch.maximum(distances, distances.T).cpu().numpy().astype(np.float64)


def cluster_medoids(distances: np.ndarray, min_samples: int, min_cluster_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster N items and return the medoid of each cluster.

    HDBSCAN as scikit-learn has it, on the distances themselves: excess of mass, never one cluster alone. The same
    distances give the same clusters.

    Args:
        distances: (N, N) float64, symmetric.
        min_samples: which neighbour of an item sets its density, 1 or more; where there are fewer, the last.
        min_cluster_size: 2 or more.

    Returns:
        (K,) int64 items whose distances to all items of their cluster sum to the least, of large clusters first, and
        (K,) float32 share of all items in each cluster.
    """
    from sklearn.cluster import HDBSCAN  # here, since only this strategy should wait for the import

    count = len(distances)
    if count < min_cluster_size:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    # scikit-learn counts the item itself as the first of its neighbours; Efficient SAM2's formula does not.
    neighbour = min(min_samples + 1, count)
    clustering = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=neighbour, metric="precomputed", copy=True)
    labels = clustering.fit(distances).labels_
    members = sorted((np.flatnonzero(labels == label) for label in range(labels.max() + 1)), key=len, reverse=True)
    medoids = [cells[distances[np.ix_(cells, cells)].sum(axis=1).argmin()] for cells in members]
    share = [len(cells) / count for cells in members]
    return np.array(medoids, np.int64), np.array(share, np.float32)


def cell_centres_px(photo: EncodedPhoto) -> np.ndarray:
    """Return (N, 2) float64 XY in original pixels: the middle of what each of `content_cells` shows of the photo."""
    centres = []
    for cells, side, inside in zip(photo.content_cells, photo.hw, photo.input_hw, strict=True):
        cell = photo.model.image_encoder.img_size / photo.embedding.shape[-1]
        edges = np.minimum(np.arange(cells + 1) * cell, inside) * (side / inside)
        centres.append((edges[:-1] + edges[1:]) / 2)
    y, x = np.meshgrid(*centres, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _head(model: Sam, block: int | None, head: int | None) -> Head:
    """Return the attention head to read.

    Raises:
        ValueError: it does not exist.
    """
    blocks = global_attention(model.image_encoder)
    if not blocks:
        raise ValueError(
            f"attention: {name_of(model) or 'the SAM'} has no block of global attention; use rows=similarity"
        )
    own = OWN_HEADS.get(name_of(model), Head(max(blocks), 0))
    block = own.block if block is None else block
    if block not in blocks:
        raise ValueError(
            f"attention: block={block} of {name_of(model) or 'the SAM'} has no global attention, {sorted(blocks)} have"
        )
    heads = head_count(blocks[block])
    head = (own.head if block == own.block else 0) if head is None else head
    if not 0 <= head < heads:
        raise ValueError(
            f"attention: head={head}; block {block} of {name_of(model) or 'the SAM'} has heads 0 to {heads - 1}"
        )
    return Head(block, head)
