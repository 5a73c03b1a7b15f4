"""Write a gallery of labelled photos: pictures, masks and an index in files, a page that filters and pages them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from aopsam.report import gallery as pages
from aopsam.report.gallery import Choice, Columns, Drawn, Item, Number, Side
from aopsam.report.page import printable, with_gallery_link
from schemas.labels import MODEL_STAGES, Reason, Status
from stages.config.manifest import finished_manifest
from stages.results.photos_again import PhotosAgain
from stages.results.read import read_labels
from stages.storage.atomic import check_writable, write_bytes, write_text
from stages.storage.location import open_filesystem
from stages.storage.tables import list_names

PAGE = "index.html"

ORDER = (Status.EMPTY, Status.OK, Status.REJECTED, Status.FAILED)
"""The worst first: no masks, then by their mean score; at the end what could not be labelled, where nothing is seen."""

COLUMNS: Columns = (
    Choice("Status", [str(status) for status in Status]),
    Choice("Reason", [str(reason) for reason in Reason]),
    Number("Masks", caption="# masks"),
    Number("Mean score", digits=2, caption="score #"),
    Number("Largest mask, %", digits=1),
    Number("Covered, %"),
)

_READ = ["image_id", "file_name", "content_sha256", "width", "height", "status", "reason", "message", "masks"]
_COUNTS = ["prompts_proposed", "prompts_decoded", "refinements", "masks_dropped"]
_SECONDS = [f"seconds_{stage}" for stage in MODEL_STAGES]

SHOWN = [*_READ, *_COUNTS, *_SECONDS]
"""Columns of the labels that are shown of any labelling; of one alone, `trace` too."""

Shown = TypeVar("Shown")
Given = TypeVar("Given")


@dataclass(frozen=True)
class Written:
    """Result of a gallery: where its page is, and how many photos it shows."""

    page: str
    photos: int
    masks: int
    without_photo: int
    """Photos with a row of their own size that could not be read again: their masks are shown on grey."""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        line = f"{self.photos} photos, {self.masks} masks: {self.page}"
        return f"{line} ({self.without_photo} photos could not be read again)" if self.without_photo else line


def write_gallery(labels: str, images: str | None, out: str, px: int) -> Written:
    """Write the gallery of a labelling run.

    Rows are streamed; in memory are the listing, and a line of the index for each photo. Pictures are named after all
    that they are made of: the same command again draws only what is new, and photos that are the same share theirs.

    Args:
        labels: `OUT` or `OUT/labels` of a run.
        images: where the photos lie; None for what the run's manifest says.
        out: folder to write into.
        px: longer side of a photo on the page.

    Raises:
        ValueError: no labels there, a file of them cannot be read, a mask is malformed, or `out` cannot be written.
        CannotWrite: writing failed; the former gallery is still there.
    """
    run = labels.rstrip("/").removesuffix("/labels")
    photos = PhotosAgain(run, images)
    writer = GalleryWriter(out, COLUMNS, px)

    def show(row: Mapping[str, Any]) -> Item:
        return _item(row, writer, photos)

    items = each(show, (batch.to_pylist() for batch in read_labels(labels, [*SHOWN, "trace"])))
    n_masks = sum(int(item.values[2] or 0) for item in items)
    title = f"{n_masks:,} masks in {len(items):,} photos"
    back = "../report.html" if out == f"{run}/gallery" and "report.html" in list_names(run) else ""
    page = writer.finish(items, title, [about(run)], [last_part(run)], back)
    if back:
        link_report(run)
    return Written(page, len(items), n_masks, sum(bool(item.key and item.note) for item in items))


def each(show: Callable[[Given], Shown], batches: Iterable[Sequence[Given]]) -> list[Shown]:
    """Return what `show` makes of each entry, in order; a batch is in memory, and a photo for each thread."""
    made: list[Shown] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        for batch in batches:
            made += threads.map(show, batch)
    return made


def _item(row: Mapping[str, Any], writer: GalleryWriter, photos: PhotosAgain) -> Item:
    status = Status(row["status"])
    scores = [score for mask in row["masks"] if (score := score_of(mask)) is not None]
    mean = float(np.mean(scores)) if scores else None
    order = (ORDER.index(status), -1.0 if mean is None else mean, row["file_name"], row["image_id"])
    chosen = (row["status"], row["reason"])
    if status not in (Status.OK, Status.EMPTY):
        return Item(
            order,
            row["file_name"],
            "",
            (0, 0),
            row["message"].removeprefix(f"{row['reason']}: "),
            (*chosen, *[None] * 4),
        )
    size = (row["width"], row["height"])
    key, note, share = writer.photo(
        row, [row["masks"]], size, lambda: [Side(row["masks"], trace=row["trace"])], facts(row), photos
    )
    pixels = size[0] * size[1]
    largest = max(((mask["area"] or 0) / pixels for mask in row["masks"]), default=None)
    values = (
        len(row["masks"]),
        mean,
        None if largest is None else 100 * largest,
        100 * share,
    )
    traced = row["trace"]
    mapped = bool(traced and traced["maps"])
    return Item(order, row["file_name"], key, size, note, (*chosen, *values), traced is not None, mapped)


def score_of(mask: Mapping[str, Any]) -> float | None:
    """Return the learned score of a mask, or the predicted IoU where there is none; None where it is no number."""
    score = mask["predicted_iou"] if mask["score"] is None else mask["score"]
    return score if score is not None and np.isfinite(score) else None


def facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a row says of its photo, for people."""
    told = [
        ("Size", f"{row['width']} × {row['height']} px"),
        ("Prompts", f"{row['prompts_proposed']} proposed, {row['prompts_decoded']} decoded"),
        ("Masks", f"{len(row['masks'])}" + (f", {row['masks_dropped']} dropped" if row["masks_dropped"] else "")),
    ]
    if (trace := row.get("trace")) and trace["maps"]:
        told.append(("Confidence", f"up to {max(shown['highest'] or 0 for shown in trace['maps']):.2f} on the map"))
    if row["refinements"]:
        told.append(("Refined", f"{row['refinements']} prompts decoded again"))
    seconds = {name.removeprefix("seconds_"): row[name] for name in _SECONDS if row[name] is not None}
    if seconds:
        stages = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
        told.append(("Model", f"{sum(seconds.values()):.2f} s: {stages}"))
    return told


