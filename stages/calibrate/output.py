"""Write the files of a calibration: a configuration for label_corpus.py, a table, a chart, a page and a record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from aopsam.metrics import Estimate
from aopsam.report.evaluation_page import Chart, Table, evaluation_html
from aopsam.report.scatter import Point, scatter_svg, standalone
from stages.calibrate.search import Trial
from stages.config.label_config import LabelConfig
from stages.config.strategy_spec import PREDICTOR
from stages.evaluate.tables import markdown
from stages.storage import atomic
from stages.storage.atomic import check_writable


def config_of(trial: Trial, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chosen setting as fields of `LabelConfig`; fields left out keep their defaults.

    Args:
        trial: the chosen trial.
        model: `sam`, `checkpoint` and `predictor`; None for the registry's own.

    Raises:
        ValueError: `LabelConfig` refuses the setting.
    """
    values = {key: value for key, value in model.items() if value is not None}
    options = trial.spec.strategy_options
    if own := options.pop(PREDICTOR, None):
        values["predictor"] = own
    values |= {"prompts": trial.spec.name, "strategy_options": options} | trial.spec.generator_options
    LabelConfig.from_mapping(values, "calibration")
    return values


def check_out(out: str) -> None:
    """Check before the work that OUT can be written.

    Raises:
        ValueError: OUT cannot be written.
    """
    check_writable(out, "config.yaml", "table.md", "pareto.svg", "index.html", "calibration.json")


def write_calibration(
    trials: Sequence[Trial],
    chosen: Trial,
    held_out: tuple[Trial, Trial] | None,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    out: str,
) -> str:
    """Write the files of a calibration; return the text of table.md.

    Args:
        trials: all trials in order; the first is the setting that the user began with.
        chosen: the chosen one of them.
        held_out: the first and the chosen setting on photos that were held out of the choice.
        config: fields of `config_of`.
        facts: further fields of calibration.json.
        out: folder or fsspec URI.
    """
    lines = _lines(trials, chosen, held_out)
    heads = ["setting", "mIoU", "#P", "kept", "s/photo, encoding apart"]
    rows = [_row(trial, trial is chosen) for trial in sorted(trials, key=lambda trial: trial.prompts)]
    table = Table("Settings tried", "by prompts decoded; → is chosen", heads, rows)
    charts = [
        Chart(f"mIoU and {title}", _chart(trials, chosen, title, cost))
        for title, cost in (
            ("prompts decoded on a photo", lambda trial: trial.prompts),
            ("masks kept on a photo", lambda trial: trial.kept),
        )
    ]
    text = markdown(lines, [table])
    comments = "".join(f"# {line}\n" for line in lines)
    with atomic.write_text(f"{out}/config.yaml") as file:
        file.write(comments + yaml.safe_dump(dict(config), sort_keys=False))
    with atomic.write_text(f"{out}/table.md") as file:
        file.write(text)
    with atomic.write_text(f"{out}/pareto.svg") as file:
        file.write(standalone(charts[0].svg))
    with atomic.write_text(f"{out}/index.html") as file:
        file.write(evaluation_html("Calibration", lines, [table], charts, [], {"configuration": config, **facts}))
    record = {"chosen": _facts(chosen), "held_out": held_out and [_facts(trial) for trial in held_out]}
    record |= {"trials": [_facts(trial) for trial in trials], "config": dict(config), **facts}
    with atomic.write_text(f"{out}/calibration.json") as file:
        json.dump(record, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return text


def _lines(trials: Sequence[Trial], chosen: Trial, held_out: tuple[Trial, Trial] | None) -> list[str]:
    photos, masks = len(chosen.miou), int(chosen.truths.sum())
    lines = [
        f"chosen: {_told(chosen)}",
        f"begun with: {_told(trials[0])}",
        f"Chosen among {len(trials)} settings on these {photos} photos with {masks:,} ground-truth masks,"
        " so its figure on them is optimistic.",
    ]
    if held_out is None:
        return [*lines, "No photo was held out: its mIoU on other photos has not been measured."]
    before, after = held_out
    gain = after.gain(before)
    lines.append(f"On {len(after.miou)} other photos, chosen: {_told(after)}; begun with: {_told(before)}")
    if gain is not None:
        lines.append(f"There the chosen one's mIoU differs by {_shown(gain, '+.1f')} points (95 %, paired).")
        if gain.high < 0:
            lines.append("So it is worse there: the choice does not carry over to other photos. Give more photos.")
    return lines


def _told(trial: Trial) -> str:
    estimate = trial.estimate()
    miou = "mIoU undefined" if estimate is None else f"mIoU {_shown(estimate)} %"
    return f"{trial.spec.text}, {miou}, {trial.prompts:.1f} prompts, {trial.kept:.1f} masks"


def _shown(estimate: Estimate, spec: str = ".1f") -> str:
    mean, low, high = (format(100 * value, spec) for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"


def _row(trial: Trial, is_chosen: bool) -> list[str]:
    estimate = trial.estimate()
    name = f"→ {trial.spec.text}" if is_chosen else trial.spec.text
    miou = "–" if estimate is None else _shown(estimate)
    return [name, miou, f"{trial.prompts:.1f}", f"{trial.kept:.1f}", f"{trial.seconds:.2f}"]


def _chart(trials: Sequence[Trial], chosen: Trial, title: str, cost: Any) -> Any:
    points = []
    for trial in trials:
        estimate = trial.estimate()
        if estimate is not None:
            label = trial.spec.text if trial in (chosen, trials[0]) else ""
            points.append(Point(cost(trial), 100 * estimate.mean, label, marked=trial is chosen))
    return scatter_svg(points, title, "mIoU, %")


def _facts(trial: Trial) -> dict[str, Any]:
    estimate = trial.estimate()
    return {
        "setting": trial.spec.text,
        "miou": estimate and asdict(estimate),
        "prompts_decoded": trial.prompts,
        "masks_kept": trial.kept,
        "seconds": trial.seconds,
    }
