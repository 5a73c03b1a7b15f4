"""Large photos: seconds, peak memory, and what a kept mask costs after the decoder, beside SAM's own generator.

    python benchmarks/large.py --json FILE

Photos are enlarged samples with grain. Each case runs in a process of its own, whose peak memory is what the system
counted. SAM's generator gets one batch of 64 points (`grid-8`), ours `aop`; both use `tiny` on one thread. A process
may take --limit GiB of address space; what needs more says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"3.4 MP": (1500, 2250), "12 MP": (3000, 4000), "50 MP": (6000, 8400), "100 MP": (8000, 12500)}
SAMPLES = Path(__file__).parent.parent / "samples"


def photo(hw: tuple[int, int]) -> np.ndarray:
    """Make a large photo with grain, (H, W, 3) uint8, from a sample."""
    from PIL import Image

    with Image.open(SAMPLES / "coffee.jpg") as image:
        large = np.asarray(image.convert("RGB").resize((hw[1], hw[0]), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).integers(-6, 7, (256, 256, 3), dtype=np.int16)
    rows = np.arange(hw[0]) % 256
    made = np.empty_like(large)
    for start in range(0, hw[1], 256):
        block = slice(start, start + 256)
        made[:, block] = (large[:, block] + grain[rows][:, : hw[1] - start]).clip(0, 255)
    return made


def run(system: str, hw: tuple[int, int], limit_bytes: int, answer: Any) -> None:
    """Measure one case, in its own process."""
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    import torch

    import aopsam

    from segment_anything import SamAutomaticMaskGenerator  # isort: skip - after aopsam

    torch.set_num_threads(1)
    rgb = photo(hw)
    model = aopsam.load_sam("tiny")
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        if system == "aop":
            labelled = aopsam.AutoMaskGenerator(model, output_mode="coco_rle").label(rgb)
            after = labelled.seconds["filter"] + labelled.seconds["rle"]
            found = {
                "masks": len(labelled.records),
                "decoded": labelled.prompts_decoded,
                "ms_per_kept_mask_after_decoder": 1e3 * after / max(1, len(labelled.records)),
            }
        else:
            names = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")
            settings = {name: getattr(model.thresholds, name) for name in names}
            generator = SamAutomaticMaskGenerator(model, points_per_side=8, output_mode="coco_rle", **settings)
            found = {"masks": len(generator.generate(rgb)), "decoded": 64}
    except (RuntimeError, MemoryError, ValueError) as error:
        found = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found |= {
        "seconds": time.perf_counter() - began,
        "peak_gb": peak * 1024 / 1e9,
        "peak_before_labelling_gb": peak_before * 1024 / 1e9,
    }
    answer.put(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; return the exit status."""
    parser = argparse.ArgumentParser(description="large photos")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--limit", type=float, default=20.0, help="GiB of address space a case may take")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    context = multiprocessing.get_context("spawn")
    results: dict[str, Any] = {}
    for size in arguments.sizes:
        for system in ("aop", "SAM"):
            answer = context.Queue()
            process = context.Process(target=run, args=(system, SIZES[size], int(arguments.limit * 2**30), answer))
            process.start()
            process.join()
            found = {"failed": f"exit status {process.exitcode}"} if answer.empty() else answer.get()
            results[f"{size}, {system}"] = found
            shown = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
            print(f"{size:>7} {system:<4} {shown}", flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    failed = [name for name, found in results.items() if "failed" in found and name.endswith("aop")]
    if failed:
        print(f"large: ours failed on {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
