"""What an evaluation leaves behind: OUT/metrics.parquet, OUT/evaluation.json, OUT/table.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.conform import conform
from schemas.metrics import SCHEMA
from stages import atomic
from stages.evaluation_summary import summarise
from stages.evaluation_tables import tables
from stages.strategy_spec import StrategySpec

_PACKAGES = ("aopsam", "torch", "segment-anything", "ray", "pyarrow", "pycocotools", "numpy")


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation.

    Attributes:
        table: aligned text, as in OUT/table.md.
        measured: photos that were measured.
        failures: one line for each that could not be.
    """

    table: str
    measured: int
    failures: list[str]


def write_evaluation(
    results: pa.Table, specs: Sequence[StrategySpec], facts: Mapping[str, Any], out: str, seed: int = 0
) -> Outcome:
    """Summarise results and write the three files; nothing is written if a photo was measured twice.

    Args:
        results: of `stages.evaluate.RESULTS`, in any order.
        specs: strategies in the order of the tables.
        facts: what else evaluation.json says of the run: configuration, weights, seconds.
        out: folder or fsspec URI; made if it is not there.
        seed: of the bootstrap.

    Raises:
        ValueError: a photo was measured twice.
    """
    is_failure = pc.equal(results.column("metric"), "failed")
    failures = sorted(results.filter(is_failure).column("message").to_pylist())
    order = [(key, "ascending") for key in ("data", "image_id", "sam", "prompts", "metric")]
    metrics = conform(results.drop_columns(["message"]).sort_by(order), SCHEMA)
    measured = metrics.filter(pc.not_equal(metrics.column("metric"), "failed"))
    entries = summarise(measured, [spec.text for spec in specs], seed)
    table = tables(entries, specs)
    photos = len(set(zip(*(measured.column(key).to_pylist() for key in ("data", "image_id")), strict=True)))

    filesystem, root = fsspec.url_to_fs(out)
    filesystem.makedirs(root, exist_ok=True)
    with filesystem.open(f"{root}/metrics.parquet", "wb") as file:
        pq.write_table(metrics, file, compression="zstd")
    summary = {
        "photos": photos,
        "failures": failures,
        "results": entries,
        **facts,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
    }
    with atomic.write_text(f"{out}/evaluation.json") as text:
        json.dump(summary, text, indent=2, ensure_ascii=False)
        text.write("\n")
    with atomic.write_text(f"{out}/table.md") as text:
        text.write(table)
    return Outcome(table, photos, failures)
