"""Run the pipelines from and to a store of S3's kind on this machine, which may fail some of its requests.

    python benchmarks/s3.py --images PHOTOS --data SHARDS --what labelling flaky jobs retraining
    python benchmarks/s3.py --images PHOTOS --what flaky --fail-every 10

labelling: PHOTOS are labelled from the bucket to the bucket, the driver is killed (-9) half-way, and the same command
goes on. flaky: the same without a kill, while one request in --fail-every gets 503 or a closed connection. jobs: SHARDS
are made prompt maps, a predictor is trained on them by two workers, and evaluated, all from and to the bucket.
retraining: four of PHOTOS make a version of a predictor, compared on SHARDS, by which they are labelled then.
Prints a line for each check. Exit status: 0 where all hold, 1 where not.
"""

from __future__ import annotations

import aopsam  # isort: skip  # noqa: F401 - beside a CPU torch it comes before segment_anything

import argparse
import asyncio
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pyarrow as pa
from aiohttp import ClientSession, web
from moto.server import ThreadedMotoServer

from stages.annotations.shards import list_shards
from stages.results.read import read_labels
from stages.storage.location import open_filesystem

PIPELINES = Path(__file__).parent.parent / "pipelines"
Check = tuple[str, bool]


class Flaky:
    """Passes requests on to a server; of every so many, one fails.

    Attributes:
        fail_every: fails one request in so many, at random; 0 for none.
        requests: number of requests so far.
        failed: number of those that failed.
    """

    def __init__(self, server: str, seed: int = 0) -> None:
        """Listen on a free port of this machine.

        Args:
            server: URL of the server.
            seed: of what fails.
        """
        self.fail_every = self.requests = self.failed = 0
        self._server, self._rng = server, random.Random(seed)
        self._port = 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()

    @property
    def url(self) -> str:
        """URL of this server."""
        return f"http://127.0.0.1:{self._port}"

    async def _serve(self) -> None:
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await asyncio.Event().wait()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        if self.fail_every and self._rng.random() * self.fail_every < 1:
            self.failed += 1
            if self._rng.random() < 0.5 and request.transport is not None:
                request.transport.close()
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>", content_type="application/xml")
        asked = {name: value for name, value in request.headers.items() if name not in _OF_THE_HOP}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(request.method, f"{self._server}{request.raw_path}", headers=asked, data=body) as answer,
        ):
            headers = {name: value for name, value in answer.headers.items() if name not in _OF_THE_HOP}
            content = await answer.read()
            if request.method == "HEAD":
                head = web.StreamResponse(status=answer.status, headers=headers)
                head.content_length = int(answer.headers.get("Content-Length", 0))
                await head.prepare(request)
                return head
            return web.Response(status=answer.status, headers=headers, body=content)


_OF_THE_HOP = {"Transfer-Encoding", "Content-Length", "Connection", "Date", "Server"}


@contextmanager
def store() -> Iterator[Flaky]:
    """Start the store, which every `s3://` of this process and its children means; yield what stands before it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    flaky = Flaky("http://{}:{}".format(*server.get_host_and_port()))
    os.environ |= {"AWS_ENDPOINT_URL": flaky.url, "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "up"}
    try:
        yield flaky
    finally:
        server.stop()


def begin(pipeline: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a pipeline; what it says goes to standard error."""
    command = [sys.executable, str(PIPELINES / f"{pipeline}.py"), *arguments]
    return subprocess.Popen(command, stdout=sys.stderr, env=os.environ | {"PYTHONUNBUFFERED": "1"})


def run(pipeline: str, *arguments: str) -> bool:
    """Run a pipeline; tell whether it ended well."""
    return begin(pipeline, *arguments).wait() == 0


def rows(out: str) -> tuple[int, int]:
    """Return the numbers of label rows and of photos with one."""
    fsspec.filesystem("s3").invalidate_cache()
    try:
        ids = pa.concat_tables(read_labels(out, ["image_id"])).column(0).to_pylist()
    except ValueError:
        return 0, 0
    return len(ids), len(set(ids))


def upload(source: str, uri: str) -> int:
    """Copy the files of a folder to the bucket; return their number."""
    files = [path for path in sorted(Path(source).iterdir()) if path.suffix in (".jpg", ".png", ".tar")]
    for path in files:
        fsspec.filesystem("s3").put_file(str(path), f"{uri}/{path.name}")
    return len(files)


