"""Cost of a training worker on 1 and on 20 shards: time to its first step, peak memory and disk; and its promises.

    python benchmarks/training_shards.py --data SHARD... --out OUT

Makes shards of --mib MiB each below OUT out of the photos of --data, under other names. OUT must not exist; it takes
shards x MiB, and as much as two windows (`aopsam.training.stream.WINDOW_BYTES`) are in TMPDIR. Then, with the bundled
`tiny` fine-tuned on small pictures, each worker a process of its own:

1. on 1 shard and on all: seconds from its start to its first step, and peaks of memory (of the worker and of the
   process that makes its batches, shared pages counted once) and of its temporary files, over enough steps to move the
   window by --parts parts, faster than a real training moves it. The peaks must lie within 10 % of each other, the
   first steps within 60 s.
2. two workers against one with twice the accumulation, through the same parts: the largest relative difference of the
   loss of any update must be at most 1e-4.
3. a run killed (-9) at a random moment and started again, --kills times: its last checkpoint must be that of the
   unbroken run, bit for bit.

Exit status: 0 where all is so; else 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import psutil
import torch
from torch import distributed

import aopsam
from aopsam.photos.sa1b import Sample
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.finetune import FinetuneRecipe
from aopsam.training.pool import Pool
from aopsam.training.trainer import Worker, train
from benchmarks.kill_training import differences
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.train.finetune import FinetuneJob, finetune_task

WEIGHTS = Path(aopsam.__file__).parent / "weights" / "tiny.safetensors"
RECIPE = FinetuneRecipe(windows=6, window_px=64, prompts=2, precision="float32", accumulate=2)
PHOTOS_AN_UPDATE = 100
"""Photos by which the window moves with an update: more than a batch has, so that reading is what is measured."""


def make_shards(data: Sequence[str], folder: Path, shards: int, mib: int) -> list[str]:
    """Write tars in SA-1B's layout that repeat some photos under names of their own."""
    samples = [s for each in data for shard in list_shards(each) for s in read_annotated(shard, print)]
    again, number, paths = cycle(samples), 0, []
    for shard in range(shards):
        path = folder / f"{shard:06d}.tar"
        with tarfile.open(path, "w") as tar:
            while tar.offset < mib << 20:
                for name, content in members(next(again), f"{number:08d}"):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                number += 1
        paths.append(str(path))
    return paths


