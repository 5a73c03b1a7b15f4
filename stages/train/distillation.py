"""Build the distillation of a light encoder from photos anywhere, in any process."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from aopsam._half_weights import save_half
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.sam.registry import load_sam
from aopsam.training.distillation import DecoupledTask
from aopsam.training.sami import SamiRecipe, SamiTask
from aopsam.training.student import StudentRecipe, StudentTask, build_student, share_decoder
from stages.annotations.held_out import held_out_ids, listed_id
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from stages.corpus.others import describe_others
from stages.storage.atomic import write_bytes, write_path
from stages.storage.fetched import local_file
from stages.storage.location import open_filesystem, redact

COLUMNS = ("path", "kind", "offset", "length", "bytes", "uri", "file_name")
JUDGED = 16
"""Most held-out photos to validate on."""


@dataclass(frozen=True)
class DistillationJob:
    """Configuration of a distillation: photos, recipe and weights.

    Attributes:
        data: whatever `stages.corpus.listing.list_images` lists, reachable from every worker; annotations are not read.
        recipe: hyper-parameters; a `SamiRecipe` for SAMI.
        out: folder or URI of the run.
        checkpoint: file of the teacher's weights, on every node, where not the bundled or official one.
        start: file of the student's weights to begin with.
    """

    data: tuple[str, ...]
    recipe: StudentRecipe
    out: str
    checkpoint: str | None = None
    start: str | None = None


class ListedPhotos:
    """Photos of a listing, fetched and decoded when they are asked for.

    A photo that cannot be read is noted in a small file below `out`/left_out, since the processes that read have no
    other way to report it; the same photo is noted once.
    """

    def __init__(self, rows: pa.Table, sources: tuple[str, ...], out: str) -> None:
        self._rows, self._sources, self._out = rows, sources, out

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __getitem__(self, number: int) -> np.ndarray:
        """Read and decode a photo, (H, W, 3) uint8.

        Raises:
            ValueError: the photo cannot be read.
        """
        row = self._rows.slice(number, 1).to_pylist()[0]
        try:
            return open_photo(fetch(row, self._sources[row["source"]])).rgb
        except (FetchError, PhotoError) as error:
            name = hashlib.sha256(row["uri"].encode()).hexdigest()[:32]
            line = f"{row['uri']}: {error}"
            write_bytes(f"{self._out.rstrip('/')}/left_out/{name}.txt", line.encode())
            raise ValueError(line) from error


def left_out(out: str) -> list[str]:
    """Return a line for each photo that a run could not read, sorted by name."""
    filesystem, path = open_filesystem(f"{out.rstrip('/')}/left_out")
    if not filesystem.isdir(path):
        return []
    return sorted(filesystem.cat_file(file).decode() for file in filesystem.ls(path, detail=False))


def distillation_task(job: DistillationJob, on_problem: Callable[[str], None] = lambda line: None) -> StudentTask:
    """Build the student's training task; photos that `stages.annotations.held_out` holds out are not trained on.

    Args:
        job: configuration of the distillation.
        on_problem: called with one line for each row of the listing that cannot be a photo.

    Raises:
        ValueError: no such data, or weights that do not fit.
    """
    recipe = job.recipe
    teacher = load_sam(recipe.teacher, local_file(job.checkpoint))
    recipe = replace(recipe, teacher_sha256=teacher.sha256)
    if job.start is None:
        student = build_student(recipe.student, recipe.seed)
    else:
        student = load_sam(recipe.student, local_file(job.start))
        recipe = replace(recipe, start_sha256=student.sha256)
    share_decoder(student, teacher)
    rows = _list(job, on_problem)
    ids = [listed_id(name) for name in rows.column("file_name").to_pylist()]
    held_out_names = held_out_ids(ids)
    apart = pa.array([name in held_out_names for name in ids], pa.bool_())
    photos = ListedPhotos(rows.filter(pc.invert(apart)), job.data, job.out)
    held_out = _some(ListedPhotos(rows.filter(apart), job.data, job.out))
    if isinstance(recipe, SamiRecipe):
        return SamiTask(recipe, teacher, student, photos, held_out)
    return DecoupledTask(recipe, teacher, student, photos, held_out)


def _list(job: DistillationJob, on_problem: Callable[[str], None]) -> pa.Table:
    """List the rows of all sources that may be photos, with the number of their source."""
    tables = []
    for number, source in enumerate(job.data):
        exclude, others = job.out if "://" not in job.out else None, Counter[str]()
        rows = list_images(source, exclude, others).select(COLUMNS)
        if others:
            on_problem(f"{redact(source)}: {describe_others(others)}")
        tables.append(rows.append_column("source", pa.array([number] * rows.num_rows, pa.int32())))
    table = pa.concat_tables(tables)
    usable = pc.is_in(table.column("kind"), pa.array(["file", "tar", "parquet"]))
    for row in table.filter(pc.invert(usable)).to_pylist():
        try:
            fetch(row, job.data[row["source"]])
        except FetchError as error:
            on_problem(f"{row['uri']}: {error}")
    return table.filter(usable)


def _some(photos: ListedPhotos) -> Iterator[np.ndarray]:
    """Yield up to `JUDGED` photos, evenly taken."""
    for number in np.unique(np.linspace(0, len(photos) - 1, JUDGED).round().astype(int)) if len(photos) else ():
        try:
            yield photos[int(number)]
        except ValueError:
            continue


def finish_student(task: StudentTask, weights: Mapping[str, torch.Tensor], uri: str, method: str) -> None:
    """Write a student with its teacher's decoder and thresholds.

    Args:
        task: the training task; its student takes the weights.
        weights: weights of the image encoder.
        uri: path or fsspec URI of the file.
        method: how it was distilled, for the metadata.
    """
    task.student.image_encoder.load_state_dict(weights)
    facts = {"method": method, "photos": str(len(task.photos)), "recipe": json.dumps(asdict(task.recipe))}
    facts |= {"teacher": task.recipe.teacher, "teacher_sha256": task.recipe.teacher_sha256}
    thresholds = {name: str(value) for name, value in asdict(task.teacher.thresholds).items()}
    with write_path(uri) as path:
        save_half(task.student, path, thresholds | facts)
