"""Does it pay to ask a second time, with the box of the first mask and the point that gave it?

    python benchmarks/second_pass.py --data bsds500/extra coco/val panoptic/val --limit 30

Each ground-truth mask is asked for by its interior point; the score chooses one of three masks. That mask's box is the
second prompt: alone, with the point, or with the point and up to four other masks' points as negatives, the nearest
that are not on the first mask. The score chooses again. The second mask replaces the first always; if its score is
higher; if both agree (IoU above 0.7); or if they agree and the first's score is below the photo's median. Beside these
the mask head, which draws the first mask once more, all of them or those below the median. Differences of IoU to the
first mask are paired over photos, 95 % by bootstrap; the last lines are the seconds that a pass takes for each mask.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from aopsam.mask_head.redraw import redraw
from aopsam.mask_head.weights import find_mask_head
from aopsam.metrics import paired_difference
from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from aopsam.scoring.features import shown_on_maps
from aopsam.scoring.network import MaskScorer
from aopsam.scoring.weights import find_scorer
from aopsam.training.annotated import load_photos
from aopsam.training.scorer import pair_iou, true_masks
from aopsam.training.thresholds import low_resolution_boxes
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards

MASKS = 40
"""Masks of a photo, at most."""
NEGATIVES = 4
"""Negative points of a prompt, at most."""


def chosen(scorer: MaskScorer, photo: EncodedPhoto, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode three masks a prompt; return the logits of the one of the best score (N, h, w), and its score (N,)."""
    decoded = decode_passing(photo, prompts, multimask=True)
    scores = scorer.score(photo, prompts, decoded).unflatten(0, (len(prompts), 3))
    each, best = torch.arange(len(prompts)), scores.argmax(1)
    return decoded.logits.unflatten(0, (len(prompts), 3))[each, best], scores[each, best]


def shown(photo: EncodedPhoto, logits: torch.Tensor) -> torch.Tensor:
    """Return the masks of logits (N, r, c) over what shows the photo, (N, h, w) bool."""
    rows, columns = shown_on_maps(photo)
    return logits[:, :rows, :columns] > photo.model.mask_threshold


def negatives(masks: torch.Tensor, points_px: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each of N masks the points of others that are nearest to its own, and not on it.

    Args:
        masks: (N, h, w) bool.
        points_px: (N, 2) x and y, in pixels of the photo.
        scale: those pixels to a place of the masks, x and y.

    Returns:
        (N, NEGATIVES, 2) points and (N, NEGATIVES) labels: 0, or -1 where there is no such point.
    """
    count = min(NEGATIVES, len(points_px))
    x, y = np.minimum(points_px / scale, np.array(masks.shape[:0:-1]) - 1).astype(np.int64).T
    apart = np.linalg.norm(points_px[:, None] - points_px[None], axis=2)
    apart[masks.numpy()[:, y, x]] = np.inf
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :count]
    found = np.isfinite(np.take_along_axis(apart, nearest, axis=1))
    places = np.zeros((len(points_px), NEGATIVES, 2))
    labels = np.full((len(points_px), NEGATIVES), -1)
    places[:, :count][found], labels[:, :count][found] = points_px[nearest][found], 0
    return places, labels


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a rule; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--limit", type=int, default=30, help="photos of each")
    arguments = parser.parse_args(argv)
    sam = load_sam(arguments.sam)
    scorer, head = find_scorer(sam), find_mask_head(sam)
    if scorer is None or head is None:
        parser.error(f"no scorer, or no mask head, belongs to {arguments.sam}")
    seconds: dict[str, list[float]] = defaultdict(list)
    for data in arguments.data:
        found: dict[str, list[float]] = defaultdict(list)
        replaced: dict[str, list[float]] = defaultdict(list)
        counts = []
        for annotated in load_photos(list_shards(data), print, read_annotated)[: arguments.limit]:
            photo, points = encode(sam, annotated.rgb), annotated.points_px[:MASKS]
            truth = true_masks(annotated, photo)[:MASKS]
            started = time.perf_counter()
            logits, score = chosen(scorer, photo, Prompts.from_points(points))
            seconds["first"].append((time.perf_counter() - started) / len(points))
            first = shown(photo, logits)
            scale = np.array([photo.hw[1] / first.shape[2], photo.hw[0] / first.shape[1]])
            edges = low_resolution_boxes(first).numpy() + np.array([0, 0, 1, 1])
            boxes = Prompts.from_boxes(edges * np.tile(scale, 2))
            with_point = boxes.with_points(points[:, None], np.ones((len(points), 1), np.int64))
            before = pair_iou(first, truth).diagonal()
            found["first"].append(float(before.mean()))
            counts.append(float(len(truth)))
            needy = score < score.median()
            for name, prompts in (
                ("box", boxes),
                ("box, point", with_point),
                ("box, point, negatives", with_point.with_points(*negatives(first, points, scale))),
            ):
                started = time.perf_counter()
                second, again = chosen(scorer, photo, prompts)
                seconds[name].append((time.perf_counter() - started) / len(points))
                masks = shown(photo, second)
                agree = pair_iou(masks, first).diagonal() > 0.7
                after = pair_iou(masks, truth).diagonal()
                for rule, taken in {
                    "always": torch.ones_like(agree),
                    "higher score": again > score,
                    "agree": agree,
                    "agree, below median": agree & needy,
                }.items():
                    found[f"{name}: {rule}"].append(float(torch.where(taken, after, before).mean()))
                    replaced[f"{name}: {rule}"].append(float(taken.float().mean()))
            started = time.perf_counter()
            drawn = redraw(head, photo, logits, torch.from_numpy(points))
            seconds["mask head"].append((time.perf_counter() - started) / len(points))
            after = pair_iou(shown(photo, drawn), truth).diagonal()
            for rule, taken in {"always": torch.ones_like(needy), "below median": needy}.items():
                found[f"mask head: {rule}"].append(float(torch.where(taken, after, before).mean()))
                replaced[f"mask head: {rule}"].append(float(taken.float().mean()))
        print(f"{data}, {int(sum(counts))} masks: first {np.average(found['first'], weights=counts):.3f}")
        for rule, values in list(found.items())[1:]:
            gain = paired_difference(values, found["first"], counts, counts)
            assert gain is not None
            share = np.average(replaced[rule], weights=counts)
            print(f"  {rule:42s} {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), replaces {share:.0%}")
    for name, each in seconds.items():
        print(f"{name:22s} {1000 * np.median(each):.1f} ms a mask")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