def members(sample: Sample, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the two members of a sample."""
    image = {"image_id": name, "width": sample.width, "height": sample.height, "file_name": f"{name}.jpg"}
    yield f"./{name}.jpg", sample.jpeg
    yield f"./{name}.json", json.dumps({"image": image, "annotations": sample.annotations}).encode()


def work(shards: Sequence[str], folder: Path, parts: int, rank: int, world: int) -> None:
    """Train as one worker until the window has moved by some parts; print a line at the first step and at the end."""
    began = psutil.Process().create_time()
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    recipe = replace(RECIPE, accumulate=RECIPE.accumulate // world)
    task = finetune_task(FinetuneJob(tuple(shards), recipe, str(WEIGHTS)), lambda line: None)
    task.held_out = []  # validation takes as much memory as its photos have masks, and these are others
    task.pool = Pool([task.photos], PHOTOS_AN_UPDATE)
    task.recipe = replace(task.recipe, steps=-(-len(task.photos) // (4 * PHOTOS_AN_UPDATE)) * parts + 2)
    rates, steps = task.rates, list[int]()

    def noted(step: int) -> Mapping[str, float]:
        if len(steps) == 1:  # the first is done
            print(json.dumps({"first": time.time() - began, "cpu": time.process_time()}), flush=True)
        steps.append(step)
        return rates(step)

    task.rates = noted  # type: ignore[method-assign]
    train(task, folder, worker=Worker(rank, world), checkpoint_every=5, validate_every=10**9)
    state = load_checkpoint(folder)
    assert state is not None
    print(json.dumps({"steps": state["step"], "pool": state["pool"], "photos": len(task.photos)}), flush=True)


def start(shards: Sequence[str], folder: Path, parts: int, rank: int = 0, world: int = 1) -> subprocess.Popen[str]:
    """Start a worker."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--work", *shards, "--out", str(folder), "--parts", str(parts)]
    command += ["--rank", str(rank), "--world", str(world)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def costs(worker: subprocess.Popen[str]) -> tuple[int, int]:
    """Return bytes of memory and of temporary files of a worker and its processes, now."""
    memory, files = 0, dict[int, int]()
    processes = [psutil.Process(worker.pid)]
    processes += processes[0].children(recursive=True)
    for process in processes:
        memory += process.memory_full_info().pss
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            if "(deleted)" in os.readlink(entry):  # noqa: PTH115 - it leads nowhere
                status = entry.stat()
                files[status.st_ino] = status.st_blocks * 512
    return memory, sum(files.values())


def watched(shards: Sequence[str], folder: Path, parts: int) -> tuple[float, int, int]:
    """Run a worker; return seconds to its first step, and peaks of memory and disk in bytes."""
    worker, memory, disk = start(shards, folder, parts), 0, 0
    while worker.poll() is None:
        try:
            now = costs(worker)
        except (psutil.Error, OSError):  # it ends just now
            continue
        memory, disk = max(memory, now[0]), max(disk, now[1])
        time.sleep(0.5)
    assert worker.stdout is not None
    lines = [json.loads(line) for line in worker.stdout.read().splitlines()]
    print(f"{len(shards)} shard(s): {lines}", flush=True)
    return lines[0]["first"], memory, disk


def final_losses(folder: Path) -> torch.Tensor:
    """Return the losses of a run's log."""
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return torch.tensor([line["loss"] for line in lines if line["part"] == "train"])


def killed(shards: Sequence[str], folder: Path, parts: int, seconds: float) -> list[str]:
    """Kill a worker some seconds after its first step, let another go on; return what differs from the unbroken run."""
    worker = start(shards, folder, parts)
    assert worker.stdout is not None
    worker.stdout.readline()
    time.sleep(seconds)
    worker.kill()
    worker.communicate()
    reached = load_checkpoint(folder)
    begun = None if reached is None else reached["step"]
    if start(shards, folder, parts).wait() != 0:
        return ["no end"]
    print(f"killed {seconds:.0f} s after its first step, after update {begun}", flush=True)
    return differences(load_checkpoint(folder), load_checkpoint(folder.parent / "all"))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", help="annotated photos to make shards of")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--mib", type=int, default=300, help="size of a shard")
    parser.add_argument("--parts", type=int, default=8, help="quarters of a window to move by")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--world", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.work:
        work(arguments.work, arguments.out, arguments.parts, arguments.rank, arguments.world)
        return 0
    arguments.out.mkdir(parents=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    shards = make_shards(arguments.data, arguments.out, arguments.shards, arguments.mib)
    found = {}
    for name, some in (("one", shards[:1]), ("all", shards)):
        found[name] = watched(some, arguments.out / name, arguments.parts)
        first, memory, disk = found[name]
        print(
            f"{len(some)} shard(s): first step after {first:.1f} s, {memory >> 20} MiB, {disk >> 20} MiB of disk",
            flush=True,
        )
    (first, memory, disk), (later, more, fuller) = found.values()
    ok = max(first, later) <= 60 and more <= 1.1 * memory and fuller <= 1.1 * disk
    pair = [start(shards, arguments.out / "two", arguments.parts, rank, 2) for rank in range(2)]
    ok &= all(worker.wait() == 0 for worker in pair)
    one, two = (final_losses(arguments.out / name) for name in ("all", "two"))
    difference = float(((two - one).abs() / one).max())
    print(f"two workers: largest relative difference of the loss {difference:.1e} in {len(one)} lines of ten updates")
    ok &= difference <= 1e-4
    draw = random.Random(arguments.seed)
    for number in range(arguments.kills):
        wrong = killed(shards, arguments.out / f"killed-{number}", arguments.parts, draw.uniform(5, 40))
        print("equal" if not wrong else f"differs: {', '.join(wrong[:3])} and {len(wrong)} in all", flush=True)
        ok &= not wrong
    return int(not ok)


if __name__ == "__main__":
    raise SystemExit(main())
