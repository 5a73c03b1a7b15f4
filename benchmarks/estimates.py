"""Do the predicted IoU and the score mean something? Their correlation with the true IoU, and a calibration plot.

    python benchmarks/estimates.py --data bsds500/extra coco/val panoptic/val --limit 40 --out out/estimates.svg

Every ground-truth mask is asked for once by its interior point and once by its box; all three alternatives count. The
plot is of the score, or of the predicted IoU where no scorer belongs to the model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics.correlation import pearson
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, load_photos
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.evaluate.ground_truth import Answers, answer, box_prompts

BINS = 10
SIDE, MARGIN = 300, 40
COLOURS = {"point": "#2a78d6", "box": "#d6702a"}


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table a shard and write the plot; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="tars in SA-1B's layout")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--checkpoint", help="weights of the SAM, where not the bundled or official ones")
    parser.add_argument("--limit", type=int, default=40, help="photos of each shard")
    parser.add_argument("--out", required=True, type=Path, help="SVG file")
    arguments = parser.parse_args(argv)
    sam = load_sam(arguments.sam, arguments.checkpoint)
    curves: dict[str, list[tuple[float, float, int]]] = {}
    for data in arguments.data:
        try:
            photos = load_photos(list_shards(data), print, read_annotated)[: arguments.limit]
        except (ValueError, OSError) as error:
            print(f"estimates: {data}: {error}", file=sys.stderr)
            return 2
        encoded = [encode(sam, photo.rgb) for photo in photos]
        for kind in COLOURS:
            found = [ask(one, photo, kind) for one, photo in zip(encoded, photos, strict=True)]
            true = np.concatenate([answers.iou for answers in found])
            print(f"{data}, {kind}: {len(photos)} photos, {len(true)} masks, best of three {true.max(1).mean():.3f}")
            values = {"predicted IoU": np.concatenate([answers.predicted_iou for answers in found])}
            scores = [answers.score for answers in found if answers.score is not None]
            if scores:
                values["score"] = np.concatenate(scores)
            for name, value in values.items():
                chosen = true[np.arange(len(true)), value.argmax(1)].mean()
                curve = calibration(value.ravel().astype(np.float64), true.ravel())
                print(
                    f"  {name}: correlation {pearson(value.ravel(), true.ravel()):.3f}, the one it chooses {chosen:.3f}"
                )
                print("    → true: " + ", ".join(f"{x:.2f} → {y:.2f}" for x, y, _ in curve))
                curves[f"{'/'.join(Path(data).parts[-2:])}, {kind}"] = curve
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(plot(curves), encoding="utf-8")
    return 0


def ask(encoded: EncodedPhoto, photo: Annotated, kind: str) -> Answers:
    """Ask for every mask of a photo by its interior point or its box."""
    annotations = [{"segmentation": mask} for mask in photo.rles]
    prompts = Prompts.from_points(photo.points_px) if kind == "point" else box_prompts(annotations)
    return answer(encoded, prompts, annotations)


def calibration(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """Return (mean estimate, mean true IoU, count) of each tenth of the estimates, by their rank."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), BINS)
    return [(float(predicted[part].mean()), float(true[part].mean()), len(part)) for part in parts if len(part)]


def plot(curves: dict[str, list[tuple[float, float, int]]]) -> str:
    """Draw the curves as an SVG document, with the diagonal of a perfect estimate."""
    size = SIDE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size + 160} {size}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f'<path d="M{MARGIN} {MARGIN}V{MARGIN + SIDE}H{MARGIN + SIDE}" fill="none" stroke="#444"/>'
        f'<path d="M{MARGIN} {MARGIN + SIDE}L{MARGIN + SIDE} {MARGIN}" stroke="#bbb" stroke-dasharray="4"/>'
        f'<text x="{MARGIN + SIDE / 2}" y="{size - 8}" text-anchor="middle">estimated IoU</text>'
        f'<text x="12" y="{MARGIN - 12}">true IoU</text>'
    ]
    for tick in (0.0, 0.5, 1.0):
        parts.append(f'<text x="{MARGIN + tick * SIDE}" y="{size - 24}" text-anchor="middle">{tick}</text>')
        parts.append(f'<text x="{MARGIN - 6}" y="{MARGIN + (1 - tick) * SIDE + 4}" text-anchor="end">{tick}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour, dash = COLOURS[name.rsplit(" ", 1)[1]], "6 3" if number >= len(COLOURS) else "none"
        path = "L".join(f"{MARGIN + x * SIDE:.1f} {MARGIN + (1 - y) * SIDE:.1f}" for x, y, _ in curve)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        y = MARGIN + 16 * number + 8
        x = MARGIN + SIDE + 12
        parts.append(f'<path d="M{x} {y}h20" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{x + 26}" y="{y + 4}">{name}</text>')
    return "\n".join(parts) + "</svg>\n"


if __name__ == "__main__":
    raise SystemExit(main())
