"""Compare two labellings of the same photos: which masks only one has, the largest differences first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aopsam.masks import rle
from aopsam.metrics.greedy import one_to_one
from aopsam.metrics.iou import iou_matrix
from aopsam.report.gallery import Choice, Columns, Item, Number, Side
from aopsam.report.page import printable
from schemas.labels import Status
from stages.results.gallery import SHOWN, GalleryWriter, about, each, last_part
from stages.results.joined import Pair, joined
from stages.results.photos_again import PhotosAgain

KINDS = ("in both", "only in A", "only in B", "another photo")

COLUMNS: Columns = (
    Choice("Photo", KINDS),
    Choice("Status of A", [*map(str, Status), "no row"]),
    Choice("Status of B", [*map(str, Status), "no row"]),
    Number("Agreement", digits=2),
    Number("In both", caption="# in both"),
    Number("Only in A", caption="# only A"),
    Number("Only in B", caption="# only B"),
)

LABELLED = (Status.OK, Status.EMPTY)


@dataclass(frozen=True)
class Difference:
    """Differences of two labellings of a photo.

    Attributes:
        name: of the photo's file.
        kind: one of `KINDS`.
        status: by each.
        partners: for each mask of each side the place of its partner on the other side and their IoU, or None.
        agreement: sum of the pairs' IoUs over all masks, a pair counted once: 1 where both have the same masks or none,
            0 where no mask has a partner or only one labelling has the photo.
    """

    name: str
    kind: str
    status: tuple[str, str]
    partners: tuple[list[tuple[int, float] | None], list[tuple[int, float] | None]]
    agreement: float

    @property
    def both(self) -> int:
        """Pairs of masks."""
        return sum(partner is not None for partner in self.partners[0])

    @property
    def only(self) -> tuple[int, int]:
        """Masks that only the one, only the other has."""
        ours, theirs = (sum(partner is None for partner in side) for side in self.partners)
        return ours, theirs

    @property
    def order(self) -> tuple[Any, ...]:
        """Return the sort key of differences: photos that one lacks, then least agreement, then most masks."""
        return KINDS.index(self.kind) == 0, self.agreement, -sum(self.only), self.name


def difference(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None, least_iou: float) -> Difference:
    """Compare the rows of a photo by two labellings, one of which may lack it.

    Masks are paired one to one by falling IoU.

    Args:
        ours, theirs: label rows.
        least_iou: of a pair.

    Raises:
        ValueError: a mask is malformed; the message names the photo.
    """
    name = next(row["file_name"] for row in (ours, theirs) if row is not None)
    status = tuple("no row" if row is None else str(row["status"]) for row in (ours, theirs))
    masks = [[] if row is None else [mask["segmentation"] for mask in row["masks"]] for row in (ours, theirs)]
    if ours is None or theirs is None:
        kind = KINDS[1] if theirs is None else KINDS[2]
    else:
        known = {row["content_sha256"] for row in (ours, theirs)} - {None}
        kind = KINDS[3] if len(known) > 1 else KINDS[0]
    partners: list[list[tuple[int, float] | None]] = [[None] * len(side) for side in masks]
    total = 0.0
    if kind == KINDS[0] and all(masks):
        try:
            for mask in masks[0] + masks[1]:
                rle.runs(mask or {})
            iou = iou_matrix(*masks)
        except ValueError as error:
            raise ValueError(f"{printable(name)}: {error}") from error
        for row, column in one_to_one(iou, least_iou):
            value = float(iou[row, column])
            partners[0][row], partners[1][column] = (column, value), (row, value)
            total += value
    n_masks = sum(partner is not None for partner in partners[0]) + sum(p is None for side in partners for p in side)
    agreement = 0.0 if kind != KINDS[0] else total / n_masks if n_masks else 1.0
    return Difference(name, kind, (status[0], status[1]), (partners[0], partners[1]), agreement)


@dataclass(frozen=True)
class Compared:
    """Differences of two labellings, the largest first, and the page that shows them, if there is one."""

    differences: Sequence[Difference]
    least_iou: float
    page: str | None

    def table(self, rows: int) -> str:
        """Return the largest differences as a table for a terminal, and a line for all."""
        lines: list[tuple[str, ...]] = [("photo", "A", "B", "both", "only A", "only B", "agreement", "")]
        lines += [_line(one) for one in self.differences[:rows]]
        widths = [max(len(line[column]) for line in lines) for column in range(8)]
        texts = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:7], widths[1:7]), line[7]]).rstrip()
            for line in lines
        ]
        both, (ours, theirs) = sum(one.both for one in self.differences), self.only
        mean = sum(one.agreement for one in self.differences) / max(1, len(self.differences))
        texts.append(
            f"{len(self.differences)} photos: {both} masks in both (IoU >= {self.least_iou:g}), {ours} only in A,"
            f" {theirs} only in B; mean agreement {mean:.3f}"
        )
        return "\n".join([*texts, f"page: {self.page}"] if self.page else texts)

    @property
    def only(self) -> tuple[int, int]:
        """Masks that only the one, only the other has, of all photos."""
        return sum(one.only[0] for one in self.differences), sum(one.only[1] for one in self.differences)


def _line(one: Difference) -> tuple[str, ...]:
    remark = "" if one.kind == KINDS[0] else one.kind
    if one.kind == KINDS[0] and one.status[0] != one.status[1]:
        remark = " / ".join(one.status)
    numbers = [str(one.both + only) for only in one.only] + [str(one.both), *map(str, one.only), f"{one.agreement:.3f}"]
    return printable(one.name), *numbers, remark


def compare_labels(
    labels: str, others: str, least_iou: float, images: str | None, out: str | None, px: int
) -> Compared:
    """Compare two labellings, and write the page that shows them side by side where `out` is given.

    Photos are the same where their paths below the images' roots are. In memory are some images' rows, and a line and
    the masks' partners for each photo.

    Args:
        labels, others: `OUT` or `OUT/labels` of a run.
        least_iou: of masks that count as the same.
        images: where the photos lie; None for what the first run's manifest says.
        out: folder of the page, or None.
        px: longer side of a photo on the page.

    Raises:
        ValueError: no labels there, a file of them cannot be read, a mask is malformed, or `out` cannot be written.
        CannotWrite: writing failed; the former page is still there.
    """
    runs = [one.rstrip("/").removesuffix("/labels") for one in (labels, others)]
    writer = GalleryWriter(out, COLUMNS, px) if out else None
    photos = PhotosAgain(runs[0], images) if out else None

    def show(pair: Pair) -> tuple[Difference, Item | None]:
        found = difference(*pair, least_iou)
        return found, _item(found, pair, writer, photos) if writer and photos else None

    shown = each(show, joined(labels, others, SHOWN))
    differences = sorted((found for found, _ in shown), key=lambda one: one.order)
    compared = Compared(differences, least_iou, None)
    if not writer:
        return compared
    title = f"{compared.only[0]:,} masks only in A, {compared.only[1]:,} only in B"
    lines = [f"{name}: {about(run)}" for name, run in zip("AB", runs, strict=True)]
    lines.append(f"The same mask: paired one to one, IoU of at least {least_iou:g}. Largest differences first.")
    sides = [f"{name} · {last_part(run)}" for name, run in zip("AB", runs, strict=True)]
    page = writer.finish([item for _, item in shown if item], title, lines, sides, back="")
    return Compared(differences, least_iou, page)


def _item(found: Difference, pair: Pair, writer: GalleryWriter, photos: PhotosAgain) -> Item:
    chosen = (found.kind, *found.status)
    readable = [row for row in pair if row is not None and row["status"] in LABELLED]
    if not readable:
        notes = [row["message"] for row in pair if row is not None]
        return Item(found.order, found.name, "", (0, 0), notes[0], (*chosen, *[None] * 4))
    row, masks = readable[0], [[] if one is None else one["masks"] for one in pair]
    size = (row["width"], row["height"])
    told = [
        ("Agreement", f"{found.agreement:.3f}"),
        ("In both", str(found.both)),
        *(("Only in " + name, str(only)) for name, only in zip("AB", found.only, strict=True)),
    ]
    for name, one in zip("AB", pair, strict=True):
        if one is not None and one["status"] in LABELLED:
            prompts = f"{one['prompts_proposed']} prompts proposed, {one['prompts_decoded']} decoded"
            told.append((name, f"{prompts}, {len(one['masks'])} masks"))
    key, note, _ = writer.photo(
        row, masks, size, lambda: [Side(*side) for side in zip(masks, found.partners, strict=True)], told, photos
    )
    return Item(found.order, found.name, key, size, note, (*chosen, found.agreement, found.both, *found.only))
