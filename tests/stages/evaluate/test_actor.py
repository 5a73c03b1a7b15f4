"""The evaluation stage and what is made of its results, on made-up photos and a random model; no Ray."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from aopsam.masks import rle
from aopsam.sam.encode import encode
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec, load_sam
from schemas.metrics import SCHEMA
from stages.annotations.samples import SAMPLES, ReadSamples, Source
from stages.annotations.shards import list_shards
from stages.config.strategy_spec import StrategySpec, parse_strategies
from stages.evaluate.actor import RESULTS, EvaluatePhotos, Evaluation
from stages.evaluate.ground_truth import answer, box_prompts, point_prompts, usable_annotations
from stages.evaluate.output import write_evaluation
from stages.evaluate.run import results_of
from stages.evaluate.summary import summarise
from tests.helpers.made_shard import ToyEncoder, annotation, jpeg, rectangle, save_random, two_objects, write_shard
from tests.helpers.photo_jobs import done_here

HW = (96, 128)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A quick random model in the registry under the name `toy`; its weights and its predictor's."""
    spec = ModelSpec(build=lambda: assemble(ToyEncoder()), weights=tmp_path / "toy.safetensors", terms="none")
    monkeypatch.setitem(MODELS, "toy", spec)
    return save_random("toy", tmp_path)


def measured(stage: EvaluatePhotos, shard: Path) -> pa.Table:
    return results_of(done_here(stage, SCHEMA, [Source("made up", (str(shard),))], rows=1))


def values(results: pa.Table, prompts: str, metric: str) -> list[float | None]:
    rows = results.sort_by("image_id").to_pylist()
    return [row["value"] for row in rows if (row["prompts"], row["metric"]) == (prompts, metric)]


def test_all_strategies_on_the_same_photos(toy: tuple[Path, Path], tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "x.tar",
        {
            "a": (jpeg(0, HW), two_objects()),
            "b-broken": (b"not a photo", two_objects()),
            "c-nothing": (jpeg(1, HW), []),
            "d-alone": (jpeg(2, HW), None),
            "e-mismatch": (jpeg(1, (80, 128)), two_objects()),
            "f": (jpeg(3, HW), two_objects()),
        },
    )
    names = "aop(max_prompts=8),gt-point,gt-box,random-match,grid-4,aop(max_prompts=2)"
    strategies = parse_strategies(names)
    evaluation = Evaluation(("toy",), tuple(strategies), predictor=str(toy[1]), threads=1)
    stage = EvaluatePhotos(evaluation)
    results = measured(stage, shard)
    assert results.schema.equals(RESULTS)

    for spec in strategies:
        assert values(results, spec.text, "ground_truths") == [2, 0, 2]
    assert values(results, "grid-4", "prompts_decoded") == [16, 16, 16]
    assert values(results, "gt-point", "prompts_decoded") == [2, 0, 2]
    assert values(results, "random-match", "prompts_decoded") == values(
        results, "aop(max_prompts=8)", "prompts_decoded"
    )
    assert all(count <= 2 for count in values(results, "aop(max_prompts=2)", "prompts_proposed"))
    found = values(results, "grid-4", "miou")
    assert found[1] is None
    assert 0 < found[0] <= 1
    assert values(results, "grid-4", "miou_one_to_one")[0] <= found[0]
    assert values(results, "gt-box", "miou")[1] is None
    encoding = [values(results, spec.text, "seconds_encode") for spec in strategies]
    assert all(seconds == encoding[0] for seconds in encoding)  # encoded once, charged to each
    assert values(results, "gt-box", "seconds")[0] > encoding[0][0]

    outcome = write_evaluation(results, strategies, {"weights": stage.weights()}, str(tmp_path / "o"))
    assert outcome.measured == 3
    said = [line.removeprefix(f"{shard}: ").split(":")[0] for line in outcome.failures]
    assert said == ["b-broken", "d-alone", "e-mismatch"]
    assert pq.read_schema(tmp_path / "o/metrics.parquet").equals(SCHEMA, check_metadata=True)
    written = json.loads((tmp_path / "o/evaluation.json").read_text())
    assert [entry["prompts"] for entry in written["results"]] == [spec.text for spec in strategies]
    grid = written["results"][4]
    assert grid["miou"]["over_masks"]["mean"] == pytest.approx(np.mean([found[0], found[2]]))
    assert written["weights"]["sam"][0]["sha256"] == load_sam("toy").sha256
    assert (tmp_path / "o/table.md").read_text() == outcome.table
    assert "- made up: 3 photos, 4 ground-truth masks" in outcome.table


