"""From a shard and edge maps to a model that loads by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import aopsam
from aopsam.sam.registry import load_sam
from aopsam.training.recipes import SamRecipe
from pipelines import train_sam
from stages.annotations.held_out import is_held_out
from stages.train.arguments import SamInputs
from stages.train.sam import SamJob, sam_task
from tests.helpers.in_process import training_without_ray
from tests.helpers.made_edges import save_random_nanodet, write_made_edges
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

WEIGHTS = Path(aopsam.__file__).parent / "weights" / "tiny.safetensors"
HW = (96, 128)
HELD_OUT = next(name for name in map(str, range(100)) if is_held_out(name))


@pytest.fixture
def edges(tmp_path: Path) -> list[str]:
    """Edge maps of photos 0 to 9, and weights of the trunk, as flags."""
    folder = write_made_edges(tmp_path / "edges", [jpeg(seed, HW) for seed in range(10)])
    return ["--edges", str(folder), "--trunk", str(save_random_nanodet(tmp_path / "nanodet.safetensors"))]


def test_from_a_shard_to_a_model(
    tmp_path: Path, edges: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training_without_ray(monkeypatch)
    broken = [*two_objects(), {"area": 3}]
    shard = write_shard(tmp_path / "s.tar", {"one": (jpeg(1, HW), broken), "none": (b"", two_objects())})
    command = ["--data", str(shard), "--out", str(tmp_path / "out"), "--steps", "2", "--windows", "1", "--threads", "1"]
    command += [*edges, "--dense-steps", "1", "--dense-windows", "1"]
    assert train_sam.main(command) == 0
    printed = capsys.readouterr().err
    assert "left out: one: annotation 2: " in printed
    assert "left out: none: not a photo: " in printed
    assert "1 photos to train on, of all 2 in 1 shard(s); 0 to validate on" in printed
    path = tmp_path / "out" / "tiny.safetensors"
    assert 0 <= load_sam("tiny", checkpoint=path).thresholds.stability_score_thresh <= 1


def test_wrong_arguments_end_before_ray_starts(
    tmp_path: Path, edges: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*flags: str) -> str:
        assert train_sam.main(["--data", str(tmp_path / "s.tar"), "--out", str(tmp_path / "out"), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("train_sam: ")
        return line

    assert "no shard" in refused()
    write_shard(tmp_path / "s.tar", {"bare": (jpeg(9, HW), [])})
    assert "no annotated photo" in refused(*edges)
    write_shard(tmp_path / "s.tar", {"one": (jpeg(9, HW), two_objects())})
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    junk = str(tmp_path / "junk.safetensors")
    assert "junk.safetensors" in refused(*edges, "--start", junk)
    assert "junk.safetensors" in refused(*edges, "--trunk", junk)
    assert "tiny.safetensors: not NanoDet's weights: stem.weight is missing" in refused(*edges, "--trunk", str(WEIGHTS))
    assert "none.safetensors" in refused(*edges, "--trunk", str(tmp_path / "none.safetensors"))
    assert "needs --edges, the folder that pipelines/build_edge_maps.py made" in refused()
    assert "needs --trunk, NanoDet's weights, or --start" in refused(*edges[:2])
    assert "no edge maps (edges-*.parquet)" in refused(*edges, "--edges", str(tmp_path / "none"))
    others = write_made_edges(tmp_path / "others", [b"another"])
    assert "1 edge maps, and none of the 1 photos to train on" in refused(*edges, "--edges", str(others))
    assert "--shares has 2 numbers and --data 1" in refused(*edges, "--shares", "1", "2")
    assert "a share of -1.0" in refused(*edges, "--shares", "-1")
    assert "a share of 0.0" in refused(*edges, "--unlabelled-share", "0")
    assert "no-photos" in refused(*edges, "--unlabelled", str(tmp_path / "no-photos"))
    assert "--dense-steps 1500 of --steps 1500: the decoder would never learn" in refused(*edges, "--steps", "1500")
    assert "--finetune needs --start" in refused("--finetune", "tiny")
    assert "--finetune-px go with --finetune MODEL" in refused(*edges, "--finetune-px", "64")
    begun = ("--finetune", "tiny", "--start", str(WEIGHTS), "--finetune-recipe", "paper")
    assert "leave out --accumulate" in refused(*begun, "--accumulate", "2")
    assert "the paper's batch of 128 is no multiple of that" in refused(*begun, "--windows", "6")
    assert "--finetune learns from --data alone" in refused("--finetune", "tiny", "--start", str(WEIGHTS), *edges)


@pytest.mark.parametrize(
    ("pixels", "more"),
    [(1, []), (2, []), (1, ["--finetune", "tiny", "--start", str(WEIGHTS)])],
    ids=["for windows", "for whole frames", "for fine-tuning"],
)
def test_masks_too_small_end_before_ray_starts(
    tmp_path: Path, edges: list[str], capsys: pytest.CaptureFixture[str], pixels: int, more: list[str]
) -> None:
    small = [annotation(rectangle(HW, 40, 40, 1, pixels))]
    shard = write_shard(tmp_path / "s.tar", {name: (jpeg(9, HW), small) for name in "abc"})
    assert train_sam.main(["--data", str(shard), "--out", str(tmp_path / "out"), *(more or edges)]) == 2
    assert "none of 3 photos to train on has a mask that is large enough" in capsys.readouterr().err


def test_photos_with_small_masks_alone_and_without_edges_are_counted(tmp_path: Path, edges: list[str]) -> None:
    small = [annotation(rectangle(HW, 40, 40, 1, 1))]
    photos = {
        HELD_OUT: (jpeg(5, HW), two_objects()),
        "large": (jpeg(9, HW), two_objects()),
        "a": (jpeg(1, HW), small),
        "b": (jpeg(20, HW), two_objects()),
    }
    shard = str(write_shard(tmp_path / "s.tar", photos))
    problems: list[str] = []
    job = SamJob(((shard,),), SamRecipe(), SamInputs(edges=edges[1], trunk=edges[3]))
    task = sam_task(job, problems.append)
    assert [photo.id for photo in task.photos] == ["large", "b"]
    assert [photo.edges is None for photo in task.photos] == [False, True]
    assert len(problems) == 2
    assert problems[0].startswith("1 photos to train on have only masks too small for the model, such as a: ")
    assert problems[1] == "1 of 2 photos to train on have no edge map, such as b"


def test_sources_shares_and_photos_without_annotations(tmp_path: Path, edges: list[str]) -> None:
    named = {"a": (jpeg(1, HW), two_objects()), HELD_OUT: (jpeg(2, HW), two_objects())}
    first = str(write_shard(tmp_path / "s.tar", named))
    second = str(write_shard(tmp_path / "t.tar", {"b": (jpeg(3, HW), two_objects())}))
    (tmp_path / "photos").mkdir()
    for name, photo in {"c": jpeg(4, HW), HELD_OUT: jpeg(5, HW), "d": jpeg(30, HW), "e": b"no photo"}.items():
        (tmp_path / f"photos/{name}.jpg").write_bytes(photo)
    inputs = SamInputs(
        shares=(1.0, 0.5),
        edges=edges[1],
        unlabelled=(str(tmp_path / "photos"),),
        unlabelled_share=1.5,
        trunk=edges[3],
    )
    problems: list[str] = []
    task = sam_task(SamJob(((first,), (second,)), SamRecipe(dense_windows=8, window_px=64), inputs), problems.append)
    assert problems == ["2 unlabelled photos without an edge map, such as d.jpg"]
    assert [photo.id for photo in task.photos] == ["a", "b", "c.jpg"]
    assert [photo.id for photo in task._drawn] == ["a"] * 4 + ["b"] * 2 + ["c.jpg"] * 6
    assert [photo.id for photo in task.held_out] == [HELD_OUT]
    assert all(photo.edges is not None for photo in [*task.photos, *task.held_out])
    batch = task.batch(0)
    assert len(set(batch.prompts.window.tolist())) < 8
    assert (batch.edges.amax((1, 2)) >= 0).all()


def test_fine_tuning_changes_the_encoder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training_without_ray(monkeypatch)
    shard = write_shard(tmp_path / "s.tar", {"one": (jpeg(1, (96, 128)), two_objects())})
    command = ["--data", str(shard), "--out", str(tmp_path / "out"), "--steps", "1", "--windows", "1", "--threads", "1"]
    assert train_sam.main([*command, "--finetune", "tiny", "--start", str(WEIGHTS)]) == 0
    before = load_sam("tiny").state_dict()
    after = load_sam("tiny", checkpoint=tmp_path / "out" / "tiny.safetensors").state_dict()
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"image_encoder"}
