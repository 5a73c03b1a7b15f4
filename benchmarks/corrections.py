"""Do corrections come back exactly? A script corrects exported labels, as people would, and the import must say so.

    python benchmarks/corrections.py --labels OUT                       # 20 photos of OUT, seed 0
    python benchmarks/corrections.py --labels OUT --maps MAPS           # and builds prompt maps of what came back

Of each photo's masks a ninth is deleted, a ninth reshaped (the right third of its box is cut off) and as many new ones
are added, rectangles at random, in the COCO file that `export_labels.py` writes; `import_labels.py` reads it. Compares
the list of changes with what was done, mask by mask. Exit status: 0 where it is the same, 1 where not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pycocotools import mask as mask_utils

from aopsam.masks import rle
from pipelines.build_prompt_maps import main as build_maps
from stages.annotations.corrections.bring_back import CHANGES, bring_back
from stages.results.export import export_labels
from stages.results.export.selection import Selection

Changes = set[tuple[str, int | None, int | None, int | None]]
"""Corrections of a photo, one a mask that is not as it was: change, place in its row, pixels before and after."""


def correct(annotations: list[dict[str, Any]], rng: random.Random) -> tuple[list[dict[str, Any]], Changes]:
    """Delete, reshape and add masks of one photo; return its annotations then, and what was done."""
    done: Changes = set()
    order = rng.sample(range(len(annotations)), len(annotations))
    share = round(len(order) / 9)
    deleted, reshaped = set(order[:share]), [one for one in order[share:] if annotations[one]["bbox"][2] >= 3][:share]
    for one in reshaped:
        item = annotations[one]
        mask = rle.decode(item["segmentation"])
        left, _, width, _ = item["bbox"]
        mask[:, int(left + width - width // 3) :] = False
        if mask.any():  # else all of it lay there
            done.add(("reshaped", item["mask"], int(item["area"]), int(mask.sum())))
            annotations[one] = item | {"segmentation": rle.encode(mask)}
    kept = [item for one, item in enumerate(annotations) if one not in deleted]
    done |= {("deleted", item["mask"], int(item["area"]), None) for item in (annotations[one] for one in deleted)}
    height, width = annotations[0]["segmentation"]["size"] if annotations else (0, 0)
    gone = [annotations[one]["segmentation"] for one in deleted]
    while share:
        mask = np.zeros((height, width), bool)
        top, left = rng.randrange(height - 9), rng.randrange(width - 9)
        mask[top : top + rng.randrange(5, height), left : left + rng.randrange(5, width)] = True
        if (
            mask_utils.iou([rle.encode(mask)], gone, [0] * len(gone)).max() < 0.5
        ):  # else it is a deleted one, drawn anew
            kept.append({"image_id": annotations[0]["image_id"], "category_id": 1, "segmentation": rle.encode(mask)})
            done.add(("added", None, None, int(mask.sum())))
            share -= 1
    return kept, done


def main(argv: Sequence[str] | None = None) -> int:
    """Export, correct, import, compare; return the exit status."""
    parser = argparse.ArgumentParser(description="corrections made by a script, and the import's list of changes")
    parser.add_argument("--labels", required=True, help="OUT of a labelling run whose photos are there")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--maps", help="build prompt maps of what came back there")
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    wanted: dict[str, Changes] = {}
    with tempfile.TemporaryDirectory() as folder:
        export_labels(arguments.labels, "coco", f"{folder}/coco", Selection())
        file = Path(folder, "coco", "instances.json")
        coco = json.loads(file.read_text())
        coco["images"] = coco["images"][: arguments.photos]
        corrected = []
        for image in coco["images"]:
            mine = [item for item in coco["annotations"] if item["image_id"] == image["id"]]
            masks, wanted[image["file_name"]] = correct(mine, rng)
            corrected += masks
        coco["annotations"] = [item | {"id": number + 1} for number, item in enumerate(corrected)]
        file.write_text(json.dumps(coco))
        back = bring_back(arguments.labels, "coco", str(file), f"{folder}/back", print)
        print(back)
        found: dict[str, Changes] = {name: set() for name in wanted}
        for row in pq.read_table(f"{folder}/back/{CHANGES}").to_pylist():
            if row["change"] != "kept":
                found[row["file_name"]].add((row["change"], row["mask"], row["area_before"], row["area_after"]))
        exact = sum(found[name] == wanted[name] for name in wanted)
        print(f"list of changes exact for {exact} of {len(wanted)} photos")
        if arguments.maps and (status := build_maps(["--data", f"{folder}/back", "--out", arguments.maps])):
            return status
    return 0 if exact == len(wanted) == back.photos else 1


if __name__ == "__main__":
    sys.exit(main())
