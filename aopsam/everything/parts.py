"""A photo in parts: SAM's layers of crops, or tiles whose masks are joined across their seams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segment_anything.utils.amg import generate_crop_boxes

from aopsam.everything.candidates import BoxXYXY, Candidate, join_pieces
from aopsam.everything.lock_step import Steps
from aopsam.everything.rounds import PhotoRun
from aopsam.masks.tiles import join, tile_boxes
from aopsam.prompting.strategy import Strategy


def label_crops(run: PhotoRun, strategies: Sequence[Strategy]) -> Steps[list[Candidate]]:
    """Label SAM's layers of crops, or the whole photo where there is one layer.

    What a crop's inner border cuts is left to the crops next to it and above it.

    Args:
        run: the photo.
        strategies: one a layer.
    """
    boxes, layers = generate_crop_boxes(run.hw, run.options.crop_n_layers, run.options.crop_overlap_ratio)
    candidates: list[Candidate] = []
    for (x0, y0, x1, y1), layer in zip(boxes, layers, strict=True):
        if x0 < x1 and y0 < y1:  # some have no pixel where a photo is only a few pixels wide
            candidates += yield from run.label((x0, y0, x1, y1), strategies[layer], run.options.filters)
    if len(boxes) == 1:
        return candidates
    scores = [1 / _area(c.crop_xyxy_px) for c in candidates]  # masks of smaller crops see more detail
    return run.without_duplicates(candidates, run.options.crops_thresh, scores)


def label_tiles(run: PhotoRun, strategy: Strategy) -> Steps[list[Candidate]]:
    """Label tiles one by one, join pieces across seams, and add the whole photo for what is larger than a tile."""
    options = run.options
    assert run.tile_px is not None
    pieces: list[Candidate] = []
    for box in tile_boxes(run.hw, run.tile_px, options.tile_overlap):
        pieces += yield from run.label(box, strategy, replace(options.filters, cut=True))
    with run.ledger.stage("filter"):
        masks, tiles = [c.runs for c in pieces], [c.crop_xyxy_px for c in pieces]
        joined = join(masks, tiles, [c.score for c in pieces], options.tile_join_thresh)
        run.ledger.masks_dropped["cut by a tile and not continued beyond"] += joined.cut
        objects = [join_pieces([pieces[i] for i in group]) for group in joined.groups]
    height, width = run.hw
    whole: list[Candidate] = []
    if options.tile_whole:
        whole = yield from run.label((0, 0, width, height), strategy, options.filters)
    objects = run.without_duplicates(objects, options.duplicates_thresh)
    scores = [1.0] * len(objects) + [0.0] * len(whole)  # masks of tiles see more detail
    return run.without_duplicates(objects + whole, options.duplicates_thresh, scores)


def _area(box: BoxXYXY) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
