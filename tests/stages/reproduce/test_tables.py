"""The papers' tables as records: every row can be asked for and has a figure, or none, in every column."""

from __future__ import annotations

import pytest

from aopsam._options import checked, options_of
from aopsam.metrics import PRECISIONS
from aopsam.prompting import find_strategy
from aopsam.sam.registry import MODELS
from stages.config.strategy_spec import parse_strategies
from stages.evaluate.compare import GROUND_TRUTH_PROMPTS, check_ground_truth
from stages.evaluate.summary import MEANS
from stages.reproduce.tables import END_TO_END, MIOU, ROLES, TABLES, Figure, chosen_tables, strategies_of

COUNTS = {"prompts_decoded", "masks_kept", "peak_memory", "seconds", "dropped_share"}


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_every_row_has_a_strategy_and_figures_for_all_columns(table) -> None:
    assert set(table.roles) <= set(ROLES)
    assert set(table.rows) <= set(MODELS)
    for figure in table.figures:
        for key in figure.keys:
            assert key in MEANS or key in PRECISIONS or key in COUNTS or key.startswith("seconds_")
    for rows in table.rows.values():
        assert len({label for label, *_ in rows}) == len(rows)
        for _, prompts, *published in rows:
            assert [len(figures) for figures in published] == [len(table.figures)] * len(table.roles)
            if not prompts:
                continue
            (spec,) = parse_strategies(prompts)
            if spec.name in GROUND_TRUTH_PROMPTS:
                check_ground_truth(spec)
            else:
                checked(options_of(find_strategy(spec.name)[0]), spec.strategy_options, prompts)


def test_the_tables_of_the_four_papers_are_there() -> None:
    names = [table.name for table in TABLES]
    assert names[:7] == ["aop-1", "aop-2", "aop-3a", "aop-3b", "aop-3c", "aop-3d", "aop-4"]
    assert names[7:13] == [f"mobile-sam-v2-{number}" for number in range(2, 8)]
    assert names[13:] == [*(f"efficient-sam2-{number}" for number in range(1, 7)), "amr-2"]


def test_a_strategy_of_several_tables_is_measured_once() -> None:
    specs = [spec.text for spec in strategies_of(TABLES, "vit_h", "sa1b")]
    assert len(specs) == len(set(specs))
    assert specs.count("aop-paper") == specs.count("grid-32") == 1
    assert "grid-64" not in specs  # of LVIS alone
    assert [spec.text for spec in strategies_of(chosen_tables(["aop-2"]), "tiny", "coco")][-1] == "aop-paper"


def test_figures_come_in_the_papers_units() -> None:
    entry = {"miou": {"over_masks": {"mean": 0.5, "low": 0.25, "high": 0.75}}, "seconds": 1.5, "a": 1, "b": None}
    assert MIOU.of(entry) == (50, 25, 75)
    assert END_TO_END.of(entry) == (1.5, None, None)
    assert Figure("sum", ("seconds", "a"), 1000).of(entry) == (2500, None, None)
    assert Figure("none", ("a", "b")).of(entry) is None
    assert MIOU.of({"miou": {"over_masks": None}}) is None
