"""Record what `label_corpus.py` makes of a folder of photos under many settings; a later record shows what changed.

    PYTHONPATH=OLD_CHECKOUT python benchmarks/unchanged.py --images PHOTOS --weights mobile_sam=FILE --out before.json
    PYTHONPATH=. python benchmarks/unchanged.py --images PHOTOS --weights mobile_sam=FILE --out after.json
    python benchmarks/unchanged.py --compare before.json after.json

PYTHONPATH names the checkout that is recorded. Every setting is a labelling run of its own in one process: its exit
status, the manifest's counts, and per photo status, reason and a digest of all mask records (RLE, boxes, scores).
Models without weights at hand are given random ones: FILE holds a state dict; their thresholds are lowered so that
masks pass. Exit status of --compare: 0 if nothing differs, else 1 and a line a difference.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

RANDOM_WEIGHTS = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
"""Thresholds under which masks of random weights pass."""

SETTINGS: dict[str, dict[str, Any]] = {
    prompts: {"prompts": prompts}
    for prompts in (
        *("aop", "grid-8", "random-20", "hierarchical(sparse=3,dense=8)", "oas-box(max_boxes=40)"),
        *("oas-center(max_boxes=40)", "attention", "attention-low-latency", "attention-high-quality"),
        *("attention-sam3d", "attention-sam1", "aop(adaptive_filtering=false)", "aop(elimination=scaled)"),
        *("aop(elimination=equation)", "aop(elimination=diverse,max_decoded=30)", "random-20(seed=3)"),
    )
} | {
    "mask-nms": {"prompts": "grid-6", "duplicates": "mask-nms"},
    "merge": {"prompts": "grid-6", "duplicates": "merge"},
    "none": {"prompts": "grid-4", "duplicates": "none"},
    "refine": {"prompts": "grid-4", "refine": "formula"},
    "flat": {"prompts": "grid-6", "overlap": "flat"},
    "small regions": {"prompts": "grid-6", "min_mask_region_area": 100},
    "crops": {"prompts": "grid-3", "crop_n_layers": 1},
    "tiles": {"prompts": "grid-3", "tile_size": 512},
}

COUNTS = ("images", "masks", "status", "reason", "failed_share", "prompts_proposed", "prompts_decoded")


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="record or compare what labelling makes of photos")
    parser.add_argument("--images", type=Path, help="folder of photos")
    parser.add_argument("--weights", nargs="*", default=[], help="MODEL=FILE of random weights, besides tiny")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    return parser


def record(images: Path, sams: dict[str, str | None], folder: Path) -> dict[str, Any]:
    """Record what `label_corpus.py` makes of the photos with each setting and each model."""
    main = importlib.import_module("pipelines.label_corpus").main  # of the checkout that PYTHONPATH names
    found = {}
    for sam, weights in sams.items():
        for number, (name, setting) in enumerate(SETTINGS.items()):
            settings = {key: value for key, value in setting.items() if key != "prompts"}
            settings = settings if weights is None else RANDOM_WEIGHTS | settings
            config, out = folder / f"{sam}-{number}.json", folder / f"{sam}-{number}"
            config.write_text(json.dumps(settings))
            arguments = ["--images", str(images), "--out", str(out), "--sam", sam, "--config", str(config)]
            arguments += ["--prompts", setting["prompts"], "--actors", "2", "--threads", "1"]
            status = _status(main, arguments if weights is None else [*arguments, "--checkpoint", weights])
            found[f"{sam} {name}"] = {"exit": status} | (_outcome(out) if status != 2 else {})
            print(f"{sam} {name}: {json.dumps(found[f'{sam} {name}'].get('counts'))}", file=sys.stderr, flush=True)
    return found


def _status(main: Any, arguments: list[str]) -> int:
    try:
        return int(main(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def _outcome(out: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    manifest = json.loads((out / "manifest.json").read_text())
    rows = [row for file in (out / "labels").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    photos = {}
    for row in rows:
        masks = json.dumps(row["masks"], sort_keys=True)
        facts = [row[name] for name in ("status", "reason", "prompts_proposed", "prompts_decoded", "width", "height")]
        photos[row["file_name"]] = [*facts, len(row["masks"]), hashlib.sha256(masks.encode()).hexdigest()]
    page = (out / "report.html").read_text(encoding="utf-8")
    return {
        "counts": {name: manifest[name] for name in COUNTS},
        "photos": dict(sorted(photos.items())),
        "pictures in the report": page.count("data:image/"),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """List a line for every difference of two records."""
    lines = []
    for name in sorted(before.keys() | after.keys()):
        one, two = before.get(name, {}), after.get(name, {})
        for key in sorted(one.keys() | two.keys()):
            if one.get(key) != two.get(key):
                lines.append(f"{name}: {key}: {one.get(key)} before, {two.get(key)} after")
    return lines


def main() -> int:
    """Record or compare; return the exit status."""
    arguments = build_parser().parse_args()
    if arguments.compare:
        before, after = (json.loads(path.read_text()) for path in arguments.compare)
        lines = differences(before, after)
        print("\n".join(lines) or f"{len(after)} settings: nothing differs")
        return 1 if lines or before.keys() != after.keys() else 0
    sams: dict[str, str | None] = {"tiny": None}
    sams.update(text.split("=", 1) for text in arguments.weights)
    with tempfile.TemporaryDirectory() as folder:
        found = record(arguments.images.resolve(), sams, Path(folder))
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
