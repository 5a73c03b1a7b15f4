"""Write the files of an evaluation into OUT: metrics.parquet, evaluation.json, table.md, index.html and charts."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aopsam.report.evaluation_page import SideBySide, evaluation_html
from aopsam.report.scatter import standalone
from schemas.conform import conform
from schemas.metrics import SCHEMA
from stages.config.strategy_spec import StrategySpec
from stages.evaluate.charts import charts_of
from stages.evaluate.summary import summarise
from stages.evaluate.tables import facts_of, fill, markdown
from stages.storage import atomic

_PACKAGES = ("aopsam", "torch", "segment-anything", "ray", "pyarrow", "pycocotools", "numpy")


@dataclass(frozen=True)
class Outcome:
    """Result of an evaluation.

    Attributes:
        table: aligned text, as in OUT/table.md.
        measured: number of photos that were measured.
        failures: one line for each photo that could not be.
    """

    table: str
    measured: int
    failures: list[str]

    def __str__(self) -> str:
        return "\n".join([self.table, *(f"not measured: {failure}" for failure in self.failures)])


def metrics_of(results: pa.Table) -> pa.Table:
    """Return schemas/metrics.py of a table of `stages.evaluate.actor.RESULTS`, in a fixed order."""
    order = [(key, "ascending") for key in ("data", "image_id", "sam", "prompts", "metric")]
    return conform(results.drop_columns(["message"]).sort_by(order), SCHEMA)


def write_metrics(results: pa.Table, out: str) -> None:
    """Write metrics.parquet: what was measured, before anything is made of it."""
    sink = pa.BufferOutputStream()
    pq.write_table(metrics_of(results), sink, compression="zstd")
    atomic.write_bytes(f"{out}/metrics.parquet", sink.getvalue().to_pybytes())


def write_evaluation(
    results: pa.Table,
    specs: Sequence[StrategySpec],
    facts: Mapping[str, Any],
    out: str,
    seed: int = 0,
    failures_shown: Sequence[SideBySide] = (),
) -> Outcome:
    """Summarise results and write the files; nothing is written if a photo was measured twice.

    Args:
        results: table of `stages.evaluate.actor.RESULTS`, in any order.
        specs: strategies in the order of the tables.
        facts: further fields of evaluation.json: configuration, weights, seconds.
        out: folder or fsspec URI; made if it is not there.
        seed: seed of the bootstrap.
        failures_shown: pictures of the worst photos, for the page.

    Raises:
        ValueError: a photo was measured twice.
    """
    is_failure = pc.equal(results.column("metric"), "failed")
    failures = sorted(results.filter(is_failure).column("message").to_pylist())
    metrics = metrics_of(results)
    measured = metrics.filter(pc.not_equal(metrics.column("metric"), "failed"))
    entries = summarise(measured, [spec.text for spec in specs], seed)
    lines, tables, charts = facts_of(entries, specs), fill(entries, specs), charts_of(entries, specs)
    table = markdown(lines, tables)
    photos = len(set(zip(*(measured.column(key).to_pylist() for key in ("data", "image_id")), strict=True)))
    write_metrics(results, out)
    summary = {
        "photos": photos,
        "failures": failures,
        "results": entries,
        **facts,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
    }
    details: dict[str, Any] = {
        name: summary[name] for name in ("configuration", "resources", "versions", "machine") if name in summary
    }
    page = evaluation_html(
        f"{len(specs)} strategies on {photos:,} photos", lines, tables, charts, failures_shown, details
    )
    with atomic.write_text(f"{out}/index.html") as text:
        text.write(page)
    for chart in charts:
        with atomic.write_text(f"{out}/plots/{_file_name(chart.title)}.svg") as text:
            text.write(standalone(chart.svg))
    with atomic.write_text(f"{out}/evaluation.json") as text:
        json.dump(summary, text, indent=2, ensure_ascii=False)
        text.write("\n")
    with atomic.write_text(f"{out}/table.md") as text:
        text.write(table)
    return Outcome(table, photos, failures)


def _file_name(title: str) -> str:
    """Make a file name of a title: lower-case letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")
