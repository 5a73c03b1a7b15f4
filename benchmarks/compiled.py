"""Time all from the decoder's logits to the codes of kept masks, in NumPy and compiled, in turns in one process.

    python benchmarks/compiled.py [--repeats 5] [--json FILE]

Photos of samples/ at 1500 x 2250 (rows x columns) and at their own sizes, `tiny` with `aop`, one thread. Medians of a
thread's processor time: all after decoding but the learned score, and tracing. Exit status 1 where records differ.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

import aopsam
from aopsam.everything import candidates
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import kernels, mask_nms, overlap, rle, trace
from aopsam.sam.encode import EncodedPhoto, encode

SIZES = {"1500 x 2250": (2250, 1500), "own sizes": None}  # columns and rows, as Pillow has them
WAYS: dict[str, Callable[[], Any]] = {"numpy": lambda: None, "compiled": kernels}
SPENT: dict[str, float] = defaultdict(float)


def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap a function so that it adds up its seconds, and how many masks came back."""

    def run(*args: Any, **settings: Any) -> Any:
        start = time.thread_time()
        found = function(*args, **settings)
        SPENT[name] += time.thread_time() - start
        SPENT[f"{name}d"] += len(found)
        return found

    return run


def measure(generator: AutoMaskGenerator, photo: EncodedPhoto, rgb: np.ndarray, way: str) -> dict[str, Any]:
    """Label an encoded photo one way; return its records, masks traced, and seconds."""
    SPENT.clear()
    for module in (mask_nms, overlap, rle, trace):
        mock.patch.object(module, "kernels", WAYS[way]).start()
    found = generator.label(rgb, photo)
    after = found.seconds["filter"] + found.seconds["rle"] - SPENT["score"]
    return {"records": found.records, "after": after, **SPENT}


def compare(generator: AutoMaskGenerator, rgb: np.ndarray, repeats: int) -> dict[str, Any]:
    """Measure both ways in turns; return counts and median seconds of each, and whether records are equal."""
    photo = encode(generator.model, rgb)
    turns = [{way: measure(generator, photo, rgb, way) for way in WAYS} for _ in range(repeats)]
    first = turns[0]["numpy"]
    equal = all(found["records"] == first["records"] for turn in turns for found in turn.values())
    return {"kept": len(first["records"]), "traced": first["traced"], "equal": equal} | {
        f"{part} {way}": float(np.median([turn[way][part] for turn in turns]))
        for part, way in product(("after", "trace"), WAYS)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description="masks in NumPy and compiled")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="rows of all photos")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    generator = AutoMaskGenerator(aopsam.load_sam("tiny"), output_mode="coco_rle")
    assert generator.scorer is not None
    mock.patch("time.perf_counter", time.thread_time).start()  # by which a photo's stages are timed
    mock.patch.object(candidates, "trace", watched(trace.trace, "trace")).start()
    mock.patch.object(generator.scorer, "score", watched(generator.scorer.score, "score")).start()
    rows: list[dict[str, Any]] = []
    for size, pixels in SIZES.items():
        for path in sorted((Path(__file__).parent.parent / "samples").glob("*.jpg")):
            image = Image.open(path).convert("RGB")
            found = compare(generator, np.asarray(image.resize(pixels or image.size)), arguments.repeats)
            rows.append({"size": size, "image": path.name, **found})
        total = {key: sum(row[key] for row in rows if row["size"] == size) for key in list(rows[-1])[2:]}
        for way in WAYS:
            kept, traced = total[f"after {way}"] / total["kept"], total[f"trace {way}"] / total["traced"]
            print(f"{size}, {way}: {1e3 * kept:.2f} ms a kept mask, tracing {1e3 * traced:.2f} ms a traced mask")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
