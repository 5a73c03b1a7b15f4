"""OUT/manifest.json: what a run did, from which configuration, with what; and the account of it on the terminal."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import fsspec
import pyarrow.compute as pc

from schemas.labels import BESIDE_STAGES, MODEL_STAGES, Status
from stages.config.label_config import difference, digest
from stages.label.progress import Progress
from stages.results.read import read_labels
from stages.storage import atomic

_PACKAGES = ("aopsam", "torch", "segment-anything", "ray", "pyarrow", "pycocotools", "numpy", "pillow")


class OtherConfiguration(ValueError):
    """OUT holds the labels of another configuration; the message is one line a difference."""


def check_configuration(out: str, configuration: Mapping[str, Any]) -> None:
    """Refuse to mix two configurations in one folder.

    Raises:
        OtherConfiguration: OUT was made with another configuration, or holds labels and does not say which.
    """
    filesystem, root = fsspec.url_to_fs(out)
    if not filesystem.exists(f"{root}/manifest.json"):
        if filesystem.exists(f"{root}/labels") and filesystem.ls(f"{root}/labels"):
            raise OtherConfiguration(f"{out}/labels has files but {out}/manifest.json is missing: choose another --out")
        return
    try:
        before = json.loads(filesystem.cat_file(f"{root}/manifest.json"))["configuration"]
    except (ValueError, KeyError, TypeError) as error:
        raise OtherConfiguration(f"{out}/manifest.json is not the manifest of a run: choose another --out") from error
    lines = difference(before, configuration)
    if lines:
        listed = "\n  ".join(lines)
        raise OtherConfiguration(f"{out} holds labels of another configuration; choose another --out\n  {listed}")


def finished_manifest(out: str) -> dict[str, Any] | None:
    """The manifest of a run that ended, or None."""
    filesystem, root = fsspec.url_to_fs(out)
    try:
        manifest = json.loads(filesystem.cat_file(f"{root}/manifest.json"))
    except (OSError, ValueError):
        return None
    return manifest if manifest.get("state") == "finished" else None


def write_started(out: str, configuration: Mapping[str, Any]) -> None:
    """Write the manifest of a run that has begun, so that a later command can tell what the labels are."""
    _write(out, {"state": "running", "configuration": configuration, "configuration_sha256": digest(configuration)})


def write_finished(out: str, configuration: Mapping[str, Any], progress: Progress, actors: int) -> dict[str, Any]:
    """Count what the tables hold and write the manifest of a finished run.

    Args:
        out: the run's folder.
        configuration: everything that decides which masks come out.
        progress: of this run, which labelled fewer images than the tables hold where it was a resume.
        actors: that this run had.

    Returns:
        The manifest as written.
    """
    status: Counter[str] = Counter()
    reason: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    masks = 0
    seconds = [f"seconds_{stage}" for stage in (*BESIDE_STAGES, *MODEL_STAGES, "wait")]
    columns = ["status", "reason", "masks", "prompts_proposed", "prompts_decoded", *seconds]
    for table in read_labels(out, columns):
        status.update(table.column("status").to_pylist())
        reason.update(table.column("reason").to_pylist())
        masks += pc.sum(pc.list_value_length(table.column("masks"))).as_py() or 0
        for column in columns[3:]:
            totals[column] += pc.sum(table.column(column)).as_py() or 0
    images = status.total()
    readable = max(1, status[Status.OK] + status[Status.EMPTY])
    stages = {stage: totals[f"seconds_{stage}"] / readable for stage in ("wait", *MODEL_STAGES)}
    beside = {stage: totals[f"seconds_{stage}"] / readable for stage in BESIDE_STAGES}
    manifest = {
        "state": "finished",
        "images": images,
        "masks": masks,
        "status": {str(key): status[key] for key in Status},
        "reason": dict(sorted(reason.items())),
        "failed_share": status[Status.FAILED] / max(1, images),
        "prompts_proposed": int(totals["prompts_proposed"]),
        "prompts_decoded": int(totals["prompts_decoded"]),
        "stages": stages,
        "beside": beside,
        "bound_by": bound_by(stages, beside),
        "actors": _actors(progress, actors),
        "seconds": progress.seconds,
        "images_per_second": progress.done.rows / progress.seconds if progress.seconds > 0 else 0.0,
        "configuration": configuration,
        "configuration_sha256": digest(configuration),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
    }
    _write(out, manifest)
    return manifest


def bound_by(stages: Mapping[str, float], beside: Mapping[str, float]) -> dict[str, Any]:
    """The stage that bounds a run's speed, and its share of the time.

    The model's thread is never without a photo or waiting for one, so what it spends most time on bounds the run.
    Where that is waiting, the stage it waits for does: the longer one of those that go on beside it.

    Args:
        stages: `wait` and what the model's thread does → mean seconds an image.
        beside: what other threads do at the same time → mean seconds an image.
    """
    longest = max(stages, key=lambda stage: stages[stage])
    share = stages[longest] / (sum(stages.values()) or 1.0)
    return {"stage": max(beside, key=lambda stage: beside[stage]) if longest == "wait" else longest, "share": share}


def _actors(progress: Progress, actors: int) -> dict[str, Any]:
    """What the actors of this run did with their time, from the moment that the first one began to work."""
    done, whole = progress.done, max(1e-9, (progress.seconds - progress.seconds_start) * actors)
    return {
        "number": actors,
        "images": done.rows,
        "seconds_start": progress.seconds_start,
        "seconds_to_first_file": progress.seconds_first,
        "busy": done.seconds_model / whole,
        "waiting": done.seconds_wait / whole,
        "seconds_write_image": done.seconds_write / max(1, done.rows),
    }


def describe(manifest: Mapping[str, Any]) -> str:
    """The account of a run in a few lines: images, masks, speed, failures by reason."""
    status, bound, actors = manifest["status"], manifest["bound_by"], manifest["actors"]
    lines = [
        f"images   {manifest['images']} ({', '.join(f'{count} {name}' for name, count in status.items() if count)})",
        f"masks    {manifest['masks']} from {manifest['prompts_decoded']} prompts"
        f" decoded of {manifest['prompts_proposed']} proposed",
        f"speed    {manifest['images_per_second']:.2f} images/s over {manifest['seconds']:.0f} s, the first"
        f" {actors['seconds_start']:.0f} to start",
        f"bound by {bound['stage']}, {bound['share']:.0%} of the time; {actors['number']} actor(s) busy"
        f" {actors['busy']:.0%}, waiting for photos {actors['waiting']:.0%}; writing"
        f" {1000 * actors['seconds_write_image']:.0f} ms an image, beside",
    ]
    failures = [f"{count} {name}" for name, count in manifest["reason"].items() if name not in ("none", "no_mask")]
    lines.append(f"not labelled  {', '.join(failures) if failures else 'none'}")
    return "\n".join(lines)


def _write(out: str, manifest: Mapping[str, Any]) -> None:
    with atomic.write_text(f"{out}/manifest.json") as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
