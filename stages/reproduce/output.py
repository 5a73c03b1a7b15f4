"""Write the papers' tables, ours beside theirs: index.html, tables.md and reproduction.json in OUT."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aopsam.report.evaluation_page import Table, evaluation_html
from stages.config.strategy_spec import parse_strategies
from stages.evaluate.tables import markdown
from stages.reproduce.tables import ROLES, Entry, Figure, PaperTable
from stages.storage import atomic

WRITTEN = ("index.html", "tables.md", "reproduction.json")


def records_of(tables: Sequence[PaperTable], entries: Mapping[str, Sequence[Entry]], sam: str) -> list[dict[str, Any]]:
    """Return a record a figure of each row: ours (None where it was not measured) and the paper's.

    Args:
        tables: to be filled.
        entries: role → entries of `stages.evaluate.summary.summarise`.
        sam: the model that was measured.
    """
    records = []
    for table in tables:
        measured_with, rows = table.of(sam)
        for place, role in enumerate(table.roles):
            found = {entry["prompts"]: entry for entry in entries.get(role, ())}
            for label, prompts, *published in rows:
                entry = found.get(parse_strategies(prompts)[0].text) if prompts else None
                for figure, theirs in zip(table.figures, published[place], strict=True):
                    ours = figure.of(entry) if entry else None
                    mean, low, high = ours or (None, None, None)
                    record: dict[str, Any] = {
                        "table": table.name,
                        "data": role,
                        "row": label,
                        "prompts": prompts,
                        "figure": figure.head,
                    }
                    record |= {"ours": mean, "low": low, "high": high, "sam": sam}
                    records.append(record | {"paper": theirs, "paper_sam": measured_with})
    return records


def tables_of(tables: Sequence[PaperTable], entries: Mapping[str, Sequence[Entry]], sam: str) -> list[Table]:
    """Return a table for each of the papers' and each of its data sets: ours, with intervals, beside the paper's."""
    made = []
    for table in tables:
        measured_with, rows = table.of(sam)
        for place, role in enumerate(table.roles):
            found = {entry["prompts"]: entry for entry in entries.get(role, ())}
            cells = []
            for label, prompts, *published in rows:
                entry = found.get(parse_strategies(prompts)[0].text) if prompts else None
                pairs = zip(table.figures, published[place], strict=True)
                cells.append([label, prompts or "–", *(cell for pair in pairs for cell in _cells(*pair, entry))])
            heads = [head for figure in table.figures for head in (figure.head, "paper")]
            name = ROLES[role]
            about = table.about if found else f"not run: no {name} given (--data {role}=URI)"
            if role in entries and not found:
                about = f"not run: no photo of {name} could be measured"
            title = f"{table.title}, {name}: {sam}, the paper's of {measured_with}"
            made.append(Table(title, about, ["row", "prompts", *heads], cells, 2, table.note))
    return made


def _cells(figure: Figure, theirs: float | None, entry: Entry | None) -> tuple[str, str]:
    ours = figure.of(entry) if entry else None
    text = "–"
    if ours is not None:
        mean, low, high = ours
        text = format(mean, figure.spec)
        if low is not None and high is not None:
            text += f" [{low:{figure.spec}}, {high:{figure.spec}}]"
    return text, "–" if theirs is None else f"{theirs:g}"


def write_reproduction(
    tables: Sequence[PaperTable],
    entries: Mapping[str, Sequence[Entry]],
    sam: str,
    facts: Mapping[str, Mapping[str, Any]],
    out: str,
) -> str:
    """Write the files; return a line that says how much of the tables is filled.

    Args:
        tables: to be filled.
        entries: role → entries of `stages.evaluate.summary.summarise`.
        sam: the model that was measured.
        facts: name → values, for the page and the JSON: configuration, resources, weights.
        out: folder or URI, without a slash at its end.
    """
    records, made = records_of(tables, entries, sam), tables_of(tables, entries, sam)
    photos = {role: of_role[0]["photos"] for role, of_role in entries.items() if of_role}
    lines = [
        *(f"{ROLES[role]}: {count:,} photos" for role, count in photos.items()),
        "In percent, [95 % interval, bootstrap over photos]; the papers' are of their own weights, photos and machines",
    ]
    with atomic.write_text(f"{out}/index.html") as text:
        text.write(evaluation_html(f"The papers' tables with {sam}", lines, made, [], [], facts))
    with atomic.write_text(f"{out}/tables.md") as text:
        text.write(markdown(lines, made))
    with atomic.write_text(f"{out}/reproduction.json") as text:
        json.dump({"photos": photos, "records": records, **facts}, text, indent=2, ensure_ascii=False)
        text.write("\n")
    filled = sum(record["ours"] is not None for record in records)
    missing = sorted({role for table in tables for role in table.roles} - photos.keys(), key=list(ROLES).index)
    absent = f"; not run: {', '.join(f'no {ROLES[role]}' for role in missing)}" if missing else ""
    return f"{filled} of {len(records)} figures of {len(tables)} tables measured{absent}"
