"""The image's side of SAM's mask decoder for many prompts of one photo, without a copy of the cells for each prompt.

All that a prompt adds to a cell is a mixture of a few token vectors, so the cells of one prompt are

    cells = scale · base + factorsᵀ · rows + constant

with `base` (N, C) and `constant` (C,) the photo's alone, and a prompt's own `scale` (1, N), `factors` (R, N) and `rows`
(R, C), R a few dozen. The form is closed under what the decoder does to cells:

- an attention of the tokens to the cells, or of the cells to the tokens, needs products of the cells with some vectors:
  those with `base` are products of 16 numbers a head with a projection made once for the photo, the rest is R numbers
  a cell;
- what the cells' attention to the tokens adds is a softmax over tokens (new factors) times their values (new rows).
  The softmax sums to one, so one token's values are a row for all heads together, whose factor is one, and the other
  tokens' rows are what their values have more: 49 rows a layer say what 56 would;
- layer normalisation centres rows and base once, and its deviation follows from the rows' inner products;
- the first convolution of the upscaling is one more product.

Exact up to rounding.

Prompts of several photos run together, those of one photo after those of another (`joined`): what is a photo's alone is
multiplied photo by photo, with `counts` prompts each, everything else at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional

PerPhoto = tuple[Tensor, ...]
"""One tensor of each photo."""


@dataclass(frozen=True)
class Cells:
    """The photo's cells after some layers, for B prompts; None stands for the cells before the first layer.

    Attributes:
        scale: (B, 1, N), factor of the base.
        factors: (B, R, N), factors of the rows.
        values: what the rows are made of, (B, T, heads, d) of each layer so far: the first token's values, and of every
            other token the difference to those. Rows come layer by layer, 1 + (T - 1) · heads each: one of the
            layer's constant and the first token, then those of the other tokens.
    """

    scale: Tensor
    factors: Tensor
    values: tuple[Tensor, ...]

    def of_photo(self, start: int, stop: int) -> Cells:
        """Return the cells of one photo's prompts, without a copy."""
        values = tuple(value[start:stop] for value in self.values)
        return Cells(self.scale[start:stop], self.factors[start:stop], values)

    def of(self, prompts: Tensor, cut: Callable[[Tensor], Tensor]) -> Cells:
        """Return the cells of some prompts, only those that `cut` keeps: (..., N) → (..., rows, columns)."""
        values = tuple(value[prompts] for value in self.values)
        return Cells(cut(self.scale)[prompts].flatten(2), cut(self.factors)[prompts].flatten(2), values)


@dataclass(frozen=True)
class Map:
    """What turns a layer's values into rows.

    Attributes:
        by_head: (heads, d, C), matrices of the values.
        constant: (C,), what the first row has besides.
    """

    by_head: Tensor
    constant: Tensor

    def then(self, linear: Callable[[Tensor], Tensor]) -> Map:
        """Return the map with a linear function after it."""
        return Map(linear(self.by_head), linear(self.constant))


class _Rows:
    """The rows of `Cells` times a matrix (C, K): values times their maps, each multiplied with that matrix once."""

    def __init__(self, maps: Sequence[Map], matrix: Tensor | None = None) -> None:
        self._maps = [rows if matrix is None else rows.then(lambda each: each @ matrix) for rows in maps]

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """Return the rows times the matrix, (B, R, K)."""
        made: list[Tensor] = []
        for rows, value in zip(self._maps, values, strict=True):
            first = value[:, 0].flatten(1) @ rows.by_head.flatten(0, 1) + rows.constant
            others = _by_head(value[:, 1:], (rows.by_head,), (len(value),))
            made += [first[:, None], others.flatten(1, 2)]
        return torch.cat(made, dim=1)


