"""Read the objects of a mask PNG: ids of a palette, of grey or of colours, black and white, alpha, soft edges."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from aopsam.photos.decode import MAX_PIXELS, quiet_pillow

Ints = npt.NDArray[np.int32]

SOFT_SHARE = 0.5
"""Largest share of the pixels above 0 that may be below the highest value in a mask of black and white."""
ALIKE_SHARE = 0.5
"""Least share of pixels that are as the next one of their row; there are fewer in photos and in noise."""
AREA_SHARE = 0.25
"""Least share of a colour's pixels that lie among their like, in a colour that fills areas: edges have hardly any."""
MOST_PLAIN = 32
"""Grey values below this alone are ids, not soft edges."""
VOID, VOC_VOID = 255, 0xE0E0C0
"""Void of PASCAL VOC, which belongs to no object: its index in the palette, and its colour."""
BLACK, WHITE = 0, 0xFFFFFF


def ids_of(png: bytes) -> Ints:
    """Read the objects of a mask: (h, w), each pixel with its object's id; 0 is background.

    - Black and white alone: white is one object, whatever their places in a palette.
    - A palette: its indices; 0 is background (or black, where that is another index), and 255 void as in PASCAL VOC.
    - Grey below the highest value (255, or 65535 of 16 bits): the values; that is void beside values below a quarter.
      Else it is one object, where it is at least half of the highest value.
    - Colours: each one an object; black, white where there is no black, and PASCAL VOC's void are none.
    - What is transparent is background; where all the rest has one colour, or is a photo, the rest is one object.
    - Soft edges, where colours blend, go to the nearest area.

    Raises:
        ValueError: no PNG, too large, or values that are neither ids nor a mask, as of a photo.
    """
    with quiet_pillow(), Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} × {image.height} px is over the limit of {MAX_PIXELS}")
        if image.mode.startswith("I"):  # 16 bits of grey
            return _of_grey(np.asarray(image).astype(np.int32), 65535)
        opaque = _opaque(image)
        if opaque is None and image.mode in ("1", "L") and png[24] in (1, 8):
            return _of_grey(np.asarray(image.convert("L")).astype(np.int32), 255)
        rgb = np.asarray(image.convert("RGB")).astype(np.int32)
        if opaque is not None and len(np.unique(_codes(rgb[opaque]))) == 1:
            return opaque.astype(np.int32)
        if image.mode == "P":
            index, palette = np.asarray(image).astype(np.int32), _palette(image)
            if opaque is None:
                return _of_palette(index, palette)
            if index[opaque].all():
                palette[0] = 0
                return _of_palette(np.where(opaque, index, 0), palette)
    if png[24] in (2, 4):  # bits: Pillow stretches these ids up to 255
        return _without_soft_edges(rgb[..., 0], rgb[..., :1])
    if png[24] == 16 and not np.isin(rgb, (0, 255)).all():  # Pillow reads the upper 8 bits alone
        raise ValueError("colours of 16 bits; ids of 16 bits must be grey, colours of 8 bits")
    if opaque is None:
        return _of_colours(rgb)
    try:
        return np.where(opaque, _of_colours(np.where(opaque[..., None], rgb, 0)), 0)
    except ValueError:  # a photo whose background is cut off
        return opaque.astype(np.int32)


def _opaque(image: Image.Image) -> npt.NDArray[np.bool_] | None:
    """Return which pixels (h, w) are at least half opaque; None where all are, or none."""
    if not image.has_transparency_data:
        return None
    opaque: npt.NDArray[np.bool_] = np.asarray(image.convert("RGBA"))[..., 3] >= 128
    return None if opaque.all() or not opaque.any() else opaque


def _palette(image: Image.Image) -> Ints:
    """Return the palette, (256, 3); an index that it lacks is grey."""
    given = np.array(image.getpalette("RGB") or [], np.int32).reshape(-1, 3)[:256]
    return np.concatenate([given, np.arange(len(given), 256, dtype=np.int32)[:, None].repeat(3, axis=1)])


def _codes(rgb: Ints) -> Ints:
    """Return colours (…, 3) as one number each, 0xRRGGBB."""
    codes: Ints = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    return codes


def _of_palette(index: Ints, palette: Ints) -> Ints:
    """Read indices (h, w) of a palette (256, 3)."""
    index = _without_soft_edges(index, palette[index])
    codes = _codes(palette)
    used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
    shown = set(codes[used].tolist())
    is_told = len(shown) == len(used)  # else indices alone tell objects apart
    if is_told and shown <= {BLACK, WHITE} and WHITE in (*shown, codes[0]):
        return (codes[index] == WHITE).astype(np.int32)
    if len(used[used > 0]) > 1 or codes[VOID] == VOC_VOID:
        index = np.where(index == VOID, 0, index)
    black = used[codes[used] == BLACK]
    if not is_told or codes[0] == BLACK or not len(black) or black[0] == VOID:
        return index
    if 0 in used and codes[0] == WHITE:
        raise ValueError(f"a palette with white at index 0, black at {black[0]} and colours: either may be background")
    return np.where(index == black[0], 0, index + 1)


def _of_colours(rgb: Ints) -> Ints:
    """Read colours (h, w, 3)."""
    if (rgb == rgb[..., :1]).all():
        return _of_grey(rgb[..., 0], 255)
    codes = _codes(rgb)
    if not np.isin(codes, (BLACK, VOC_VOID)).all():
        rgb = np.where((codes == VOC_VOID)[..., None], 0, rgb)
    ids = _without_soft_edges(_codes(rgb), rgb)
    if not (ids == BLACK).any() and (ids != WHITE).any():
        ids = np.where(ids == WHITE, 0, ids)
    return ids