def test_the_same_run_gives_the_same_figures(toy: tuple[Path, Path], tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "x.tar", {"a": (jpeg(0, HW), two_objects())})
    evaluation = Evaluation(("toy",), tuple(parse_strategies("random-5,random-5(seed=1)")), seed=7, threads=1)
    runs = [values(measured(EvaluatePhotos(evaluation), shard), "random-5", "miou") for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != values(measured(EvaluatePhotos(evaluation), shard), "random-5(seed=1)", "miou")


def test_answers_are_the_iou_of_the_three_masks_at_the_photos_size(toy: tuple[Path, Path]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
    photo = encode(load_sam("toy"), rgb)
    annotations = two_objects()
    prompts = box_prompts(annotations)
    answers = answer(photo, prompts, annotations)
    model = photo.model
    for index, record in enumerate(annotations):
        boxes = torch.from_numpy(prompts.coords_px[index].reshape(1, 4))  # 128 px wide: already the model's frame
        batched = {"image": torch.from_numpy(rgb).permute(2, 0, 1), "original_size": HW, "boxes": boxes}
        expected = model([batched], multimask_output=True)[0]
        truth = rle.decode(record["segmentation"])
        for mask, iou in zip(expected["masks"][0].numpy(), answers.iou[index], strict=True):
            assert iou == pytest.approx((mask & truth).sum() / (mask | truth).sum())
        assert answers.predicted_iou[index] == pytest.approx(expected["iou_predictions"][0].detach().numpy(), abs=1e-5)


def test_prompts_of_the_ground_truth() -> None:
    recorded, without = two_objects()
    points = point_prompts([recorded, without])
    assert points.coords_px[0, 0].tolist() == [20, 30]
    x, y = points.coords_px[1, 0]
    assert rle.decode(without["segmentation"])[int(y), int(x)]
    assert box_prompts([without]).coords_px.reshape(-1).tolist() == [60, 50, 110, 80]
    assert len(point_prompts([])) == len(box_prompts([])) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "annotation 1: segmentation must be a COCO RLE"),
        ({"segmentation": {"size": [96, 128], "counts": "zz"}}, "annotation 1: RLE"),
        ({"segmentation": annotation(rectangle((10, 10), 1, 1, 2, 2))["segmentation"]}, r"mask of \[10, 10\]"),
        ({"point_coords": [["x", 1]]}, "annotation 1: point_coords"),
        ({"point_coords": [[float("nan"), 1]]}, "annotation 1: point_coords must be finite"),
        ({"point_coords": {"x": 1, "y": 2}}, r"annotation 1: point_coords must be \[\[x, y\]\] in pixels"),
        ({"point_coords": [[10**400, 1]]}, r"annotation 1: point_coords must be \[\[x, y\]\] in pixels"),
    ],
)
def test_an_unusable_annotation_is_named(change: dict, message: str) -> None:
    good, other = two_objects()
    with pytest.raises(ValueError, match=message):
        usable_annotations([good, other | change], HW)


def test_empty_masks_are_no_ground_truth() -> None:
    assert usable_annotations([annotation(np.zeros(HW, dtype=bool)), *two_objects()], HW) == two_objects()