class GalleryWriter:
    """Writes the files of a gallery; the page last, so that a killed run leaves the former gallery.

    Args:
        out: folder of the gallery.
        columns: of its index.
        px: longer side of a photo.

    Raises:
        ValueError: `out` cannot be written.
    """

    def __init__(self, out: str, columns: Columns, px: int) -> None:
        check_writable(out, PAGE, "data/", "photos/")
        self.out, self.columns, self.px = out.rstrip("/"), columns, px
        self._filesystem, self._root = open_filesystem(self.out)
        self._there = set(self._listed())
        self._drawn: dict[str, tuple[str, float]] = {}

    def photo(
        self,
        row: Mapping[str, Any],
        masks: Sequence[Sequence[Mapping[str, Any]]],
        size: tuple[int, int],
        sides: Callable[[], Sequence[Side]],
        facts: Sequence[tuple[str, str]],
        photos: PhotosAgain,
    ) -> tuple[str, str, float]:
        """Write the files of a photo, unless they are there.

        Args:
            row: of the labels, by which the photo is found, with its trace if that is shown.
            masks: all masks that are shown, a list a side.
            size: width and height, px.
            sides: makes what is drawn.
            facts: of the photo.
            photos: where it is read.

        Returns:
            Its key, why the photo itself is not shown or nothing, and the share of it that the last side's masks cover.

        Raises:
            ValueError: a mask or a trace is malformed; the message names the photo.
        """
        told = [pages.DRAWN, self.px, row["content_sha256"], size, masks, facts, row.get("trace")]
        made_of = json.dumps(told, default=bytes.hex)
        key = hashlib.sha256(made_of.encode()).hexdigest()[:20]
        if key in self._drawn:
            return key, *self._drawn[key]
        try:
            share = pages.covered(masks[-1], size)
            note = "" if self._is_there(key) else self._draw(key, row, size, sides(), facts, photos)
        except ValueError as error:
            raise ValueError(f"{printable(row['file_name'])}: {error}") from error
        self._drawn[key] = note, share
        return key, note, share

    def _is_there(self, key: str) -> bool:
        return all(f"{key}{kind}" in self._there for kind in (".js", ".jpg", ".small.jpg"))

    def _draw(
        self,
        key: str,
        row: Mapping[str, Any],
        size: tuple[int, int],
        sides: Sequence[Side],
        facts: Sequence[tuple[str, str]],
        photos: PhotosAgain,
    ) -> str:
        rgb, note = None, ""
        try:
            rgb = photos.read(row)
        except ValueError as error:
            note = str(error)
        drawn = pages.draw_photo(rgb, size, sides, facts, self.px, key)
        for kind, data in _files(drawn):
            write_bytes(f"{self.out}/photos/{key[:2]}/{key}{kind}", data)
        return note

    def finish(self, items: Sequence[Item], title: str, lines: Sequence[str], sides: Sequence[str], back: str) -> str:
        """Write the index, the worst first, and the page, whose place is returned; remove what an earlier one had."""
        items = sorted(items, key=lambda item: item.order)
        scripts = list(pages.index_scripts(items, self.columns))
        stamp = hashlib.sha256("".join(scripts).encode()).hexdigest()[:12]
        names = [f"rows-{stamp}-{number:05d}.js" for number in range(len(scripts))]
        told = pages.contents(items, self.columns, names, sides)
        texts = dict(zip(names, scripts, strict=True))
        first, program = pages.call("aopsam.contents", told), pages.gallery_script()
        contents, script = (f"{kind}-{_digest(text)}.js" for kind, text in (("contents", first), ("gallery", program)))
        texts |= {contents: first, script: program}
        for name, text in texts.items():
            write_bytes(f"{self.out}/data/{name}", text.encode())
        path = f"{self.out}/{PAGE}"
        with write_text(path) as opened:
            opened.write(pages.gallery_html(title, lines, told, contents, script, back))
        self._remove_all_but(set(texts))
        return path

    def _remove_all_but(self, data: set[str]) -> None:
        for name in set(list_names(f"{self.out}/data")) - data:
            self._filesystem.rm_file(f"{self._root}/data/{name}")
        for name in self._there:
            if name.partition(".")[0] not in self._drawn:
                self._filesystem.rm_file(f"{self._root}/photos/{name[:2]}/{name}")

    def _listed(self) -> list[str]:
        """Return the names of pictures and masks that an earlier gallery left."""
        folder = f"{self._root}/photos"
        self._filesystem.invalidate_cache()
        found = self._filesystem.find(folder) if self._filesystem.isdir(folder) else []
        return [str(path).rpartition("/")[2] for path in found]


def _files(drawn: Drawn) -> Iterator[tuple[str, bytes]]:
    """Yield the endings and contents of a photo's files."""
    yield ".small.jpg", drawn.small
    if drawn.large is not None:
        yield ".jpg", drawn.large
    yield ".js", drawn.script.encode()


def link_report(run: str) -> None:
    """Let a run's report name its gallery."""
    filesystem, root = open_filesystem(run)
    before = filesystem.cat_file(f"{root}/report.html").decode()
    after = with_gallery_link(before)
    if after != before:
        with write_text(f"{run}/report.html") as opened:
            opened.write(after)


def about(run: str) -> str:
    """Return what made the labels, in a line."""
    configuration = (finished_manifest(run) or {}).get("configuration", {})
    if not isinstance(configuration.get("sam"), str):
        return f"labels of {last_part(run)}"
    return f"labels of {last_part(run)} · {configuration['sam']} with {configuration.get('prompts')} prompts"


def last_part(uri: str) -> str:
    """Return the last part of a path or URI; it has no credentials."""
    return uri.rstrip("/").rpartition("/")[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
