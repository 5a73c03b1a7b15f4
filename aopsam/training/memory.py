"""Keep training photos decoded in memory, and make dense batches from masks of half their size.

A processor that multiplies bfloat16 tiles trains the encoder on 16 windows in less time than it takes to decode their
photos and all their masks at full size. Here each photo is decoded once, and its masks are kept halved and cropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple, overload

import numpy as np
import torch
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.smaller import at_most
from aopsam.training.annotated import Annotated
from aopsam.training.decode import POINT, Prompts
from aopsam.training.joined import Joined
from aopsam.training.windows import Batch, Window, find_window, jittered

KEPT_BYTES = 4 << 30
"""Bytes of photos that are kept decoded; of further photos each is decoded whenever it is asked for."""
BARE_PX = 640
"""Longer side at most of a photo without annotations: edges are learnt at a quarter of the model's 512 px."""


class Half(NamedTuple):
    """A mask at half its size, cropped.

    Attributes:
        x: column of the left upper corner in the halved photo.
        y: row of it.
        cover: (h, w) uint8, covered share times 255.
    """

    x: int
    y: int
    cover: np.ndarray


@dataclass(frozen=True)
class Decoded(Annotated):
    """A photo in memory.

    Attributes:
        halves: those of its masks that have been asked for, by index.
    """

    halves: dict[int, Half] = field(default_factory=dict)

    def half(self, index: int) -> Half:
        """Return a mask at half its size."""
        if index not in self.halves:
            mask = Image.fromarray(rle.decode(self.rles[index]) * np.uint8(255))
            cover = np.asarray(mask.reduce(2))
            rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
            y, x = int(rows[0]), int(columns[0])
            self.halves[index] = Half(x, y, cover[y : rows[-1] + 1, x : columns[-1] + 1].copy())
        return self.halves[index]


class KeptPhotos(Joined[Annotated]):
    """Photos of several sources in turn, each decoded when it is first asked for and then kept."""

    def __init__(self, sources: Sequence[Sequence[Annotated]]) -> None:
        super().__init__(sources)
        self._kept: dict[int, Decoded] = {}
        self._bytes = 0

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Annotated]: ...
    def __getitem__(self, index: int | slice) -> Annotated | Sequence[Annotated]:
        if isinstance(index, slice):
            return super().__getitem__(index)
        number = range(len(self))[index]
        if number in self._kept:
            return self._kept[number]
        photo = _decoded(super().__getitem__(number))
        if self._bytes + photo.rgb.nbytes <= KEPT_BYTES:
            self._kept[number] = photo
            self._bytes += photo.rgb.nbytes
        return photo

    def moved(self, sources: Sequence[Sequence[Annotated]], gone: Sequence[int]) -> KeptPhotos:
        """Return other photos of the same sources, with what is decoded of those that are still there.

        Args:
            sources: photos by source.
            gone: how many of the first photos of each source are not in it any more.
        """
        same = KeptPhotos(sources)
        for number, photo in self._kept.items():
            source, place = self.place(number)
            if place >= gone[source]:
                same._kept[same.number(source, place - gone[source])] = photo
                same._bytes += photo.rgb.nbytes
        return same


class DrawnPhotos(Sequence[Annotated]):
    """Photos as often as their source is to be drawn: a random index is a photo by its share.

    Args:
        photos: the photos.
        shares: how often a photo of each source is drawn, relative to the others; all above 0. They are rounded to
            halves of the smallest.
    """

    def __init__(self, photos: KeptPhotos, shares: Sequence[float]) -> None:
        self._photos = photos
        whole = 1 if len(set(shares)) == 1 else 2
        first, places = 0, []
        for count, share in zip(photos.counts, shares, strict=True):
            places += list(range(first, first + count)) * round(whole * share / min(shares))
            first += count
        self._places = np.array(places, np.int64)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Annotated]: ...
    def __getitem__(self, index: int | slice) -> Annotated | Sequence[Annotated]:
        if isinstance(index, slice):
            return [self._photos[int(place)] for place in self._places[index]]
        return self._photos[int(self._places[index])]


def _decoded(photo: Annotated) -> Decoded:
    """Return a photo with room for its masks; one without annotations is made smaller."""
    values = {entry.name: getattr(photo, entry.name) for entry in fields(Annotated)}
    return Decoded(**(values if photo.rles else values | {"rgb": at_most(photo.rgb, BARE_PX)}))


def dense_batch(
    photos: Sequence[Annotated],
    rng: np.random.Generator,
    *,
    windows: int,
    size_px: int,
    frame_px: int,
    masks: int,
    scale: tuple[float, float],
) -> Batch:
    """Cut windows as `make_batch` does, for the dense loss alone: a prompt says only which window its mask belongs to.

    Args:
        photos: photos to cut from, each a `Decoded`.
        rng: the only source of random numbers.
        windows: W.
        size_px: side of a window in frame pixels.
        frame_px: side of the model's padded square.
        masks: most masks of a window, each at most three times.
        scale: smallest and largest size of the photo relative to the frame (log-uniform).

    Raises:
        ValueError: no photo has a mask that is large enough.
    """
    cut: list[Window] = []
    rgbs: list[np.ndarray] = []
    owners: list[int] = []
    targets: list[np.ndarray] = []
    while len(cut) < windows:
        window, chosen = find_window(photos, rng, size_px, frame_px, scale, masks, bare=len(owners) > 0)
        drawn = {index: half_target(window, index) for index in set(chosen.tolist())}
        targets += [drawn[index] for index in chosen.tolist()]
        owners += [len(cut)] * len(chosen)
        rgbs.append(jittered(window, rng))
        cut.append(window)
    count = len(owners)
    return Batch(
        torch.from_numpy(np.stack(rgbs)).permute(0, 3, 1, 2),
        torch.tensor([window.inside for window in cut]),
        torch.tensor([window.cell for window in cut]),
        Prompts(torch.tensor(owners), torch.zeros(count, 1, 2), torch.full((count, 1), POINT)),
        torch.from_numpy(np.stack(targets)).float() / 255,
        torch.zeros(count, dtype=torch.bool),
        torch.from_numpy(np.stack([window.edges() for window in cut])),
    )


def half_target(window: Window, index: int) -> np.ndarray:
    """Return the target of a mask as `Window.target` does, from the mask at half its size.

    Args:
        window: window of a `Decoded` photo.
        index: number of the mask.
    """
    photo = window.photo
    assert isinstance(photo, Decoded)
    half = photo.half(index)
    side = window.size_px // 4
    x0, y0, x1, y1 = window.region(window.size_px, window.size_px)
    width, height = (-(-size // 2) for size in (photo.rgb.shape[1], photo.rgb.shape[0]))
    high, wide = half.cover.shape
    left, cover = half.x, half.cover
    if window.flip:
        left, cover = width - left - wide, cover[:, ::-1]
        # An odd width's last column stands alone; mirrored, it is the first, and everything lies a pixel further.
        x0, x1 = x0 + photo.rgb.shape[1] % 2, x1 + photo.rgb.shape[1] % 2
    canvas = np.zeros((max(height, math.ceil(y1 / 2)), max(width, math.ceil(x1 / 2))), np.uint8)
    canvas[half.y : half.y + high, left : left + wide] = cover
    box = x0 / 2, y0 / 2, x1 / 2, y1 / 2
    return np.asarray(Image.fromarray(canvas).resize((side, side), Image.Resampling.HAMMING, box))
