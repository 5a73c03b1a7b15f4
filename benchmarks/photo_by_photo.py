"""Annotated photos measured one after the other: the loop of benchmarks that decode a photo once and compare ways."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from aopsam.photos.decode import open_photo
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.evaluate.ground_truth import usable_annotations
from stages.storage.location import absolute

Row = dict[str, Any]


def build_parser(description: str, prompts: Sequence[str], limit: int) -> argparse.ArgumentParser:
    """Build the parser of such a benchmark, with its default prompts and number of photos of each --data."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", nargs="+", required=True, help="shards or instance files of annotated photos")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--prompts", nargs="+", default=prompts)
    parser.add_argument("--limit", type=int, default=limit, help="photos of each --data, the first ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="rows of all photos, written after each of them")
    return parser


def measure_each(
    arguments: argparse.Namespace,
    measure: Callable[[np.ndarray, Sequence[Row]], Iterator[Row]],
    table: Callable[[Sequence[Row], str], str],
) -> None:
    """Measure photos of each --data and print a table of each.

    Args:
        arguments: of `build_parser`'s parser.
        measure: takes a photo, (H, W, 3) uint8 RGB, and its usable masks as COCO RLEs; yields rows.
        table: renders the rows of all photos of one --data, given with its name, as Markdown.
    """
    results: dict[str, list[Row]] = {}
    for data in arguments.data:
        samples = (s for uri in list_shards(absolute(data)) for s in read_annotated(uri, lambda line: print(line)))
        rows = results[data] = []
        for sample in islice(samples, arguments.limit):
            rgb = open_photo(sample.jpeg, 200_000_000).rgb
            truths = [a["segmentation"] for a in usable_annotations(sample.annotations, (rgb.shape[0], rgb.shape[1]))]
            rows += [{"image": sample.id} | row for row in measure(rgb, truths)]
            print(f"{data}: {sample.id}", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(table(rows, data), flush=True)