def _of_grey(values: Ints, highest: int) -> Ints:
    """Read grey (h, w) of 0 to `highest`."""
    counts = np.bincount(values.ravel(), minlength=highest + 1)
    if not counts[MOST_PLAIN:].any():
        return values
    if not counts[highest]:
        return _without_soft_edges(values, values[..., None])
    quarter, nearly = highest // 4, highest - highest // 8
    low, middle = (values > 0) & (values < quarter), (values >= quarter) & (values < nearly)
    words = f"neither a mask of 0 and {highest} nor ids"
    if low.any() and not middle.any() and _fills_areas(values, low):
        if counts[nearly:highest].any():
            raise ValueError(f"grey values below {quarter} and above {nearly} fill areas: {words}")
        return np.where(values == highest, 0, values)
    if middle.any() and _among_their_like(values)[middle].mean() >= AREA_SHARE:
        at = int(np.bincount(values[middle]).argmax())
        raise ValueError(f"grey values such as {at} fill areas beside {highest}: {words}")
    share = 1 - counts[highest] / counts[1:].sum()
    if share > SOFT_SHARE:
        raise ValueError(f"grey values up to {highest}, {share:.0%} of them between: {words}")
    _check_alike(values)
    return (values > highest // 2).astype(np.int32)


def _fills_areas(values: Ints, part: npt.NDArray[np.bool_]) -> bool:
    """Return whether pixels fill areas, rather than lie between darker and brighter ones."""
    inner = _among_their_like(values)[part].mean() >= AREA_SHARE
    return bool(inner or _blends(values[..., None])[part].mean() < 0.5)


def _among_their_like(ids: Ints) -> npt.NDArray[np.bool_]:
    """Return which pixels (h, w) are as all four neighbours, of those in the picture."""
    inner = np.ones(ids.shape, bool)
    rows, columns = ids[1:] == ids[:-1], ids[:, 1:] == ids[:, :-1]
    inner[1:] &= rows
    inner[:-1] &= rows
    inner[:, 1:] &= columns
    inner[:, :-1] &= columns
    return inner


def _blends(colours: Ints) -> npt.NDArray[np.bool_]:
    """Return which pixels of (h, w, c) have a darker and a brighter neighbour, of eight, in one of the channels."""
    found = [
        (minimum_filter(channel, 3) < channel) & (channel < maximum_filter(channel, 3))
        for channel in np.moveaxis(colours, 2, 0)
    ]
    return np.any(found, axis=0)


def _without_soft_edges(ids: Ints, colours: Ints) -> Ints:
    """Give the pixels of soft edges the id of the nearest area, where most colours occur at edges alone.

    Args:
        ids: (h, w), one for each colour.
        colours: (h, w, c).

    Raises:
        ValueError: colours change nearly everywhere, or over more than edges: it is no mask.
    """
    _check_alike(ids)
    values, index, counts = _index(ids)
    inner = np.bincount(index[_among_their_like(ids)], minlength=len(values))
    is_area = inner >= AREA_SHARE * counts
    if (~is_area).sum() <= is_area.sum():
        return ids
    if _blends(colours)[~is_area[index]].mean() < 0.5:
        return ids
    first = np.zeros(len(values), np.int64)
    first[index.ravel()] = np.arange(index.size)
    palette = colours.reshape(-1, colours.shape[2])[first]
    area_of = _areas(palette, np.where(is_area, inner, 0))
    is_area = area_of >= 0
    nearly = np.where(is_area, area_of, np.arange(len(values)))[index]
    # Only beside pixels of areas: an edge between black and white may have the grey of an area elsewhere.
    seeds = np.pad(np.where(_among_their_like(nearly) & is_area[index], nearly, -1), 1, constant_values=-1)
    height, width = ids.shape
    filled = np.any([seeds[y : y + height, x : x + width] == nearly for y in range(3) for x in range(3)], axis=0)
    depth, nearest = distance_transform_edt(~filled, return_indices=True)
    if not filled.any() or depth.max() > max(8, min(ids.shape) / 16):
        raise ValueError(f"{len(values)} colours, most of them in no area of their own: a photo, not a mask")
    found: Ints = values[nearly[tuple(nearest)]]
    return found


def _areas(palette: Ints, inner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the place of the colour of the area that each colour (K, c) is nearly like, -1 for none: (K,).

    Areas have the colours with the most pixels among their like (`inner`, (K,)), none of them nearly like another.
    """
    near = max(1, int(palette.max()) // 8)
    area_of = np.full(len(palette), -1, np.int64)
    for one in np.argsort(-inner, kind="stable"):
        if not inner[one]:
            break
        if area_of[one] < 0:
            alike = (np.abs(palette - palette[one]) <= near).all(axis=1)
            area_of[alike & (area_of < 0)] = one
    return area_of


def _check_alike(ids: Ints) -> None:
    """Raise a ValueError where values (h, w) change nearly everywhere."""
    if ids.shape[1] > 1 and (alike := float((ids[:, 1:] == ids[:, :-1]).mean())) < ALIKE_SHARE:
        raise ValueError(f"colours change from pixel to pixel ({1 - alike:.0%} of them): a photo, not a mask")


def _index(ids: Ints) -> tuple[Ints, Ints, npt.NDArray[np.int64]]:
    """Return the values of ids (h, w), the place among them of each pixel (h, w), and their numbers of pixels."""
    flat = ids.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=len(flat))
    values, of_run = np.unique(flat[starts], return_inverse=True)
    index = np.repeat(of_run.astype(np.int32), lengths).reshape(ids.shape)
    return values, index, np.bincount(of_run, weights=lengths).astype(np.int64)
