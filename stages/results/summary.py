"""Summarise the tables of a finished run: its manifest, its account on the terminal, its exit status."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from schemas.labels import MODEL_STAGES, PASSING, READING_STAGES, Status
from stages.corpus.others import describe_others, most_common
from stages.label.account import bound_by
from stages.label.progress import LabelProgress
from stages.results.gathered import Gathered

_PACKAGES = ("aopsam", "torch", "segment-anything", "ray", "pyarrow", "pycocotools", "numpy", "pillow")


def summarise(found: Gathered, progress: LabelProgress, actors: int, others: Mapping[str, int]) -> dict[str, Any]:
    """Return the facts of the manifest of a finished run.

    Args:
        found: what its tables hold.
        progress: progress of this run; a resumed run labelled fewer images than the tables hold.
        actors: number of actors of this run.
        others: files below the images that were not looked at, by suffix.
    """
    status, totals = found.status, found.sums
    images = status.total()
    readable = max(1, status[Status.OK] + status[Status.EMPTY])
    stages = {stage: totals[f"seconds_{stage}"] / readable for stage in ("wait", *MODEL_STAGES)}
    reading = {stage: totals[f"seconds_{stage}"] / readable for stage in READING_STAGES}
    return {
        "images": images,
        "masks": totals["masks"],
        "status": {str(key): status[key] for key in Status},
        "reason": dict(sorted(found.reason.items())),
        "failed_share": status[Status.FAILED] / max(1, images),
        "not_looked_at": most_common(others, 100),
        "prompts_proposed": int(totals["prompts_proposed"]),
        "prompts_decoded": int(totals["prompts_decoded"]),
        "stages": stages,
        "reading": reading,
        "bound_by": bound_by(stages, reading),
        "actors": _actors(progress, actors),
        "seconds": progress.seconds,
        "images_per_second": progress.done.rows / progress.seconds if progress.seconds > 0 else 0.0,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
    }


def _actors(progress: LabelProgress, actors: int) -> dict[str, Any]:
    """Return how the actors of this run spent their time, from the moment that the first one began to work."""
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
    """Return the account of a run in a few lines: images, masks, speed, failures by reason."""
    status, bound, actors = manifest["status"], manifest["bound_by"], manifest["actors"]
    lines = [
        f"images   {manifest['images']} ({', '.join(f'{count} {name}' for name, count in status.items() if count)})",
        f"masks    {manifest['masks']} from {manifest['prompts_decoded']} prompts"
        f" decoded of {manifest['prompts_proposed']} proposed",
        f"speed    {manifest['images_per_second']:.2f} images/s over {manifest['seconds']:.0f} s, the first"
        f" {actors['seconds_start']:.0f} to start",
        f"bound by {bound['stage']}, {bound['share']:.0%} of the time; {actors['number']} actor(s) busy"
        f" {actors['busy']:.0%}, waiting for photos {actors['waiting']:.0%}; writing"
        f" {1000 * actors['seconds_write_image']:.0f} ms an image while the model works on",
    ]
    failures = [f"{count} {name}" for name, count in manifest["reason"].items() if name not in ("none", "no_mask")]
    lines.append(f"not labelled  {', '.join(failures) if failures else 'none'}")
    if others := describe_others(manifest["not_looked_at"]):
        lines.append(others)
    return "\n".join(lines)


def describe_nothing_to_do(manifest: Mapping[str, Any], images: int, labels: str) -> str:
    """Return the account of a run that finds all done: how many failed, and what may be done about it."""
    line = f"nothing to do: all {images} images have their row in {labels}"
    if failed := manifest["status"].get(Status.FAILED):
        line += f"; {failed} failed"
    if passing := {name: count for name in PASSING if (count := manifest["reason"].get(name))}:
        counts = ", ".join(f"{count} {name}" for name, count in passing.items())
        line += (
            f", {sum(passing.values())} for reasons that may have passed ({counts}): --retry-failed labels these again"
        )
    others = describe_others(manifest.get("not_looked_at", {}))
    return f"{line}\n{others}" if others else line


def exit_status(summary: Mapping[str, Any], max_failed: float | None) -> int:
    """Return 3 where more failed than was accepted or nothing could be labelled, else 0.

    Args:
        summary: manifest of the run.
        max_failed: share of failed images to accept; None for any below all.
    """
    labelled = summary["status"]["ok"] + summary["status"]["empty"]
    too_many = max_failed is not None and summary["failed_share"] > max_failed
    return 3 if too_many or labelled == 0 else 0
