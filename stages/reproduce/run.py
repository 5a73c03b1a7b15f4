"""Evaluate what the papers' tables need, each strategy once on each data set, in OUT/ROLE."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow.compute as pc

from stages.annotations.job import PhotoJob
from stages.engine.resources import Resources
from stages.evaluate.actor import EvaluatePhotos, Evaluation
from stages.evaluate.output import metrics_of, write_evaluation
from stages.evaluate.run import list_sources, measure, prepare_evaluation
from stages.evaluate.summary import summarise
from stages.reproduce.tables import ROLES, PaperTable, strategies_of
from stages.storage.location import absolute


@dataclass(frozen=True)
class RoleRun:
    """Evaluation of one data set, checked before the first photo.

    Attributes:
        role: key of ROLES.
        evaluation: model and strategies.
        job: of `stages.evaluate.run.prepare_evaluation`.
        weights: of `EvaluatePhotos.weights`.
    """

    role: str
    evaluation: Evaluation
    job: PhotoJob
    weights: Mapping[str, Any]


def data_by_role(words: Sequence[str]) -> dict[str, str]:
    """Read `ROLE=URI` words.

    Raises:
        ValueError: one that is not, an unknown role, or a role named twice.
    """
    data: dict[str, str] = {}
    for word in words:
        role, equals, uri = word.partition("=")
        if not equals or not uri or role not in ROLES:
            raise ValueError(f"--data {word}: expected ROLE=URI, ROLE one of {', '.join(ROLES)}")
        if role in data:
            raise ValueError(f"--data {word}: {role} is given twice")
        data[role] = absolute(uri)
    return data


def prepare_roles(
    tables: Sequence[PaperTable],
    data: Mapping[str, str],
    evaluation: Evaluation,
    limit: int | None,
    out: str,
) -> list[RoleRun]:
    """Check everything before the first photo; write nothing.

    Args:
        tables: to be filled.
        data: role → URI.
        evaluation: model, weights and seed; the strategies come from the tables.
        limit: photos of each data set, the first ones; None for all.
        out: folder or URI, without a slash at its end.

    Raises:
        ValueError: no photos there, none of the tables is of this data, or OUT is another run's.
        OSError: weights that cannot be read.
    """
    runs = []
    for role, uri in data.items():
        if specs := strategies_of(tables, evaluation.sams[0], role):
            of_role = replace(evaluation, strategies=tuple(specs))
            weights = EvaluatePhotos(of_role).weights()
            job = prepare_evaluation(list_sources([uri], limit), of_role, weights, f"{out}/{role}")
            runs.append(RoleRun(role, of_role, job, weights))
    if not runs:
        raise ValueError(f"none of the tables is of {', '.join(data)}; theirs is --data {_needed(tables)}")
    return runs


def _needed(tables: Sequence[PaperTable]) -> str:
    return " ".join(f"{role}=URI" for role in dict.fromkeys(role for table in tables for role in table.roles))


def evaluate_role(
    run: RoleRun, resources: Resources, max_seconds: float, max_failed: float | None
) -> tuple[list[dict[str, Any]], int]:
    """Measure the photos of a data set that are not yet, and write its evaluation.

    Returns:
        Entries of `stages.evaluate.summary.summarise`, none where no photo could be measured; and the exit status of
        `Done.exit_status`.
    """
    began, evaluation = time.monotonic(), run.evaluation
    print(f"{ROLES[run.role]}: {len(evaluation.strategies)} strategies", flush=True)
    done, results = measure(run.job, evaluation, dict(run.weights), resources, max_seconds)
    status = done.exit_status(max_failed)
    if not done.used:
        print(f"{ROLES[run.role]}: no photo could be measured", flush=True)
        return [], status
    facts = {"weights": dict(run.weights), "seconds": time.monotonic() - began, "resources": asdict(resources)}
    write_evaluation(results, evaluation.strategies, facts, run.job.out, evaluation.seed)
    run.job.finish(done)
    is_measured = pc.not_equal(results.column("metric"), "failed")
    names = [spec.text for spec in evaluation.strategies]
    return summarise(metrics_of(results.filter(is_measured)), names, evaluation.seed), status
