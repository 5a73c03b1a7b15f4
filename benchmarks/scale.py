"""Measure the dataflow at a million photos, without a model: listing, rows through the real steps, and a resume.

    python benchmarks/scale.py --rows 1000000 --json runs/bench/scale.json

Makes tars of empty members in a temporary folder, labels them with a stub of one millisecond a photo on Ray, samples
the memory of this process and of Ray's object store as rows come in, settles the files, and asks twice whether anything
is left to do. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import tarfile
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import aopsam  # isort: skip  # noqa: F401 - beside a CPU torch it comes before segment_anything
import psutil
import pyarrow as pa
import ray

from schemas.labels import SCHEMA, Reason
from stages.engine.journal import Lost
from stages.engine.resources import start
from stages.label.flow import MOST_ROWS, Flow, Kind, News, is_undone, join_news, kind_of
from stages.label.folder import usable_files
from stages.label.row import blank_row, given_up, with_reason
from stages.label.run import Labelling, label_corpus
from stages.results.settle import settle
from stages.results.verify import verify_run

ARCHIVES = 4
MASK_BYTES = 225


class Stub:
    """Labeller without a model: a millisecond and one made-up mask a photo."""

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Return a label row for each row of the listing."""
        began = time.perf_counter()
        rows = []
        for source in unit.to_pylist():
            mask = {"segmentation": {"size": [1, 1], "counts": base64.b85encode(os.urandom(MASK_BYTES)).decode()}}
            row = blank_row(source) | {"masks": [mask | {"area": 1, "predicted_iou": 0.5, "stability_score": 0.5}]}
            rows.append(with_reason(row, Reason.NONE, ""))
        made = pa.Table.from_pylist(rows, schema=SCHEMA)
        time.sleep(max(0.0, 0.001 * unit.num_rows - (time.perf_counter() - began)))
        return made

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the row of a photo that ended its worker."""
        return given_up(blank_row(item.to_pylist()[0]), why)


def make_archives(folder: Path, rows: int) -> None:
    """Write tars of empty members with names of photos, `rows` in all."""
    folder.mkdir(parents=True)
    for archive in range(ARCHIVES):
        with (folder / f"sa_{archive:06d}.tar").open("wb") as file:
            for number in range(archive, rows, ARCHIVES):
                file.write(tarfile.TarInfo(f"sa_{number:08d}.jpg").tobuf(tarfile.USTAR_FORMAT))
            file.write(bytes(1024))


def _rss() -> int:
    return psutil.Process().memory_info().rss


def _store() -> float:
    total, free = ray.cluster_resources(), ray.available_resources()
    return total.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0)


def measure_listing(flow: Flow) -> dict[str, Any]:
    """List every archive in this process, first anew and then from the index."""
    found: dict[str, Any] = {}
    for name in ("listing_s", "index_s"):
        before, began = _rss(), time.perf_counter()
        tables = chain.from_iterable(map(flow.list, flow.find(pa.table({}))))
        news = join_news(News.of(table) for table in tables if kind_of(table) is Kind.NEWS)
        found |= {name: time.perf_counter() - began, name.replace("_s", "_rss_mb"): (_rss() - before) / 1e6}
    return found | {"listed": news.listed}


def measure_rows(flow: Flow, rows: int) -> dict[str, Any]:
    """Label all with the stub; return the rate, and memory in the second and in the last tenth of the rows."""
    resources = start(2, 1)
    samples: list[tuple[int, int, float]] = []
    began, first, done = time.perf_counter(), 0.0, 0
    for told in label_corpus(flow, Labelling(Stub, Stub, Stub), resources):
        if isinstance(told, News):
            continue
        first, done = first or time.perf_counter(), done + told.rows
        if not samples or done - samples[-1][0] > rows / 200:
            samples.append((done, _rss(), _store()))
    seconds = time.perf_counter() - first

    def tenth(number: int, column: int) -> float:
        inside = [sample[column] for sample in samples if rows * number / 10 <= sample[0] < rows * (number + 1) / 10]
        return sum(inside) / max(1, len(inside))

    return {
        "rows": done,
        "seconds_to_first_file": first - began,
        "rows_per_s": done / seconds,
        "of_the_stubs_rate": done / seconds / (2000 * resources.actors),  # two calls at once in an actor
        "driver_mb": [tenth(1, 1) / 1e6, tenth(9, 1) / 1e6],
        "store_mb": [tenth(1, 2) / 1e6, tenth(9, 2) / 1e6],
    }


def measure_end(flow: Flow) -> dict[str, Any]:
    """Join the files, look at their sizes, ask whether anything is left, and verify that every image has one row."""
    labels = Path(flow.out, "labels")
    files = len(list(labels.iterdir()))
    began = time.perf_counter()
    found = settle(flow.out)
    settled = time.perf_counter() - began
    began = time.perf_counter()
    photos, undone = is_undone(Flow(flow.images, flow.out, usable_files(str(labels))))
    resumed = time.perf_counter() - began
    lines: list[str] = []
    verify_run(flow.images, flow.out, lines.append, Counter())
    return {
        "files_before": files,
        "files_mb": sorted(round(path.stat().st_size / 1e6, 1) for path in labels.iterdir()),
        "settle_s": settled,
        "rows_settled": found.status.total(),
        "nothing_to_do_s": resumed,
        "photos": photos,
        "undone": undone,
        "not_one_row": sum(", must be 1" in line for line in lines),
    }


def main() -> None:
    """Measure; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_archives(Path(folder, "photos"), arguments.rows)
        flow = Flow(f"{folder}/photos", f"{folder}/out", {}, rows_a_unit=MOST_ROWS)
        figures = measure_listing(Flow(flow.images, f"{folder}/listed", {}, rows_a_unit=MOST_ROWS))
        figures |= measure_rows(flow, arguments.rows) | measure_end(flow)
    figures["load"] = os.getloadavg()
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    from benchmarks.scale import main as importable  # by its name, and not as __main__: workers import it

    importable()
