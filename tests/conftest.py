"""Models and pictures that several tests share."""

from __future__ import annotations

import aopsam  # isort: skip  # noqa: F401 - beside a CPU torch it comes before segment_anything

import ctypes
import gc
import logging
import os
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.sam.model import assemble
from aopsam.sam.registry import Thresholds, load_sam
from stages import collect_garbage_as_usual
from tests.helpers.small_sams import SmallEncoder

# Ray's workers are polite, by default: beside another process of tests, or the check of types, they would get nothing.
os.environ |= {"RAY_worker_niceness": "0"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files that start Ray over the first three quarters of the others.

    They wait about as long as they compute: several at once leave the cores idle, and one that begins last leaves all
    processes but its own idle.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    with_ray = [path for path, its in files.items() if any(item.get_closest_marker("ray") for item in its)]
    # A cluster of three nodes waits for all of them: not while types are checked beside the first tests.
    with_ray.sort(key=lambda path: path.name == "test_cluster.py")
    others = [path for path in files if path not in with_ray]
    step = 3 * len(others) // (4 * max(len(with_ray), 1))
    order = []
    for number, path in enumerate(with_ray):
        order += [path, *others[number * step : (number + 1) * step]]
    order += others[len(with_ray) * step :]
    items[:] = [item for path in order for item in files[path]]


def pytest_collection_finish() -> None:
    """Leave what is imported by now, and the tests, out of the collector's rounds."""
    gc.freeze()
    collect_garbage_as_usual()


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Give torch its threads back: commands that run here set them, and masks of two threads differ by rounding."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def memory_of_a_file() -> Iterator[None]:
    """Give the system what a file's models took, and glibc keeps: at the end three processes would hold 9 GB."""
    yield
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


@pytest.fixture(scope="session")
def small_sam() -> Sam:
    """Random weights at 128 px; every mask passes its thresholds."""
    torch.manual_seed(0)
    model = assemble(SmallEncoder())
    model.name, model.sha256 = "small", "0" * 64
    model.thresholds = Thresholds(pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    return model


@pytest.fixture(scope="session")
def tiny() -> Sam:
    """The bundled model."""
    return load_sam("tiny")


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """(240, 320, 3) uint8: five flat shapes on a plain ground, edges softened as in a photo."""
    rows, columns = np.mgrid[:240, :320]
    rgb = np.full((240, 320, 3), (90, 110, 90), np.float32)
    for row, column, radius, colour in [
        (60, 70, 35, (220, 60, 50)),
        (70, 220, 45, (240, 220, 80)),
        (180, 60, 30, (60, 80, 220)),
    ]:
        rgb[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = colour
    rgb[150:220, 130:210] = (250, 250, 250)
    rgb[170:200, 240:300] = (20, 20, 20)
    rgb += np.random.default_rng(0).normal(0, 4, rgb.shape)
    return rgb.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def s3_port() -> int:
    """A port for an S3 server on this machine, which is what every `s3://` of this process and its children means."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
    address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    os.environ |= address | {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "up"}
    return port


@pytest.fixture(scope="session")
def s3_server(s3_port: int) -> Iterator[None]:
    """A server that answers as S3 does.

    S3 looks at a condition and writes in one step; moto's threads get between the two now and then, so that two writers
    win: here one writes at a time.
    """
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    put, one_writes = S3Response.put_object, threading.Lock()

    def put_in_turn(self: S3Response) -> object:
        with one_writes:
            return put(self)

    S3Response.put_object = put_in_turn
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", s3_port, verbose=False)
    server.start()
    yield
    server.stop()
    S3Response.put_object = put


@pytest.fixture
def bucket(s3_server: None) -> str:
    """URI of a new bucket."""
    import s3fs

    name = f"made-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def ray_session(s3_port: int) -> Iterator[str]:
    """One Ray on this machine for all tests that need it, as the pipelines start it; what was written meanwhile."""
    import ray

    from stages.engine import resources
    from stages.engine.resources import start

    resources.leave = lambda: None  # a run's Ray goes on for the next test

    with tempfile.TemporaryFile("w+") as said:
        kept = os.dup(1), os.dup(2)
        try:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            start(actors=2, threads=1)
        finally:
            for stream, before in zip((1, 2), kept, strict=True):
                os.dup2(before, stream)
                os.close(before)
        said.seek(0)
        text = said.read()
    yield text
    ray.shutdown()
