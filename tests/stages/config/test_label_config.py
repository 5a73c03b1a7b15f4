"""Configurations from files and flags, and how they are told apart."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from stages.config.arguments import absolute, add_label_options, label_config, positive, share
from stages.config.label_config import LabelConfig, difference, digest


def _parse(*flags: str) -> LabelConfig:
    parser = argparse.ArgumentParser()
    add_label_options(parser)
    return label_config(parser.parse_args(list(flags)))


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("sam: mobile_sam\nprompts: grid-8\npred_iou_thresh: 0.5\nstrategy_options: {}\n")
    config = _parse("--config", str(file), "--prompts", "random-5")
    assert (config.sam, config.prompts, config.pred_iou_thresh, config.box_nms_thresh) == (
        "mobile_sam",
        "random-5",
        0.5,
        None,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threshold: 1", "unknown key 'threshold'; choose from sam"),
        ("pred_iou_thresh: high", "pred_iou_thresh is 'high', expected float | None"),
        ("points_per_batch: true", "points_per_batch is True, expected int"),
        ("tile_whole: 1", "tile_whole is 1, expected bool"),
        ("- 1", "expected a mapping"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"run\.yaml") as caught:
        _parse("--config", str(file))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("")
    assert _parse("--config", str(file)) == LabelConfig()


def test_digest_and_difference() -> None:
    before, now = LabelConfig().as_dict(), LabelConfig(prompts="grid-4").as_dict()
    assert digest(before) == digest(dict(reversed(before.items())))
    assert digest(before) != digest(now)
    assert difference(before, now) == ["prompts: 'aop' there, 'grid-4' now"]
    assert difference(before, before) == []


def test_relative_paths_become_absolute_and_uris_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("photos") == str(tmp_path / "photos")
    assert absolute("s3://bucket/photos") == "s3://bucket/photos"


def test_numbers_of_flags() -> None:
    assert (share("0.5"), positive("3")) == (0.5, 3)
    for check, text in ((share, "1.5"), (positive, "0")):
        with pytest.raises(argparse.ArgumentTypeError, match="is not"):
            check(text)


def test_what_comes_after_decoding_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("duplicates: merge\nrefine: prose\noverlap: flat\ntile_size: 2048\ntile_whole: false\n")
    config = _parse("--config", str(file))
    expected = {"duplicates": "merge", "refine": "prose", "overlap": "flat", "tile_size": 2048, "tile_whole": False}
    assert {name: getattr(config, name) for name in expected} == expected
    assert difference(LabelConfig().as_dict(), config.as_dict())[:2] == [
        "duplicates: 'box-nms' there, 'merge' now",
        "overlap: 'nested' there, 'flat' now",
    ]
