"""Does it pay to ask a second time, with the box of the first mask and the point that gave it?

    python benchmarks/second_pass.py --data bsds500/extra coco/val panoptic/val --limit 25

Each ground-truth mask is asked for by its interior point; the score chooses one of three masks. That mask's box, alone
or with the point, is the second prompt, and the score chooses again. The second mask replaces the first always; if its
score is higher; if both agree (IoU above 0.5, 0.7); or if both agree and its score is higher. Differences of IoU to the
first mask are paired over photos, 95 % by bootstrap; a second pass decodes a prompt more for every mask.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

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


def chosen(scorer: MaskScorer, photo: EncodedPhoto, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode three masks a prompt; return the one of the best score (N, h, w) bool, and its score (N,)."""
    decoded = decode_passing(photo, prompts, multimask=True)
    scores = scorer.score(photo, prompts, decoded).unflatten(0, (len(prompts), 3))
    rows, columns = shown_on_maps(photo)
    masks = (decoded.logits[:, :rows, :columns] > photo.model.mask_threshold).unflatten(0, (len(prompts), 3))
    each, best = torch.arange(len(prompts)), scores.argmax(1)
    return masks[each, best], scores[each, best]


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a rule; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--limit", type=int, default=25, help="photos of each")
    arguments = parser.parse_args(argv)
    sam = load_sam(arguments.sam)
    scorer = find_scorer(sam)
    if scorer is None:
        parser.error(f"no scorer belongs to {arguments.sam}")
    for data in arguments.data:
        found: dict[str, list[float]] = defaultdict(list)
        replaced: dict[str, list[float]] = defaultdict(list)
        counts = []
        for annotated in load_photos(list_shards(data), print, read_annotated)[: arguments.limit]:
            photo, points = encode(sam, annotated.rgb), annotated.points_px[:MASKS]
            truth = true_masks(annotated, photo)[:MASKS]
            first, score = chosen(scorer, photo, Prompts.from_points(points))
            scale = [photo.hw[1] / first.shape[2], photo.hw[0] / first.shape[1]] * 2
            edges = low_resolution_boxes(first).numpy() + np.array([0, 0, 1, 1])
            boxes = Prompts.from_boxes(edges * scale)
            before = pair_iou(first, truth).diagonal()
            found["first"].append(float(before.mean()))
            counts.append(float(len(truth)))
            for name, prompts in (
                ("box", boxes),
                ("box and point", boxes.with_points(points[:, None], np.ones((len(points), 1), np.int64))),
            ):
                second, again = chosen(scorer, photo, prompts)
                after, agree = pair_iou(second, truth).diagonal(), pair_iou(second, first).diagonal()
                rules = {
                    "always": torch.ones_like(agree, dtype=torch.bool),
                    "higher score": again > score,
                    "agree 0.5": agree > 0.5,
                    "agree 0.7": agree > 0.7,
                    "agree 0.5, higher score": (agree > 0.5) & (again > score),
                }
                for rule, taken in rules.items():
                    found[f"{name}, {rule}"].append(float(torch.where(taken, after, before).mean()))
                    replaced[f"{name}, {rule}"].append(float(taken.float().mean()))
        print(f"{data}, {int(sum(counts))} masks: first {np.average(found['first'], weights=counts):.3f}")
        for rule, values in list(found.items())[1:]:
            gain = paired_difference(values, found["first"], counts, counts)
            assert gain is not None
            share = np.average(replaced[rule], weights=counts)
            print(f"  {rule:32s} {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), replaces {share:.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
