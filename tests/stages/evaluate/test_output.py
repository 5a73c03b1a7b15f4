"""From measured photos to tables, pictures and the page; strategies and figures are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec
from schemas.metrics import SCHEMA
from stages.annotations.samples import Source
from stages.config.strategy_spec import StrategySpec, add_sweeps, expand_sweep, find_sweeps, parse_strategies
from stages.evaluate.actor import RESULTS, EvaluatePhotos, Evaluation
from stages.evaluate.charts import charts_of
from stages.evaluate.failures import Loss, show, worst_losses
from stages.evaluate.output import write_evaluation
from stages.evaluate.run import results_of
from stages.evaluate.summary import summarise
from stages.evaluate.tables import fill, markdown, short_names
from tests.helpers.html_page import Page
from tests.helpers.made_shard import ToyEncoder, jpeg, save_random, two_objects, write_shard
from tests.helpers.photo_jobs import done_here

HW = (96, 128)
RANKED = {"scores": [0.9, 0.8], "found": [1023, 0], "ignored": [0, 0]}
"""One prediction right at every threshold, one wrong at every one."""


def results(specs: list[StrategySpec], data: tuple[str, ...] = ("/d/bsds/val", "/d/coco/val")) -> pa.Table:
    rows = []
    for source in data:
        for place, spec in enumerate(specs):
            for photo in range(3):
                where = {"image_id": f"p{photo}", "data": source, "sam": "toy", "prompts": spec.text}
                values = {"miou": 0.5 - 0.1 * place, "ground_truths": 2.0, "prompts_decoded": 30.0 + 10 * place}
                values |= {"masks_kept": 20.0, "seconds": 0.5, "prompts_proposed": 60.0}
                rows += [where | {"metric": name, "value": value} for name, value in values.items()]
                rows.append(where | {"metric": "ap", "value": 0.5, "ranked": RANKED})
    return pa.Table.from_pylist(rows, schema=RESULTS)


def text_of(specs: list[StrategySpec]) -> str:
    entries = summarise(results(specs).drop_columns(["message"]), [spec.text for spec in specs])
    return markdown(["facts"], fill(entries, specs))


def test_figures_that_no_photo_has_are_derived() -> None:
    specs = parse_strategies("aop,grid-4")
    first, second, *_ = summarise(results(specs).drop_columns(["message"]), [spec.text for spec in specs])
    assert first["images_per_second"] == 2.0
    assert first["dropped_share"] == pytest.approx(0.5)
    # Three photos, each with one of its two masks found by the better of two predictions: recall 1/2, precision 1.
    assert first["ap"]["over_masks"]["mean"] == pytest.approx(51 / 101)
    assert second["ap"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    assert first["ap"]["difference"] is None


def test_the_papers_tables_side_by_side_with_intervals() -> None:
    lines = text_of(parse_strategies("aop,grid-4")).splitlines()
    head = next(line for line in lines if line.startswith("| prompts"))
    assert [cell.strip() for cell in head.split("|")[1:9]] == [
        *("prompts", "bsds/val: mIoU", "vs first", "prompt s", "memory MB", "#P", "kept", "coco/val: mIoU"),
    ]
    grid = next(line for line in lines if line.startswith("| grid-4"))
    assert [cell.strip() for cell in grid.split("|")[1:4]] == [
        *("grid-4", "40.0 [40.0, 40.0]", "-10.0 [-10.0, -10.0]"),
    ]
    # Once for all data: strategies, times, proposals, instances.
    assert len([line for line in lines if line.startswith("Published, with other weights, photos and machines: ")]) == 4
    tables = [line for line in lines if line.startswith("|")]
    blocks = "\n".join(tables).split("| prompts")
    assert all(len({len(line) for line in ("| prompts" + block).splitlines()}) == 1 for block in blocks[1:])  # aligned


def test_only_tables_that_the_run_has_rows_for() -> None:
    titles = [line for line in text_of(parse_strategies("aop,grid-4")).splitlines() if line.startswith("###")]
    assert not [title for title in titles if "Parts of aop" in title or "After decoding" in title or "Sweep" in title]
    strategies = "aop,aop(adaptive_filtering=false),aop(box_nms_thresh=0.5),aop(k=1),aop(k=2),aop(k=3)"
    text = text_of(parse_strategies(strategies))
    assert "### Parts of aop" in text
    assert "### After decoding, bsds/val, toy" in text
    sweep = text.partition("### Sweep of aop: k, bsds/val")[2].partition("###")[0]
    rows = [line.split("|")[1].strip() for line in sweep.splitlines() if line.startswith("| aop")]
    assert rows == ["aop(k=1)", "aop(k=2)", "aop(k=3)"]


def test_the_first_strategys_kind_at_the_prompts_of_each_other_one() -> None:
    specs = parse_strategies("aop(k=1),grid-4,aop(k=2),grid-8,gt-box,random-3")
    made = results(specs, ("d",)).to_pylist()  # 30, 40, 50, 60, 70, 80 prompts, each 10 points below the one before
    for row in made:
        if row["prompts"] == "random-3" and row["metric"] == "prompts_decoded":
            row["value"] = 20.0
    entries = summarise(pa.Table.from_pylist(made, RESULTS).drop_columns(["message"]), [spec.text for spec in specs])
    found = {entry["prompts"]: entry["at_equal_prompts"] for entry in entries}
    assert found["aop(k=1)"] is found["aop(k=2)"] is found["random-3"] is None
    assert (found["grid-4"]["prompts"], found["grid-8"]["prompts"]) == ("aop(k=1)", "aop(k=2)")
    assert found["grid-8"]["gain"] == {
        "mean": pytest.approx(0.1),
        "low": pytest.approx(0.1),
        "high": pytest.approx(0.1),
    }
    text = markdown([], fill(entries, specs)).partition("### At equal prompts")[2].partition("###")[0]
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert list(rows) == ["prompts", "grid-4", "grid-8", "random-3"]
    assert [cell.strip() for cell in rows["grid-8"].split("|")[2:7]] == [
        *("60.0", "20.0", "aop(k=2)", "50.0", "+10.0 [+10.0, +10.0]"),
    ]


def test_short_names_tell_data_apart() -> None:
    assert short_names(["/x/a/val", "/x/b/val"]) == {"/x/a/val": "a/val", "/x/b/val": "b/val"}
    assert list(short_names(["/1/a/val", "/2/a/val"]).values()) == ["1/a/val", "2/a/val"]
    assert short_names(["made up", "made up"]) == {"made up": "made up"}


def test_sweeps() -> None:
    specs = add_sweeps(parse_strategies("aop,aop(k=1)"), ["aop:k=1,2,3", "aop(k=2):threshold=0.1,0.2,0.30"])
    assert [spec.text for spec in specs][:4] == ["aop", "aop(k=1)", "aop(k=2)", "aop(k=3)"]
    assert specs[4].options == {"k": 2, "threshold": 0.1}
    assert {title: len(group) for title, group in find_sweeps(specs).items()} == {"aop: k": 3, "aop(k=2): threshold": 3}
    for text in ("aop", "aop:k", "aop:k=", "aop:k=1,,2", ":k=1", "aop:k=(1)"):
        with pytest.raises(ValueError, match=r"sweep|strategy|option"):
            expand_sweep(text)


def test_pictures_of_each_cost_and_sweep() -> None:
    specs = parse_strategies("aop,gt-point,grid-4,aop(k=1),aop(k=2),aop(k=3)")
    entries = summarise(results(specs, ("d",)).drop_columns(["message"]), [spec.text for spec in specs])
    charts = {chart.title: str(chart.svg) for chart in charts_of(entries, specs)}
    assert list(charts) == [
        "mIoU and prompts decoded: d, toy",
        "mIoU and seconds: d, toy",
        "mIoU by aop: k: d, toy",
        "Prompts by aop: k: d, toy",
    ]
    assert ">grid-4<" in charts["mIoU and seconds: d, toy"]
    assert "gt-point" not in charts["mIoU and seconds: d, toy"]


def test_photos_on_which_the_first_strategy_loses_most() -> None:
    specs = parse_strategies("aop,gt-box,grid-4,grid-8")
    found = {"aop": (0.5, 0.1, 0.9), "gt-box": (1.0, 1.0, 1.0), "grid-4": (0.6, 0.2, 0.3), "grid-8": (0.4, 0.6, 0.2)}
    rows = [
        {"image_id": f"p{photo}", "data": "d", "sam": "s", "prompts": prompts, "metric": "miou", "value": value}
        for prompts, values in found.items()
        for photo, value in enumerate(values)
    ]
    table = pa.Table.from_pylist(rows, schema=RESULTS)
    losses = worst_losses(table, specs, 5)
    assert [(loss.image_id, loss.rival and loss.rival.text) for loss in losses] == [("p1", "grid-8"), ("p0", "grid-4")]
    assert [loss.image_id for loss in worst_losses(table, specs, 1)] == ["p1"]
    alone = worst_losses(table, specs[:2], 2)
    assert [(loss.image_id, loss.rival) for loss in alone] == [("p1", None), ("p0", None)]
    assert worst_losses(table, specs[1:2], 2) == []


def test_the_page_shows_failures_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    toy = ModelSpec(build=lambda: assemble(ToyEncoder()), weights=tmp_path / "toy.safetensors", terms="none")
    monkeypatch.setitem(MODELS, "toy", toy)
    save_random("toy", tmp_path)
    hostile = "<b>name"
    photos = {hostile: (jpeg(0, HW), two_objects()), "q": (jpeg(1, HW), two_objects())}
    source = Source("made up", (str(write_shard(tmp_path / "x.tar", photos)),))
    specs = parse_strategies("grid-1,grid-3")
    stage = EvaluatePhotos(Evaluation(("toy",), tuple(specs), threads=1))
    torch.set_num_threads(threads)
    table = results_of(done_here(stage, SCHEMA, [source]))
    losses = [
        Loss("made up", hostile, "toy", 0.1, specs[0], specs[1], 0.2),
        Loss("made up", "gone", "toy", 0.1, specs[0]),
    ]
    shown = show(losses, [source], stage)
    assert [len(each.pictures) for each in shown] == [4]  # photo, ground truth, and two strategies
    assert all(picture.shape == (*HW, 3) and picture.dtype == np.uint8 for _, picture in shown[0].pictures)
    write_evaluation(table, specs, {"configuration": {"x": hostile}}, str(tmp_path / "o"), failures_shown=shown)
    page = Page((tmp_path / "o/index.html").read_text())
    tags = [tag for tag, _ in page.tags]
    assert (tags.count("figure"), tags.count("img")) == (1, 4)
    assert "b" not in tags
    assert hostile in page.text
    assert "script" not in tags
    assert len(list((tmp_path / "o/plots").glob("*.svg"))) == 2