class CellsAsKeys:
    """Attention of the tokens to the cells."""

    def __init__(
        self, attention: Attention, base: Tensor, constant: Tensor, place: Tensor, maps: Sequence[Map]
    ) -> None:
        self._attention, self._heads = attention, attention.num_heads
        self._keys = _Scores(attention, attention.k_proj, base, constant, place, maps)
        value = attention.v_proj.weight.float().T
        self._base: PerPhoto = (_heads_first(base @ value, self._heads),)
        self._rows = _Rows(maps, value)
        self._constant = constant @ value + attention.v_proj.bias.float()

    @classmethod
    def joined(cls, photos: Sequence[CellsAsKeys]) -> CellsAsKeys:
        """Return the attention to the cells of several photos."""
        both = copy(photos[0])
        both._keys = _Scores.joined([photo._keys for photo in photos])
        both._base = _all(photo._base for photo in photos)
        return both

    def __call__(self, queries: Tensor, cells: Cells | None, counts: Sequence[int]) -> Tensor:
        """Attend with queries (B, T, C) to the cells; return what they read, (B, T, C)."""
        heads = self._heads
        q = self._attention.q_proj(queries).float().unflatten(2, (heads, -1))
        weights = torch.softmax(self._keys(q, cells, counts), dim=-1)
        if cells is None:
            read = _by_head(weights, self._base, counts)
        else:
            of_rows = torch.bmm(weights.flatten(1, 2), cells.factors.mT).unflatten(1, (-1, heads)).transpose(1, 2)
            rows = self._rows(cells.values).unflatten(2, (heads, -1)).transpose(1, 2)
            read = _by_head(weights.mul_(cells.scale[:, None]), self._base, counts)
            read += (of_rows @ rows).transpose(1, 2)
        return self._attention.out_proj((read.flatten(2) + self._constant).to(queries.dtype))


class CellsAsQueries:
    """Attention of the cells to the tokens, its sum with the cells, and the norm.

    Attributes:
        base: (N, C), base of the cells after the norm.
        constant: (C,), constant of the cells after the norm.
        maps: maps of the rows after the norm, as `_Rows` takes them.
    """

    def __init__(
        self,
        attention: Attention,
        norm: nn.LayerNorm,
        base: Tensor,
        constant: Tensor,
        place: Tensor,
        maps: Sequence[Map],
    ) -> None:
        self._attention, self._heads, self._eps = attention, attention.num_heads, norm.eps
        self._scores = _Scores(attention, attention.q_proj, base, constant, place, maps)
        written = attention.out_proj.weight.float().T.unflatten(0, (self._heads, -1))
        constant = constant + attention.out_proj.bias.float()
        base, maps = _centred(base), [rows.then(_centred) for rows in (*maps, Map(written, constant))]
        self._rows = _Rows(maps)
        self._square: PerPhoto = (base.square().sum(1),)
        # Inner products of the rows with the base: by head for values, (N,) for constants.
        self._cross: list[PerPhoto] = [(rows.by_head @ base.T,) for rows in maps]
        self._cross_of_constants: list[PerPhoto] = [(base @ rows.constant,) for rows in maps]
        gain = norm.weight.float()
        self.base, self.maps, self.constant = base * gain, [rows.then(gain.mul) for rows in maps], norm.bias.float()

    @classmethod
    def joined(cls, photos: Sequence[CellsAsQueries]) -> CellsAsQueries:
        """Return the attention of the cells of several photos."""
        both = copy(photos[0])
        both._scores = _Scores.joined([photo._scores for photo in photos])
        both._square = _all(photo._square for photo in photos)
        both._cross = [_all(rows) for rows in zip(*(photo._cross for photo in photos), strict=True)]
        of_constants = zip(*(photo._cross_of_constants for photo in photos), strict=True)
        both._cross_of_constants = [_all(rows) for rows in of_constants]
        return both

    def __call__(self, keys: Tensor, values: Tensor, cells: Cells | None, counts: Sequence[int]) -> Cells:
        """Return the cells after their attention to tokens (B, T, C) with these keys and values."""
        heads = self._heads
        k, v = (
            projection(tokens).float().unflatten(2, (heads, -1))
            for projection, tokens in ((self._attention.k_proj, keys), (self._attention.v_proj, values))
        )
        v[:, 1:] -= v[:, :1]
        # The first token's factors are not needed; a row of ones takes the place of the last of them.
        factors = torch.softmax(self._scores(k, cells, counts), dim=1).flatten(1, 2)[:, heads - 1 :]
        factors[:, 0] = 1
        if cells is None:
            scale = self._deviation(None, factors, (v,), counts)
            return Cells(scale, factors.mul_(scale), (v,))
        factors = torch.cat([cells.factors, factors], dim=1)
        all_values = (*cells.values, v)
        scale = self._deviation(cells.scale, factors, all_values, counts)
        return Cells(scale * cells.scale, factors.mul_(scale), all_values)

    def _deviation(
        self, scale: Tensor | None, factors: Tensor, values: tuple[Tensor, ...], counts: Sequence[int]
    ) -> Tensor:
        """Compute 1 / standard deviation of each cell over its channels, (B, 1, N).

        With everything centred, |s·b + fᵀR|² = s²|b|² + f · (2 s (R bᵀ) + (R Rᵀ) f).
        """
        rows = self._rows(values)
        inner = torch.bmm(rows @ rows.mT, factors)
        twice = inner.new_full((1,), 2.0) if scale is None else 2.0 * scale
        start = 0
        for value, cross, of_constant in zip(values, self._cross, self._cross_of_constants, strict=True):
            together = tuple(rows.flatten(0, 1)[None] for rows in cross)
            first = _by_head(value[:, :1].flatten(2)[:, :, None], together, counts)[:, :, 0]
            first += _repeated(of_constant, counts)
            for product in first, _by_head(value[:, 1:], cross, counts).flatten(1, 2):
                inner[:, start : start + product.shape[1]].addcmul_(product, twice)
                start += product.shape[1]
        square = inner.mul_(factors).sum(1, keepdim=True)
        of_base = _repeated(self._square, counts)
        square += of_base if scale is None else of_base * scale.square()
        return (square / rows.shape[-1] + self._eps).rsqrt_()


