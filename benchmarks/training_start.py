"""Cost of beginning a training on many files: of prompt maps, or of photos without annotations.

    python benchmarks/training_start.py --kind maps --files 20000 --out OUT
    python benchmarks/training_start.py --kind photos --files 1000 --out OUT --s3

Makes as many files below OUT, which must not exist: files of sixteen prompt maps (90 kB each), or tars of twenty photos
(those of samples/, 1.5 MB). With --s3 they are put into a store of S3's kind on this machine, too. Then, each in a
process of its own:

- start: seconds, and those of the CPU, until a training task is built and has made its first batch (the predictor's;
  of photos, decoupled distillation of `tiny`), MiB of memory at most above that of the imports, requests to the store;
- index (maps): the index of the maps being written, after which start is measured again;
- rows (maps): the same, then seconds and requests a row of --rows more rows in the order of training.
"""

from __future__ import annotations

import aopsam  # isort: skip

import argparse
import io
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import s3fs

from aopsam.predictor.frame import FRAME_SIZE
from aopsam.predictor.sampling import Sampling
from aopsam.training.recipes import PredictorRecipe
from aopsam.training.student import StudentRecipe
from schemas.prompt_maps import SCHEMA
from stages.prompt_maps.files import HOW, write_index
from stages.train.distillation import DistillationJob, distillation_task
from stages.train.predictor import PredictorJob, predictor_task

ROWS, PHOTOS = 16, 20
TOKEN = "@FILE@@"


def template() -> bytes:
    """Return a file of black photos whose ids hold `TOKEN`, once as data and once in each statistic."""
    frame = FRAME_SIZE * FRAME_SIZE
    row: dict[str, Any] = {"sam": "tiny", "sam_sha256": "0" * 64, "image": bytes(3 * frame), "content_hw": [256, 256]}
    row |= {"embedding": bytes(2 * 256 * 32 * 32), "embedding_shape": [256, 32, 32], "map": bytes(2 * frame)}
    row |= {"valid": bytes(np.ones(frame, np.uint8)), "source": "interior", "weight": 1.0, "boxes": [], "masks": []}
    sink = pa.BufferOutputStream()
    rows = [{"image_id": f"{TOKEN}-{number:02}"} | row for number in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, **HOW)
    return bytes(sink.getvalue())


def make_maps(folder: Path, files: int) -> None:
    """Write files of prompt maps."""
    content = template()
    for number in range(files):
        (folder / f"part-{number:07}.parquet").write_bytes(content.replace(TOKEN.encode(), f"{number:07}".encode()))


def make_tars(folder: Path, files: int) -> None:
    """Write tars of photos."""
    photos = [path.read_bytes() for path in sorted((Path(aopsam.__file__).parents[1] / "samples").glob("*.jpg"))]
    for number in range(files):
        with tarfile.open(folder / f"{number:06}.tar", "w") as tar:
            for photo in range(PHOTOS):
                content = photos[photo % len(photos)]
                (info := tarfile.TarInfo(f"{number:06}_{photo:02}.jpg")).size = len(content)
                tar.addfile(info, io.BytesIO(content))


def measured(what: str, uri: str, *more: str) -> None:
    """Do a thing in a process of its own and print what it says."""
    command = [sys.executable, __file__, "--out", uri, "--kind", "maps", "--files", "0", "--do", what, *more]
    print(what, subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def do(what: str, uri: str, rows: int) -> dict[str, Any]:
    """Do a thing; return seconds, peak memory above that of the imports in MiB, and requests by kind."""
    requests = count_requests()
    before, began, used = peak_mib(), time.perf_counter(), time.process_time()
    if what == "index":
        write_index(uri)
    elif what == "photos":
        recipe = StudentRecipe(picture_px=64, batch=8)
        student = distillation_task(DistillationJob((uri,), recipe, "out"))
        student.pool.begin(0, 1)
        student.batch(0)
    else:
        task = predictor_task(PredictorJob((uri,), PredictorRecipe(), Sampling(), 100))
        task.batch(0)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    found: dict[str, Any] = {"seconds": round(seconds, 2), "CPU seconds": round(cpu, 2)}
    found |= {"MiB": peak_mib() - before, "requests": dict(requests)}
    if what == "rows":
        requests.clear()
        began, each = time.perf_counter(), task.recipe.batch
        for number in range(1, 1 + rows // each):
            task.batch(number)
        read = rows // each * each
        found = {
            "seconds a row": round((time.perf_counter() - began) / read, 4),
            "rows": read,
            "MiB": peak_mib() - before,
        }
        found["requests a row"] = {name: round(count / read, 2) for name, count in requests.items()}
    return found


def peak_mib() -> int:
    """Return the most memory that this process took."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def count_requests() -> Counter[str]:
    """Return what counts the requests of s3fs by their kind from now on."""
    counted, call = Counter[str](), s3fs.S3FileSystem._call_s3

    async def counting(self: Any, method: str, *given: Any, **named: Any) -> Any:
        counted[method] += 1
        return await call(self, method, *given, **named)

    s3fs.S3FileSystem._call_s3 = counting
    return counted


def to_store(folder: Path) -> str:
    """Start a store on this machine, put the files into it, and return their URI."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    os.environ |= address | {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "up"}
    ThreadedMotoServer("127.0.0.1", port, verbose=False).start()
    store = s3fs.S3FileSystem()
    store.mkdir("made")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda path: store.pipe_file(f"made/data/{path.name}", path.read_bytes()), folder.iterdir()))
    return "s3://made/data"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("maps", "photos"), required=True)
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--do", choices=("start", "index", "rows", "photos"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.do:
        print(json.dumps(do(arguments.do, arguments.out, arguments.rows)))
        return 0
    folder = Path(arguments.out) / "data"
    folder.mkdir(parents=True)
    {"maps": make_maps, "photos": make_tars}[arguments.kind](folder, arguments.files)
    uri = to_store(folder) if arguments.s3 else str(folder)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {arguments.files} files", flush=True)
    for what in ("start", "index", "start", "rows") if arguments.kind == "maps" else ("photos",):
        measured(what, uri, "--rows", str(arguments.rows))
    os._exit(0)  # the store's thread does not end by itself


if __name__ == "__main__":
    raise SystemExit(main())