def test_the_limit_counts_photos_of_a_source_over_its_shards(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{n}.tar", {f"{n}-{i}": (jpeg(0, HW), []) for i in range(3)}) for n in range(2)]
    tables = list(ReadSamples(rows=1)(Source("d", tuple(map(str, shards)), 4).unit()))
    assert [table.column("image_id")[0].as_py() for table in tables] == ["0-0", "0-1", "0-2", "1-0"]
    assert all(table.schema.equals(SAMPLES) for table in tables)


def test_shards_of_a_folder_a_glob_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.tar", "sub/a.tar", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(uri).name for uri in list_shards(str(tmp_path))] == ["b.tar", "a.tar"]
    assert [Path(uri).name for uri in list_shards(f"{tmp_path}/*.tar")] == ["b.tar"]
    assert [Path(uri).name for uri in list_shards(f"{tmp_path}/c.txt")] == ["c.txt"]
    for nothing in ("none.tar", "*.none", "sub/none"):
        with pytest.raises(ValueError, match="no shard"):
            list_shards(f"{tmp_path}/{nothing}")


def metrics_table(rows: list[tuple[str, str, str, float | None]]) -> pa.Table:
    keys = ("image_id", "prompts", "metric", "value")
    return pa.Table.from_pylist([dict(zip(keys, row, strict=True)) | {"data": "d", "sam": "s"} for row in rows], SCHEMA)


def test_the_summary_weighs_photos_by_their_masks_and_pairs_differences() -> None:
    rows = [
        (photo, prompts, metric, value)
        for prompts, gain in (("first", 0.0), ("second", 0.1))
        for photo, masks, miou in (("p", 30, 0.2), ("q", 10, 0.6), ("r", 0, None))
        for metric, value in (
            ("miou", None if miou is None else miou + gain),
            ("miou_per_prediction", 0.5),
            ("miou_one_to_one", None if miou is None else miou / 2),
            ("ground_truths", float(masks)),
            ("masks_kept", 4.0),
            ("seconds", 2.0),
        )
    ]
    first, second = summarise(metrics_table(rows), ["first", "second"])
    assert (first["photos"], first["ground_truths"]) == (3, 40)
    assert first["miou"]["over_masks"]["mean"] == pytest.approx(0.3)
    assert first["miou"]["over_photos"]["mean"] == pytest.approx(0.4)
    assert first["miou"]["difference"] is None
    assert second["miou"]["difference"]["mean"] == pytest.approx(0.1)
    assert second["miou"]["difference"]["low"] == pytest.approx(0.1)
    assert second["miou_one_to_one"]["difference"]["mean"] == pytest.approx(0.0)
    assert second["seconds"] == 2.0


def test_a_photo_measured_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'p' is there twice"):
        summarise(metrics_table([("p", "a", "miou", 0.1), ("p", "a", "miou", 0.1)]), ["a"])


def test_strategies_with_options() -> None:
    assert parse_strategies("aop, grid-16") == [StrategySpec("aop", "aop"), StrategySpec("grid-16", "grid-16")]
    spec = parse_strategies("aop( adaptive_filtering = false, k=1.25, round_size=8, elimination=equation)")[0]
    assert spec.text == "aop(adaptive_filtering=false,k=1.25,round_size=8,elimination=equation)"
    assert spec.options == {"adaptive_filtering": False, "k": 1.25, "round_size": 8, "elimination": "equation"}


@pytest.mark.parametrize(
    "text", ["", "aop,,grid-4", "aop(", "aop(k)", "aop(k=1)(k=2)", "aop(k=__import__('os'))", "aop,aop", "a b"]
)
def test_what_is_no_list_of_strategies_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"strategy|option"):
        parse_strategies(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategies": "random-match,aop"}, "name aop before"),
        ({"strategies": "grid-4", "sams": ("tiny", "vit_b"), "checkpoint": "x"}, "one model"),
    ],
)
def test_evaluations_that_make_no_sense(arguments: dict, message: str) -> None:
    strategies = tuple(parse_strategies(arguments["strategies"]))
    with pytest.raises(ValueError, match=message):
        Evaluation(arguments.get("sams", ("tiny",)), strategies, arguments.get("checkpoint"))


@pytest.mark.usefixtures("toy")
def test_options_of_the_generator_make_variants_of_the_same_prompts(tmp_path: Path) -> None:
    strategies = parse_strategies("grid-4(box_nms_thresh=0.1),grid-4(box_nms_thresh=1.0),random-9(box_nms_thresh=0.2)")
    stage = EvaluatePhotos(Evaluation(("toy",), tuple(strategies), seed=5, threads=1))
    few, all_of_them, random = stage.generators.values()
    assert (few.options.box_nms_thresh, all_of_them.options.box_nms_thresh, random.options.box_nms_thresh) == (
        0.1,
        1.0,
        0.2,
    )
    results = measured(stage, write_shard(tmp_path / "x.tar", {"a": (jpeg(0, HW), two_objects())}))
    kept, decoded = (
        [values(results, spec.text, name)[0] for spec in strategies] for name in ("masks_kept", "prompts_decoded")
    )
    assert kept[0] < kept[1]
    assert decoded == [16, 16, 9]
    memory = values(results, "grid-4(box_nms_thresh=1.0)", "peak_memory")[0]
    assert memory is None or memory > 0


@pytest.mark.usefixtures("toy")
def test_unknown_strategies_and_options_are_found_at_the_start() -> None:
    for text in ("grid-x", "gt-point(k=1)", "grid-4(size=3)"):
        with pytest.raises(ValueError, match=r"grid|gt-point"):
            EvaluatePhotos(Evaluation(("toy",), tuple(parse_strategies(text)), threads=1))


def test_weights_that_are_not_those_reported_are_refused(toy: tuple[Path, Path]) -> None:
    evaluation = Evaluation(("toy",), tuple(parse_strategies("grid-2")), threads=1)
    reported = EvaluatePhotos(evaluation).weights()
    assert EvaluatePhotos(evaluation, reported).weights() == reported
    toy[0].write_bytes(toy[0].read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match="weights changed"):
        EvaluatePhotos(evaluation, reported)
