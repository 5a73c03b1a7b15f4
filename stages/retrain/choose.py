"""Choose which of the new photos the teacher labels, without near-duplicates, and copy them into the run's folder.

A copy is what the labels, the maps and the lineage are of, whatever becomes of the corpus meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aopsam.photos.sa1b import Sample
from schemas.curation import SCHEMA, Reason
from schemas.lineage import Use
from stages.annotations.job import PhotoJob, status_of
from stages.annotations.samples import ReadSamples, Source
from stages.corpus.fetch import FetchError, fetch_each
from stages.corpus.names import Role, role
from stages.curate.actor import DESCRIPTIONS, DescribePhotos, DescriptionRecipe
from stages.curate.choice import Keep, curate, usable_descriptions
from stages.curate.output import write_curation
from stages.retrain.find import Found, new_files
from stages.retrain.job import FOUND, Means, RetrainJob, accept
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.storage.location import redact
from stages.storage.tables import list_names

CHOSEN = "chosen"
"""Folder of a run with the photos that the teacher labels."""

PHOTOS_A_TAR, PHOTOS_A_PART = 256, 16


@dataclass(frozen=True)
class ReadNew(ReadSamples):
    """Reader of files of new photos (`stages.retrain.find`): samples whose id is the digest of the photo.

    Attributes:
        corpus: as it was listed; it may hold credentials.
    """

    corpus: str = ""

    def _photos(self, source: Source, problems: list[dict[str, Any]]) -> Iterator[tuple[str, Sample]]:
        for uri in source.shards:
            about = {"source": source.name, "shard": redact(uri)}

            def report(line: str, about: dict[str, str] = about) -> None:
                problems.append(about | {"problem": line})

            with open(local_file(uri), "rb") as file:  # noqa: PTH123
                rows = pq.read_table(file)
            for name, photo in _contents(rows, self.corpus, report):
                yield about["shard"], Sample(name, photo, 0, 0, [])


def _contents(rows: pa.Table, corpus: str, on_problem: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    """Yield digest and content of new photos; those that are gone, or others by now, are left out."""
    listed = rows.to_pylist()
    for row, read in zip(listed, fetch_each(listed, corpus), strict=True):
        try:
            photo = read()
        except FetchError as error:
            on_problem(f"{row['uri']}: {error}")
            continue
        if hashlib.sha256(photo).hexdigest() != row["content_sha256"]:
            on_problem(f"{row['uri']}: has changed since it was found")
            continue
        yield row["content_sha256"], photo


def choose_photos(job: RetrainJob, found: Found, means: Means) -> pa.Table:
    """Curate the new photos: at most --keep of them, as unlike each other as may be.

    Returns:
        Table of schemas/curation.py, whose ids are digests of photos; without a row where none is new.
    """
    if not found.new.num_rows:
        return SCHEMA.empty_table()
    out, folder = f"{job.run}/curation", f"{job.run}/{FOUND}"
    sources = [Source(name, (f"{folder}/{name}",)) for name in new_files(found.new.num_rows)]
    configuration = {"inputs_sha256": found.inputs_sha256}
    work = PhotoJob(out, sources, ReadNew(PHOTOS_A_PART, corpus=job.corpus), DESCRIPTIONS, configuration)
    work.check()
    if work.finished() is None:
        settings, on, seed = job.settings, means.resources, job.settings.recipe.seed
        recipe = DescriptionRecipe(settings.sam, settings.checkpoint, on.device, on.threads, annotated=False)
        done = work.run(partial(DescribePhotos, recipe), on, means.max_seconds)
        accept("new photos", status_of(done.photos, done.failed, means.max_failed))
        descriptions, _ = usable_descriptions(done.tables)
        write_curation(out, descriptions, curate(descriptions, Keep(images=settings.keep), seed), seed)
        work.finish(done)
    with open(local_file(f"{out}/curation.parquet"), "rb") as file:  # noqa: PTH123
        curation = pq.read_table(file)
    print(f"{pc.sum(curation['chosen']).as_py()} of {found.new.num_rows} new photos are chosen", flush=True)
    return curation


def copy_chosen(job: RetrainJob, found: Found, curation: pa.Table) -> str | None:
    """Copy the chosen photos into tars of the run's folder, where they are not yet; return it, None without any.

    Each is named by its digest.
    """
    chosen = curation.filter(curation["chosen"])["image_id"]
    rows = found.new.filter(pc.is_in(found.new["content_sha256"], chosen))
    if not rows.num_rows:
        return None
    folder = f"{job.run}/{CHOSEN}"
    there = set(list_names(folder))
    for start in range(0, rows.num_rows, PHOTOS_A_TAR):
        name = f"photos-{start // PHOTOS_A_TAR:05d}.tar"
        if name not in there:
            _write_tar(f"{folder}/{name}", rows.slice(start, PHOTOS_A_TAR), job.corpus)
    return folder


def _write_tar(uri: str, rows: pa.Table, corpus: str) -> None:
    suffixes = {row["content_sha256"]: _suffix(row["file_name"]) for row in rows.to_pylist()}
    with write_path(uri) as path, tarfile.open(path, "w") as tar:
        for name, photo in _contents(rows, corpus, lambda line: print(f"left out: {line}", file=sys.stderr)):
            member = tarfile.TarInfo(f"{name}{suffixes[name]}")
            member.size = len(photo)
            tar.addfile(member, io.BytesIO(photo))


def _suffix(file_name: str) -> str:
    """Return a photo's suffix; `.jpg` for names without, whose content tells what they are."""
    suffix = PurePosixPath(file_name).suffix.lower()
    return suffix if role(suffix.encode()) is Role.PHOTO else ".jpg"


def lineage_of(job: RetrainJob, found: Found, curation: pa.Table) -> list[dict[str, object]]:
    """Return rows of schemas/lineage.py: what a version was made of, and what it need not see again."""
    reasons = dict(zip(curation["image_id"].to_pylist(), curation["reason"].to_pylist(), strict=True))
    of = dict(zip(curation["image_id"].to_pylist(), curation["duplicate_of"].to_pylist(), strict=True))
    rows: list[dict[str, object]] = []
    for row in found.new.select(["content_sha256", "file_name"]).to_pylist():
        name = row["content_sha256"]
        reason = reasons.get(name)
        use = Use.UNUSABLE if reason is None else Use.LEARNT
        if reason == Reason.NOT_NEEDED or (reason == Reason.DUPLICATE and reasons[of[name]] != Reason.CHOSEN):
            continue  # may be chosen by a later run
        if reason == Reason.DUPLICATE:
            use = Use.DUPLICATE
        rows.append({"content_sha256": name, "source": "corpus", "image_id": row["file_name"], "use": use})
    for number, table in found.annotated.items():
        source = redact(job.settings.sources[number].uri)
        for row in table.filter(table["chosen"]).drop_columns(["chosen"]).to_pylist():
            rows.append({**row, "source": source, "use": Use.LEARNT})
    return rows
