"""Kill training (-9) at random moments, let it go on, and compare its last checkpoint with an unbroken run's.

    python benchmarks/kill_training.py --maps MAPS --out OUT --kills 3
    python benchmarks/kill_training.py --maps MAPS --out OUT --kills 3 -- --loss focal

What follows `--` goes to train_predictor.py. OUT must not exist. One run is left alone; of --kills runs the driver is
killed at a random moment of its training, and the same command started again at once; of as many more, one of the two
workers is killed, and the run goes on by itself. Weights, average and optimiser of every run must be those of the
first, bit for bit. Exit status: 0 where they are, 1 where not.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from aopsam.training.checkpoint import load_checkpoint

PIPELINE = Path(__file__).parent.parent / "pipelines" / "train_predictor.py"
MARK = "AOPSAM_KILL_TRAINING"
"""Variable that tells the processes of one run from all others."""


def start(command: Sequence[str], log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a run; return its driver, and the mark that its processes carry in their environment."""
    mark = uuid.uuid4().hex
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {MARK: mark})
    return process, mark


def workers(mark: str) -> Iterator[psutil.Process]:
    """Yield the training processes of the run with this mark."""
    for process in psutil.process_iter():
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()) and process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:
            continue


def wait_for_training(process: subprocess.Popen[bytes], mark: str, seconds: float) -> bool:
    """Wait until workers run, and then `seconds` more; return False where the run ended before."""
    while process.poll() is None and not list(workers(mark)):
        time.sleep(0.2)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    return process.poll() is None


def final_state(out: Path) -> dict[str, Any]:
    """Load the last checkpoint of a run, without the time at which it was made."""
    last = max(folder for folder in (out / "train").glob("checkpoint_*") if folder.is_dir())
    state = load_checkpoint(last)
    assert state is not None, last
    return state


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """List the names of values that are not bit for bit the same."""
    if isinstance(ours, dict):
        names = ours.keys() | theirs.keys()
        return [found for name in names for found in differences(ours.get(name), theirs.get(name), f"{where}/{name}")]
    if isinstance(ours, list | tuple):
        return [
            found
            for i, pair in enumerate(zip(ours, theirs, strict=True))
            for found in differences(*pair, f"{where}/{i}")
        ]
    same = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    return [] if same else [where]


def main(argv: Sequence[str] | None = None) -> int:
    """Run, kill, compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=3, help="of the driver, and as many of a worker")
    parser.add_argument("--span", type=float, default=20.0, help="seconds of training in which a kill falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="of train_predictor.py, after --")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True)
    command = [sys.executable, str(PIPELINE), "--data", *arguments.maps, "--workers", "2", "--threads", "1"]
    command += ["--steps", "60", "--batch", "4", "--accumulate", "1", "--checkpoint-every", "10", *arguments.options]
    draw = random.Random(arguments.seed)
    log = arguments.out / "log.txt"

    def run(name: str) -> list[str]:
        return [*command, "--out", str(arguments.out / name)]

    unbroken, _ = start(run("unbroken"), log)
    if unbroken.wait() != 0:
        print(f"the unbroken run failed, see {log}")
        return 1
    expected = final_state(arguments.out / "unbroken")
    wrong = 0
    for kind in ("driver", "worker"):
        for number in range(arguments.kills):
            name = f"{kind}-{number}"
            process, mark = start(run(name), log)
            seconds = draw.uniform(0, arguments.span)
            hit = wait_for_training(process, mark, seconds)
            if hit:
                victims = list(workers(mark))
                (psutil.Process(process.pid) if kind == "driver" else draw.choice(victims)).kill()
            if kind == "driver" and process.wait() != 0:
                process, _ = start(run(name), log)
            status = process.wait()
            found = differences(expected, final_state(arguments.out / name)) if status == 0 else ["no end"]
            wrong += bool(found) or not hit
            verdict = "equal" if not found else f"differs: {', '.join(found[:3])} and {len(found)} in all"
            print(f"{kind} killed {seconds:.1f} s after its workers started ({hit}): {verdict}", flush=True)
    print(f"{2 * arguments.kills} kills, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
