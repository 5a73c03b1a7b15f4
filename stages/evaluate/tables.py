"""Fill the tables of the papers from the entries of one run, for OUT/table.md. `LAYOUTS` lists the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aopsam.metrics import SIZES
from aopsam.report.evaluation_page import Table
from stages.config.strategy_spec import StrategySpec, find_sweeps
from stages.evaluate.compare import GROUND_TRUTH_PROMPTS

Entry = Mapping[str, Any]
"""Entry of one data × model × strategy, of `stages.evaluate.summary.summarise`."""


@dataclass(frozen=True)
class Column:
    """Column of a table: its head, and a function from an entry to the cell's text; None becomes `–`."""

    head: str
    cell: Callable[[Entry], str | None]


@dataclass(frozen=True)
class Layout:
    """A table to fill.

    Attributes:
        title: title of the table.
        mirrors: the papers' tables of that layout.
        rows: function from all strategies of the run to those in the table, in their order.
        columns: columns of one data.
        side_by_side: True for one table with the columns of all data, as in the papers; False for a table a data.
        least: fewest strategies for which there is such a table.
        published: the papers' own figures, to compare; they are of other weights, photos and machines.
    """

    title: str
    mirrors: str
    rows: Callable[[Sequence[StrategySpec]], list[StrategySpec]]
    columns: tuple[Column, ...]
    side_by_side: bool = False
    least: int = 1
    published: str = ""


def percent(metric: str, head: str, interval: bool = False) -> Column:
    """Make the column of a quality over all masks, in percent, with its 95 % interval or without."""
    return Column(head, lambda entry: _estimate(entry[metric]["over_masks"], ".1f", interval))


def points(metric: str, head: str) -> Column:
    """Make the column of a quality's paired difference to the first strategy's, in points, with its 95 % interval."""
    return Column(head, lambda entry: _estimate(entry[metric]["difference"], "+.1f", True))


def number(key: str, head: str, spec: str, factor: float = 1) -> Column:
    """Make the column of a mean over photos, times `factor`."""
    return Column(head, lambda entry: None if entry.get(key) is None else format(entry[key] * factor, spec))


