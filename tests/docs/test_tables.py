"""The ten questions of docs/tables.md, run as they stand there, each by three engines that must agree."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import numpy as np
import pytest

from tests.helpers import ROOT
from tests.helpers.made_labels import write_labels
from tests.helpers.made_run import bitmaps, made_run

PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's first block defines, where `out` is a made run; its rows as `made`."""
    pytest.importorskip("duckdb")
    pytest.importorskip("polars")
    folder = tmp_path_factory.mktemp("tables")
    out, rows = made_run(folder)
    for number, row in enumerate(rows[:4]):
        row["seconds_encode"] += number / 8
        row["masks"][0]["parent"] = 2
    rows[1]["content_sha256"] = rows[0]["content_sha256"]
    for path in (out / "labels").iterdir():
        path.unlink()
    write_labels(rows[:3], out / "labels" / "a.parquet")
    write_labels(rows[3:], out / "labels" / "b.parquet")
    found: dict[str, Any] = {"made": rows}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation")  # pycocotools with NumPy 2
        patch.chdir(folder)
        exec(BLOCKS[0], found)
        found["answers"] = [[_rows(_value(line, found)) for line in _lines(block)] for block in BLOCKS[1:]]
    return found


def _lines(block: str) -> list[str]:
    return [ast.unparse(statement) for statement in ast.parse(block).body]


def _value(line: str, names: dict[str, Any]) -> Any:
    exec(f"answer = {line}", names)
    return names["answer"]


def _rows(answer: Any) -> Any:
    """Rows of a table of any engine, sorted; an array as it is."""
    if isinstance(answer, np.ndarray):
        return answer
    table = answer.df() if hasattr(answer, "df") else answer
    records = table.to_dict("records") if hasattr(table, "to_numpy") and hasattr(table, "iloc") else table.to_dicts()
    plain = [{name: _plain(value) for name, value in record.items()} for record in records]
    return sorted(plain, key=repr)


def _plain(value: Any) -> Any:
    if isinstance(value, list | np.ndarray):
        return [_plain(each) for each in value]
    return round(float(value), 5) if isinstance(value, float | int | np.number) else value


def test_there_are_ten_questions_of_three_answers() -> None:
    assert [len(_lines(block)) for block in BLOCKS[1:]] == [3] * 10
    assert len(re.findall(r"^\d+\. .*\?", PAGE, re.MULTILINE)) == 10


@pytest.mark.parametrize("number", range(1, 11))
def test_engines_agree(names: dict[str, Any], number: int) -> None:
    by_duckdb, by_polars, by_pandas = names["answers"][number - 1]
    if isinstance(by_duckdb, np.ndarray):
        np.testing.assert_array_equal(by_duckdb, by_polars)
        np.testing.assert_array_equal(by_duckdb, by_pandas)
    else:
        assert by_duckdb == by_polars == by_pandas
        assert by_duckdb


def test_answers_are_right(names: dict[str, Any]) -> None:
    rows, answers = names["made"], [answer[0] for answer in names["answers"]]
    assert {(row["status"], row["n"]) for row in answers[0]} == {("ok", 4), ("empty", 1), ("failed", 1)}
    assert [row["file_name"] for row in answers[1]] == ["broken.jpg", "nothing.jpg"]
    assert {row["n"] for row in answers[2]} == {3, 0}  # 0.9, 0.8 and 0.95; 0.7 is not above
    assert {row["file_name"] for row in answers[3]} == {rows[number]["file_name"] for number in (1, 2, 3)}
    areas = [mask.sum() for row in rows for mask in bitmaps(row)]
    assert answers[4][0]["thirds"] == pytest.approx(np.quantile(areas, [1 / 3, 2 / 3]).tolist(), rel=1e-4)
    assert len(answers[5]) == sum(mask.mean() > 0.5 for row in rows for mask in bitmaps(row)) == 5
    assert {row["per_prompt"] for row in answers[6]} == {round(7 / 30, 5), 0}
    assert answers[7] == [{"content_sha256": rows[0]["content_sha256"], "n": 2}]
    assert [row["parent"] for row in answers[8]] == [2] * 4
    best = min((bitmaps(row)[3] for row in rows[:4]), key=lambda mask: mask.sum())
    np.testing.assert_array_equal(answers[9], best)