class _Scores:
    """Products of tokens with projected cells, scaled for the softmax.

    The photo's own part of them is (cells + place) projected, once; from the second layer on, the base is kept apart,
    since a prompt scales it.
    """

    def __init__(
        self,
        attention: Attention,
        projection: nn.Linear,
        base: Tensor,
        constant: Tensor,
        place: Tensor,
        maps: Sequence[Map],
    ) -> None:
        heads = self._heads = attention.num_heads
        weight = projection.weight.float().T
        self._shrink = (weight.shape[1] // heads) ** -0.5
        self._base: PerPhoto | None = (_heads_first(base @ weight, heads).mT,) if maps else None
        placed = place + constant if maps else place + constant + base
        self._placed: PerPhoto = (_heads_first(placed @ weight + projection.bias.float(), heads).mT,)
        self._rows = _Rows(maps, weight)

    @classmethod
    def joined(cls, photos: Sequence[_Scores]) -> _Scores:
        both = copy(photos[0])
        both._base = None if both._base is None else _all(photo._base or () for photo in photos)
        both._placed = _all(photo._placed for photo in photos)
        return both

    def __call__(self, tokens: Tensor, cells: Cells | None, counts: Sequence[int]) -> Tensor:
        """Compute the scores of tokens (B, T, heads, d) for all cells, (B, T, heads, N)."""
        tokens = tokens * self._shrink
        if cells is None or self._base is None:
            return _by_head(tokens, self._placed, counts)
        scores = _by_head(tokens, self._base, counts).mul_(cells.scale[:, None])
        _by_head(tokens, self._placed, counts, onto=scores)
        rows = self._rows(cells.values).unflatten(2, (self._heads, -1)).permute(0, 2, 3, 1)
        of_rows = (tokens.transpose(1, 2) @ rows).transpose(1, 2).flatten(1, 2)
        scores.view(len(scores), -1, scores.shape[-1]).baddbmm_(of_rows, cells.factors)
        return scores


class Upscale:
    """`MaskDecoder.output_upscaling` and the product with the hypernetworks: transposed convolutions of stride 2 and
    kernel 2 are products of each cell with a matrix; the resulting places are put in order last, as masks."""

    def __init__(
        self,
        first: nn.ConvTranspose2d,
        norm: LayerNorm2d | nn.GroupNorm,
        second: nn.ConvTranspose2d,
        base: Tensor,
        constant: Tensor,
        maps: Sequence[Map],
        finer: tuple[Tensor, ...],
    ) -> None:
        into = _as_matrix(first)
        self._base = base @ into
        self._constant = constant @ into + _bias(first)
        self._rows = _Rows(maps, into)
        self._gain, self._shift, self._eps = norm.weight.float(), norm.bias.float(), norm.eps
        self._second, self._second_bias = _as_matrix(second).T, _bias(second)
        self._channels = second.out_channels
        self._of_whole_photo = isinstance(norm, nn.GroupNorm)
        self._finest: Tensor | None = None
        if finer:
            twice, four_times = finer
            self._constant = self._constant + _places(twice).flatten(1)
            within = _places(functional.pixel_unshuffle(four_times, 2)).unflatten(2, (-1, 4))
            self._finest = within.transpose(2, 3).flatten(2)

    def __call__(self, cells: Cells, hyper: Tensor, grid: tuple[int, int]) -> Tensor:
        """Compute logits (B, M, 4 rows, 4 columns) from the cells of B prompts and hyper (B, M, C / 8)."""
        return self.in_order(hyper @ self.features(cells).mT, grid)

    def features(self, cells: Cells) -> Tensor:
        """Compute the upscaled features of B prompts, (B, 16 · cells, C / 8), place by place within each cell."""
        features = torch.addcmul(self._constant, cells.scale.mT, self._base)
        features = features.baddbmm_(cells.factors.mT, self._rows(cells.values)).unflatten(2, (4, -1))
        if self._of_whole_photo:
            variance, mean = torch.var_mean(features, dim=(1, 2, 3), correction=0, keepdim=True)
            features = (features - mean) * (variance + self._eps).rsqrt() * self._gain + self._shift
        else:
            features = functional.layer_norm(features, self._gain.shape, self._gain, self._shift, self._eps)
        features = functional.linear(_gelu_(features), self._second, self._second_bias)
        if self._finest is not None:
            features += self._finest
        return _gelu_(features).view(len(features), -1, self._channels)

    @staticmethod
    def in_order(per_place: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put places in order: (B, M, 16 · cells), as `features` has them → (B, M, 4 rows, 4 columns)."""
        order = _raster(grid, per_place.device).expand_as(per_place)
        return per_place.gather(2, order).unflatten(2, (4 * grid[0], 4 * grid[1]))


@lru_cache(maxsize=64)
def _raster(grid: tuple[int, int], device: torch.device) -> Tensor:
    """Return the place of each pixel, row by row, (16 · cells,), among places that lie cell by cell and, in a cell,
    first by its quarter."""
    places = torch.arange(16 * grid[0] * grid[1], device=device).view(*grid, 2, 2, 2, 2)
    return places.permute(0, 2, 4, 1, 3, 5).flatten()


def _gelu_(features: Tensor) -> Tensor:
    """Apply GELU in place: these are the decoder's largest tensors."""
    return torch.ops.aten.gelu_(features)


def _places(fine: Tensor) -> Tensor:
    """Group features by cell: (1, O, 2h, 2w) → (h · w, 4, O), the four places of each cell, row by row."""
    return functional.pixel_unshuffle(fine[0].float(), 2).unflatten(0, (-1, 4)).permute(2, 3, 1, 0).flatten(0, 1)


def _as_matrix(convolution: nn.ConvTranspose2d) -> Tensor:
    """Return a transposed convolution as a matrix (C, 4 · O): the four places of a cell, row by row."""
    return convolution.weight.float().permute(0, 2, 3, 1).flatten(1)


def _bias(convolution: nn.ConvTranspose2d) -> Tensor:
    """Return a convolution's bias, (4 · O): the same for the four places of a cell."""
    assert convolution.bias is not None
    return convolution.bias.float().repeat(4)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(-1, keepdim=True)


def _heads_first(projected: Tensor, heads: int) -> Tensor:
    """Split channels by head: (N, heads · d) → (heads, N, d)."""
    return projected.unflatten(1, (heads, -1)).transpose(0, 1).contiguous()


def _by_head(left: Tensor, rights: PerPhoto, counts: Sequence[int], onto: Tensor | None = None) -> Tensor:
    """Multiply (B, T, heads, K), head by head, with each photo's (heads, K, N) → (B, T, heads, N).

    Every product is written where it belongs: to bring heads back beside their tokens took as long as to multiply.

    Args:
        left: of B prompts, those of the first photo first.
        rights: one for each photo.
        counts: prompts of each photo.
        onto: tensor to which the products are added, and which is returned.
    """
    out = left.new_empty(*left.shape[:3], rights[0].shape[2]) if onto is None else onto
    start = 0
    for right, count in zip(rights, counts, strict=True):
        part, target = (t[start : start + count].flatten(0, 1).transpose(0, 1) for t in (left, out))
        if onto is None:
            torch.bmm(part, right, out=target)
        else:
            target.baddbmm_(part, right)
        start += count
    return out


def _repeated(rows: PerPhoto, counts: Sequence[int]) -> Tensor:
    """Return each photo's N numbers for each of its prompts, (B, 1, N); of one photo once, (1, 1, N)."""
    if len(rows) == 1:
        return rows[0].view(1, 1, -1)
    return torch.cat([row.view(1, 1, -1).expand(count, -1, -1) for row, count in zip(rows, counts, strict=True)])


def _all(photos: Iterable[PerPhoto]) -> PerPhoto:
    return tuple(chain.from_iterable(photos))
