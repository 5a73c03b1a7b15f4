"""A page of photos with their everything masks, worst first: to be looked at.

    python benchmarks/worst.py --data bsds500/val/000000.tar coco/val/000000.tar --photos 30 --out out/worst.html

Photos are taken evenly from the shards and labelled with `--prompts`. Each row shows the photo, its ground truth and
the masks, with the mean over its ground-truth masks of the best IoU that any mask reaches; the page holds everything
itself.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics.greedy import iou_per_ground_truth
from aopsam.metrics.iou import iou_matrix
from aopsam.report.overlay import overlay
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, load_photos

STYLE = "body{font:14px sans-serif;margin:1em}img{width:32%;margin-right:1%}h2{font-size:1em;margin:1.2em 0 .3em}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="tars in SA-1B's layout")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--prompts", default="aop")
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    try:
        shards = [load_photos([shard]) for shard in arguments.data]
    except (ValueError, OSError) as error:
        print(f"worst: {error}", file=sys.stderr)
        return 2
    each = max(1, arguments.photos // len(shards))
    chosen = [photo for shard in shards for photo in shard[:: max(1, len(shard) // each)][:each]]
    generator = AutoMaskGenerator(load_sam(arguments.sam), prompts=arguments.prompts, output_mode="coco_rle")
    rows = sorted((_row(generator, photo) for photo in chosen), key=lambda row: row[0])
    title = f"{arguments.sam}, {arguments.prompts}: {len(rows)} photos, worst first"
    body = "".join(text for _, text in rows)
    page = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style><h1>{title}</h1>"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page + body, encoding="utf-8")
    print(f"{arguments.out}: mIoU by photo {np.mean([score for score, _ in rows]):.3f}")
    return 0


def _row(generator: AutoMaskGenerator, photo: Annotated) -> tuple[float, str]:
    """Label a photo; return its score and its part of the page."""
    labelled = generator.label(photo.rgb)
    masks = [record["segmentation"] for record in labelled.records]
    score = iou_per_ground_truth(iou_matrix(masks, photo.rles)) or 0.0
    truth = overlay(photo.rgb, [{"segmentation": mask} for mask in photo.rles])
    pictures = [photo.rgb, truth, overlay(photo.rgb, labelled.records)]
    counts = f"{len(photo.rles)} annotated masks, {len(masks)} masks from {labelled.prompts_decoded} prompts"
    images = "".join(f'<img src="{_jpeg(picture)}">' for picture in pictures)
    return score, f"<h2>{score:.3f} · {html.escape(photo.id)} · {counts}</h2>{images}\n"


def _jpeg(rgb: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    raise SystemExit(main())
