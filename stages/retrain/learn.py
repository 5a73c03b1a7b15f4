"""From chosen photos and annotated sources to weights: labels of the teacher, prompt maps, training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pyarrow.compute as pc

from aopsam.training.calibration import median_prompts
from aopsam.training.predictor import PredictorTask, confidence_maps
from stages.config.strategy_spec import PREDICTOR
from stages.label.job import LabelJob
from stages.prompt_maps.recipe import MapRecipe
from stages.prompt_maps.run import build_maps, prepare_maps
from stages.prompt_maps.sheet import write_sheet
from stages.registry.reference import open_predictor
from stages.registry.versions import WEIGHTS
from stages.results.finish import finish_run
from stages.results.summary import describe, exit_status
from stages.retrain.find import Found
from stages.retrain.job import FOUND, Means, RetrainJob, accept
from stages.storage.errors import RunFailed
from stages.storage.location import redact
from stages.storage.tables import list_names
from stages.train.arguments import PROMPTS, SAMPLING, TrainingArguments
from stages.train.on_ray import train_on_ray
from stages.train.predictor import PredictorJob, finish_predictor, predictor_task


def label_photos(job: RetrainJob, photos: str | None, means: Means) -> str | None:
    """Label photos by the teacher, where they are not yet; return the folder of the labels, None without photos."""
    if photos is None:
        return None
    labelling = LabelJob.prepare(job.teacher(), photos, f"{job.run}/teacher", means.resources.threads)
    if (finished := labelling.finished()) is not None:
        summary = finished[0]
    else:
        labelling.begin()
        progress = labelling.label(means.resources, None, means.max_seconds)
        summary, _ = finish_run(labelling, progress, means.resources.actors)
        print(describe(summary), flush=True)
    accept("teacher", exit_status(summary, means.max_failed))
    print(f"labelled: {summary['images']} photos", flush=True)
    return labelling.out


def build_all_maps(job: RetrainJob, found: Found, photos: str | None, labels: str | None, means: Means) -> list[str]:
    """Build the prompt maps of labels and annotated sources, where they are not yet; return the folders with some."""
    settings = job.settings
    recipe = MapRecipe(sam=settings.sam, checkpoint=settings.checkpoint, mirror=settings.mirror)
    made: list[tuple[str, str, str | None, MapRecipe]] = []
    if labels is not None:
        made.append(("teacher", labels, None, recipe))
    for number, source in enumerate(settings.sources):
        if pc.any(found.annotated[number]["chosen"]).as_py():
            chosen = f"{job.run}/{FOUND}/annotated-{number}.parquet"
            own = replace(recipe, weight=source.weight, sparse=source.sparse)
            made.append((f"annotated-{number}", source.uri, chosen, own))
    folders = []
    for name, data, only, own in made:
        out = f"{job.run}/maps/{name}"
        work = prepare_maps([data], photos if name == "teacher" else None, only, own, out)
        if (manifest := work.finished()) is None:
            done = build_maps(work, own, means.resources, means.max_seconds)
            if done.used:
                write_sheet(out)
            work.finish(done)
            photos_used = done.used
        else:
            photos_used = manifest["photos"] - manifest["failed"]
        print(f"maps: {photos_used} photos, {name}", flush=True)
        folders += [out] if photos_used else []
    return folders


def train(job: RetrainJob, folders: Sequence[str], means: Means) -> str:
    """Train on from the weights used until now, where that is not done; return the folder of the new ones.

    The sampling threshold is chosen for as many prompts as the old predictor has on the same held-out photos.

    Raises:
        RunFailed: there are no maps to train on, or too few.
    """
    out = f"{job.run}/predictor"
    if WEIGHTS not in list_names(out):
        _train(job, folders, means, out)
    print(f"trained: {redact(out)}/{WEIGHTS}", flush=True)
    return out


def _train(job: RetrainJob, folders: Sequence[str], means: Means, out: str) -> None:
    before, settings = job.before(), job.settings
    start = None if before is None else str(before.options[PREDICTOR])
    training = PredictorJob(
        tuple(folders), settings.recipe, SAMPLING, PROMPTS, checkpoint=settings.checkpoint, start=start
    )
    try:
        task = predictor_task(training)
    except ValueError as error:
        raise RunFailed(str(error)) from error
    training = replace(training, prompts=_prompts(task, start))
    arguments = TrainingArguments(out=out, workers=settings.workers, threads=means.resources.threads)
    weights = train_on_ray("retrain", partial(predictor_task, training), task, arguments)
    assert weights is not None
    finish_predictor(training, task, weights, f"{out}/{WEIGHTS}")


def _prompts(task: PredictorTask, start: str | None) -> int:
    old = open_predictor(start)
    if old is None or task.held_out is None:
        return PROMPTS
    return median_prompts(confidence_maps(old, task.held_out), old.sampling)