def _estimate(estimate: Mapping[str, float] | None, spec: str, interval: bool) -> str | None:
    if estimate is None:
        return None
    mean, low, high = (format(100 * estimate[name], spec) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if interval else mean


def _all(specs: Sequence[StrategySpec]) -> list[StrategySpec]:
    return list(specs)


def _of_ground_truth(specs: Sequence[StrategySpec]) -> list[StrategySpec]:
    return [spec for spec in specs if spec.name in GROUND_TRUTH_PROMPTS]


def _others(specs: Sequence[StrategySpec]) -> list[StrategySpec]:
    """Return the strategies of another name than the first's, without those that ask the ground truth."""
    return [spec for spec in specs if spec.name not in (specs[0].name, *GROUND_TRUTH_PROMPTS)]


def _of_equal(entry: Entry, key: str) -> str | None:
    found = entry["at_equal_prompts"]
    if found is None:
        return None
    return _estimate(found[key], "+.1f", True) if key == "gain" else format(found[key], ".1f")


def _parts_of_aop(specs: Sequence[StrategySpec]) -> list[StrategySpec]:
    parts = {"adaptive_sampling", "adaptive_filtering", "elimination"}
    return [spec for spec in specs if spec.name == "aop" and spec.options.keys() <= parts]


def _after_decoding(specs: Sequence[StrategySpec]) -> list[StrategySpec]:
    """Return the strategies that decode the same prompts as another one and differ after decoding."""
    return [spec for spec in specs if any(_prompts_of(spec) == _prompts_of(other) and spec != other for other in specs)]


def _prompts_of(spec: StrategySpec) -> tuple[str, dict[str, Any]]:
    return spec.name, spec.strategy_options


MIOU, GAIN = percent("miou", "mIoU", True), points("miou", "vs first")
DECODED, KEPT = number("prompts_decoded", "#P", ".1f"), number("masks_kept", "kept", ".1f")
PROMPT, DECODE = number("seconds_prompt", "prompt s", ".3f"), number("seconds_decode", "decode s", ".3f")
MEMORY = number("peak_memory", "memory MB", ".0f", 1e-6)
RECALL = tuple(
    percent(f"ar_{most}" + (f"_{size}" if size else ""), f"{head} {size or 'all'}")
    for most, head in ((1000, "AR@1000"), (100, "AR@100"), (10, "AR@10"))
    for size in ("", *SIZES)
)

LAYOUTS = (
    Layout(
        "Prompt strategies",
        "AoP-SAM, Table 1; Efficient SAM2, Tables 1, 2, 4, 5, 6",
        _all,
        (MIOU, GAIN, PROMPT, MEMORY, DECODED, KEPT),
        side_by_side=True,
        published="mIoU of ViT-H on SA-1B, COCO, LVIS: AMG 16² 40.8, 63.3, 64.9; AMG 32² 66.8, 69.5, 71.0; OAS (box) "
        "66.9, 64.1, 63.3; OAS (centre) 68.3, 65.1, 63.0; AoP 70.6, 70.1, 71.9. IoU of Hiera-L on COCO, "
        "LVIS, SA-1B: grid 32² 45.6, 41.2, 49.7; attention, low latency 60.5, 54.3, 41.7, high quality "
        "66.4, 61.0, 57.3",
    ),
    Layout(
        "Prompts of the ground truth",
        "one prompt a mask: the best of three masks by true IoU, and those that the model itself would choose, which"
        " are the only ones where there are options",
        _of_ground_truth,
        (
            *(MIOU, percent("miou_predicted", "by predicted IoU", True), percent("miou_score", "by score", True)),
            number("predicted_iou_pearson", "predicted IoU ~ IoU", ".2f"),
            number("score_pearson", "score ~ IoU", ".2f"),
        ),
    ),
    Layout(
        "At equal prompts",
        "the first strategy's kind against each other one: the one of it that decodes most without decoding more",
        _others,
        (
            *(DECODED, percent("miou", "mIoU")),
            Column("against", lambda entry: entry["at_equal_prompts"] and entry["at_equal_prompts"]["prompts"]),
            Column("its #P", lambda entry: _of_equal(entry, "prompts_decoded")),
            Column("higher by", lambda entry: _of_equal(entry, "gain")),
        ),
    ),
    Layout(
        "Parts of aop",
        "AoP-SAM, Table 2",
        _parts_of_aop,
        (MIOU, GAIN, PROMPT, MEMORY, number("prompts_proposed", "proposed", ".1f"), DECODED),
        side_by_side=True,
        least=2,
        published="mIoU and #P of ViT-H on SA-1B, COCO, LVIS: predictor alone 57.2 at 106, 67.9 at 70, 60.9 at 61; "
        "with Adaptive Sampling 72.8 at 120, 70.5 at 98, 71.7 at 98; with filtering, too, 71.3 at 108, 70.1 "
        "at 91, 71.9 at 90",
    ),
    Layout(
        "After decoding",
        "Efficient SAM2, Table 3",
        _after_decoding,
        (MIOU, GAIN, DECODED, KEPT, number("seconds_filter", "filter s", ".3f"), number("seconds", "s/photo", ".2f")),
        least=2,
        published="IoU of Hiera-L on COCO: grid with NMS 46.6, merged 47.0; attention with NMS 66.2, merged 66.9",
    ),
    Layout(
        "Time and memory",
        "AoP-SAM, Table 4; MobileSAMv2, Table 2",
        _all,
        (
            *(number(f"seconds_{name}", f"{name} s", ".3f") for name in ("open", "encode")),
            *(PROMPT, DECODE),
            *(number(f"seconds_{name}", f"{name} s", ".3f") for name in ("filter", "rle")),
            number("seconds", "s/photo", ".2f"),
            number("images_per_second", "photos/s", ".2f"),
            *(MEMORY, number("peak_memory_most", "at most MB", ".0f", 1e-6)),
        ),
        published="prompts of MobileSAM on a Jetson Orin Nano: AoP 0.65 to 0.84 s and 42 MB, OAS 0.99 to 1.32 s and "
        "780 MB. Prompts and masks of ViT-H: grid 32² 1.616 s, 64² 6.464 s, 320 boxes 0.097 s",
    ),
    Layout(
        "Object proposals",
        "MobileSAMv2, Tables 3, 4, 5",
        _all,
        (percent("ar_1000", "AR@1000", True), *RECALL[1:]),
        published="AR@1000 all, small, medium, large of ViT-H on LVIS: grid 64² 59.2, 46.6, 78.7, 82.4; 32² 57.2, "
        "42.9, 79.2, 83.6; 320 boxes 59.3, 47.9, 77.1, 79.9. Boxes with TinyViT 51.1, with EfficientViT-L2 "
        "56.3",
    ),
    Layout(
        "Instance segmentation",
        "EfficientSAM, and Adaptive Mask Refinement, Tables I and II; AP of one class, at most 100 masks a photo",
        _all,
        (
            *(percent("miou", "mIoU"), percent("ap", "AP", True), points("ap", "AP vs first")),
            *(percent(f"ap_{size}", f"AP {size}") for size in reversed(SIZES)),
            percent("boundary_f", "boundary F", True),
            *(DECODED, number("refinements", "refined", ".1f"), number("seconds", "s/photo", ".2f")),
        ),
        published="mIoU and AP on COCO, asked at ground truth: EfficientSAM-Ti 69.0, 45.2, refined 75.6, 54.7; "
        "EfficientSAM-S 70.7, 45.2, refined 75.2, 52.8",
    ),
    Layout(
        "Readings of mIoU",
        "of each ground-truth mask's best match over all masks, or by photo; of each prediction; of pairs",
        _all,
        (
            MIOU,
            Column("by photo", lambda entry: _estimate(entry["miou"]["over_photos"], ".1f", True)),
            percent("miou_per_prediction", "per prediction", True),
            percent("miou_one_to_one", "one to one", True),
        ),
    ),
)
"""Layouts of the tables, in the order of table.md."""
SWEEP = Layout(
    "Sweep",
    "AoP-SAM, Table 3; MobileSAMv2, Table 7",
    _all,
    (MIOU, GAIN, *RECALL[:4], PROMPT, DECODE, DECODED, number("dropped_share", "dropped %", ".1f", 100)),
)
"""Layout of the table of one option's values (`stages.config.strategy_spec.find_sweeps`)."""


def facts_of(entries: Sequence[Entry], specs: Sequence[StrategySpec]) -> list[str]:
    """Return lines that explain the tables' figures: photos, masks, units, intervals."""
    names = short_names([entry["data"] for entry in entries])
    sizes = {names[entry["data"]]: (entry["photos"], entry["ground_truths"]) for entry in entries}
    return [
        *(f"{data}: {photos:,} photos, {masks:,} ground-truth masks" for data, (photos, masks) in sizes.items()),
        f"In percent, [95 % interval, bootstrap over photos]; vs first: in points, paired, to {specs[0].text}.",
        "#P: prompts decoded on a photo. Memory: at the peak beyond what was in use, without encoding the photo.",
    ]


def fill(entries: Sequence[Entry], specs: Sequence[StrategySpec]) -> list[Table]:
    """Fill the papers' tables with the entries of `summarise`; tables that the run has no rows for are left out.

    Args:
        entries: entries of all data, models and strategies.
        specs: strategies; the others are compared to the first.
    """
    wanted = [(layout, layout.title, layout.rows(specs)) for layout in LAYOUTS]
    wanted += [(SWEEP, f"Sweep of {title}", list(chosen)) for title, chosen in find_sweeps(specs).items()]
    names = short_names([entry["data"] for entry in entries])
    tables: list[Table] = []
    for layout, title, chosen in wanted:
        if len(chosen) >= layout.least and entries:
            strategies = [spec.text for spec in chosen]
            groups = [list(names)] if layout.side_by_side else [[data] for data in names]
            tables += [_table(layout, title, entries, strategies, group, names) for group in groups]
            if layout.published:
                note = f"Published, with other weights, photos and machines: {layout.published}."
                tables[-1] = replace(tables[-1], note=note)
    return tables


def markdown(lines: Sequence[str], tables: Sequence[Table]) -> str:
    """Return facts and tables as Markdown with aligned columns."""
    parts = ["\n".join(f"- {line}" for line in lines)]
    for table in tables:
        parts += [f"### {table.title}", f"({table.about})", _aligned(table), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def short_names(data: Sequence[str]) -> dict[str, str]:
    """Shorten each name to its last parts: as many as make the names distinct, and at least two."""
    distinct, parts = list(dict.fromkeys(data)), 2
    while True:
        names = ["/".join(name.rstrip("/").split("/")[-parts:]) for name in distinct]
        if len(set(names)) == len(names) or parts > max(name.count("/") for name in distinct):
            return dict(zip(distinct, names if len(set(names)) == len(names) else distinct, strict=True))
        parts += 1


def _table(
    layout: Layout,
    title: str,
    entries: Sequence[Entry],
    strategies: Sequence[str],
    data: Sequence[str],
    names: Mapping[str, str],
) -> Table:
    found = {(entry["data"], entry["sam"], entry["prompts"]): entry for entry in entries}
    sams = sorted({entry["sam"] for entry in entries})
    several = len(data) > 1
    heads = [
        f"{names[name]}: {column.head}" if several and column is layout.columns[0] else column.head
        for name in data
        for column in layout.columns
    ]
    rows = [
        [sam, strategy, *(column.cell(found[name, sam, strategy]) or "–" for name in data for column in layout.columns)]
        for sam in sams
        for strategy in strategies
    ]
    title = title if several else f"{title}, {names[data[0]]}"
    if len(sams) > 1:
        return Table(title, layout.mirrors, ["SAM", "prompts", *heads], rows, labels=2)
    return Table(f"{title}, {sams[0]}", layout.mirrors, ["prompts", *heads], [row[1:] for row in rows])


def _aligned(table: Table) -> str:
    """Return a table's rows as Markdown, labels aligned to the left, figures to the right."""
    rows = [table.heads, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if column < table.labels else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(padded) + " |")
    marks = ["-" * (width + 1) + ("-" if column < table.labels else ":") for column, width in enumerate(widths)]
    return "\n".join([lines[0], "|" + "|".join(marks) + "|", *lines[1:]])