def labelling(arguments: argparse.Namespace, flaky: Flaky) -> Iterator[Check]:
    """Label photos, kill the driver half-way, go on."""
    photos = upload(arguments.images, "s3://bucket/photos")
    command = ("--images", "s3://bucket/photos", "--out", "s3://bucket/out", "--prompts", arguments.prompts)
    driver = begin("label_corpus", *command)
    while rows("s3://bucket/out")[0] < photos // 2 and driver.poll() is None:
        time.sleep(0.5)
    driver.kill()
    driver.wait()
    there = rows("s3://bucket/out")[0]
    yield f"{there} of {photos} rows when the driver was killed", 0 < there < photos
    yield "the same command went on to the end", run("label_corpus", *command)
    yield f"rows and photos {rows('s3://bucket/out')}, of {photos}", rows("s3://bucket/out") == (photos, photos)
    yield "verified", run("verify_labels", "--images", "s3://bucket/photos", "--labels", "s3://bucket/out")
    exported = run("export_labels", "--labels", "s3://bucket/out", "--to", "coco", "--out", "s3://bucket/coco")
    yield "exported", exported


def flaky_store(arguments: argparse.Namespace, flaky: Flaky) -> Iterator[Check]:
    """Label photos while requests fail."""
    photos = upload(arguments.images, "s3://bucket/photos")
    flaky.requests, flaky.fail_every = 0, arguments.fail_every
    command = ("--images", "s3://bucket/photos", "--out", "s3://bucket/flaky", "--prompts", arguments.prompts)
    ended = run("label_corpus", *command)
    flaky.fail_every = 0
    yield f"ended well, with {flaky.failed} of {flaky.requests} requests failed", ended and flaky.failed > 0
    yield f"rows and photos {rows('s3://bucket/flaky')}, of {photos}", rows("s3://bucket/flaky") == (photos, photos)


def upload_data(arguments: argparse.Namespace) -> str:
    """Copy the shards to the bucket; return where they are."""
    for shard in list_shards(arguments.data):
        fsspec.filesystem("s3").put_file(open_filesystem(shard)[1], f"s3://bucket/data/{shard.rpartition('/')[2]}")
    return "s3://bucket/data"


def jobs(arguments: argparse.Namespace, flaky: Flaky) -> Iterator[Check]:
    """Make prompt maps, train on them with two workers, evaluate."""
    data, base = upload_data(arguments), "s3://bucket"
    yield "prompt maps", run("build_prompt_maps", "--data", data, "--out", f"{base}/maps")
    training = (
        "--data",
        f"{base}/maps",
        "--out",
        f"{base}/predictor",
        "--steps",
        "6",
        "--batch",
        "2",
        "--threads",
        "1",
    )
    yield "a predictor, by two workers", run("train_predictor", *training, "--workers", "2")
    measured = ("--sam", "tiny", "--prompts", "gt-point,grid-4", "--limit", "4", "--out", f"{base}/evaluation")
    yield "an evaluation", run("evaluate", "--data", data, *measured)


def retraining(arguments: argparse.Namespace, flaky: Flaky) -> Iterator[Check]:
    """Make a version of a predictor, label by it."""
    data = upload_data(arguments)
    for path in sorted(Path(arguments.images).glob("*.jpg"))[:RETRAINED_ON]:
        fsspec.filesystem("s3").put_file(str(path), f"s3://bucket/corpus/{path.name}")
    settings = ("--teacher-prompts", "grid-4", "--at-least", "1", "--steps", "4", "--batch", "2", "--actors", "1")
    gate = ("--tolerance", "100", "--more-prompts", "1000")
    registry = ("--registry", "s3://bucket/registry")
    made = run("retrain", "--corpus", "s3://bucket/corpus", *registry, "--eval", data, *settings, *gate)
    yield "a version is made and in use", made and fsspec.filesystem("s3").exists("s3://bucket/registry/latest.json")
    by = ("--predictor", "s3://bucket/registry@latest", "--out", "s3://bucket/by-latest")
    yield "labelled by the version in use", run("label_corpus", "--images", "s3://bucket/corpus", *by)


RETRAINED_ON = 4
"""Photos of the corpus of a retraining."""

WHAT = {"labelling": labelling, "flaky": flaky_store, "jobs": jobs, "retraining": retraining}


def main() -> int:
    """Run what is asked for, print a line for each check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--images", required=True, help="folder of photos to label")
    parser.add_argument("--data", help="shard of annotated photos, for jobs")
    parser.add_argument("--prompts", default="grid-4")
    parser.add_argument("--fail-every", type=int, default=10)
    arguments = parser.parse_args()
    holds = True
    with store() as flaky:
        fsspec.filesystem("s3").mkdir("bucket")
        for what in arguments.what:
            began = time.monotonic()
            for name, held in WHAT[what](arguments, flaky):
                holds &= held
                print(f"{'ok  ' if held else 'FAIL'}  {what}: {name}, {time.monotonic() - began:.0f} s", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
