"""What follows the decoder's logits up to the codes of kept masks, in NumPy and compiled, in turns in one process.

    python benchmarks/compiled.py [--repeats 5] [--json FILE]

Photos of samples/ at 1500 x 2250 (rows x columns) and at their own sizes, `tiny` with `aop`, one thread. Processor time
of this thread, medians of --repeats: of everything after decoding (the learned score apart) for each kept mask, and of
tracing for each mask that is traced. Exit status 1 where the two make other records.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

import aopsam
from aopsam.everything import candidates, ledger
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import kernels, mask_nms, overlap, rle, trace
from aopsam.sam.encode import EncodedPhoto, encode

SAMPLES = Path(__file__).parent.parent / "samples"
SIZES = {"1500 x 2250": (2250, 1500), "own sizes": None}  # columns and rows, as Pillow has them
WAYS: dict[str, Callable[[], Any]] = {"numpy": lambda: None, "compiled": kernels}


def watched(function: Callable[..., Any], calls: list[tuple[float, int]]) -> Callable[..., Any]:
    """Wrap a function so that the seconds of each call are listed, with how many masks came back."""

    def run(*args: Any, **settings: Any) -> Any:
        start = time.thread_time()
        found = function(*args, **settings)
        calls.append((time.thread_time() - start, len(found)))
        return found

    return run


def measure(generator: AutoMaskGenerator, photo: EncodedPhoto, rgb: np.ndarray, way: str) -> dict[str, Any]:
    """Label an encoded photo one way; return its records, masks traced, and seconds."""
    assert generator.scorer is not None
    traced: list[tuple[float, int]] = []
    scored: list[tuple[float, int]] = []
    with ExitStack() as changed:
        for owner, name, instead in (
            *((module, "kernels", WAYS[way]) for module in (mask_nms, overlap, rle, trace)),
            (ledger, "time", SimpleNamespace(perf_counter=time.thread_time)),
            (candidates, "trace", watched(trace.trace, traced)),
            (generator.scorer, "score", watched(generator.scorer.score, scored)),
        ):
            changed.enter_context(mock.patch.object(owner, name, instead))
        found = generator.label(rgb, photo)
    after = found.seconds["filter"] + found.seconds["rle"] - sum(seconds for seconds, _ in scored)
    seconds, masks = map(sum, zip(*traced, strict=True))
    return {"records": found.records, "traced": masks, "trace": seconds, "after": after}


def compare(generator: AutoMaskGenerator, rgb: np.ndarray, repeats: int) -> dict[str, Any]:
    """Measure both ways in turns; return counts and median seconds of each, and whether records are equal."""
    photo = encode(generator.model, rgb)
    turns = [{way: measure(generator, photo, rgb, way) for way in WAYS} for _ in range(repeats)]
    first = turns[0]["numpy"]
    equal = all(found["records"] == first["records"] for turn in turns for found in turn.values())
    row = {"kept": len(first["records"]), "traced": first["traced"], "equal": equal}
    for way in WAYS:
        row |= {f"{part} {way}": float(np.median([turn[way][part] for turn in turns])) for part in ("after", "trace")}
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description="masks in NumPy and compiled")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="rows of all photos")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    generator = AutoMaskGenerator(aopsam.load_sam("tiny"), output_mode="coco_rle")
    rows: list[dict[str, Any]] = []
    for size, pixels in SIZES.items():
        for path in sorted(SAMPLES.glob("*.jpg")):
            image = Image.open(path).convert("RGB")
            rgb = np.asarray(image.resize(pixels) if pixels else image)
            rows.append({"size": size, "image": path.name, **compare(generator, rgb, arguments.repeats)})
        total = {key: sum(row[key] for row in rows if row["size"] == size) for key in list(rows[-1])[2:]}
        print(f"{size}: {total['kept']} kept of {total['traced']} traced, load {os.getloadavg()[0]:.0f}")
        for way in WAYS:
            kept, traced = 1e3 * total[f"after {way}"] / total["kept"], 1e3 * total[f"trace {way}"] / total["traced"]
            print(f"  {way}: {kept:.2f} ms a kept mask; tracing {traced:.2f} ms a traced mask", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
