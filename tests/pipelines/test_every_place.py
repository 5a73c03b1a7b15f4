"""Every pipeline from and to a store of S3's kind, each on what those before it wrote."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from stages.annotations.held_out import is_held_out
from tests.helpers import ROOT
from tests.helpers.in_process import training_without_ray, without_ray
from tests.helpers.made_edges import save_random_hed, save_random_nanodet
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HELD_OUT = next(name for name in map(str, range(100)) if is_held_out(name))
PIPELINES = {
    "curate": "--data {at}/s.tar --keep 3 --out {at}/curation",
    "build_prompt_maps": "--data {at}/s.tar --only {at}/curation/curation.parquet --out {at}/maps",
    "train_predictor": "--data {at}/maps --validate {at}/s.tar --out {at}/predictor --steps 1",
    "train_detector": "--data {at}/maps --out {at}/detector --steps 1",
    "build_edge_maps": "--data {at}/s.tar --unlabelled {at}/photos --hed {at}/hed.safetensors --out {at}/edges",
    "train_sam": "--data {at}/s.tar --edges {at}/edges --unlabelled {at}/photos --trunk {at}/nanodet.safetensors"
    " --out {at}/sam --steps 1 --dense-steps 0 --windows 1",
    "train_mask_head": "--data {at}/s.tar --out {at}/head --steps 1 --frames 1 --prompts 4",
    "train_thing_head": "--data {at}/s.tar --teacher {at}/nanodet.safetensors --out {at}/head --steps 1 --frames 1",
    "train_scorer": "--data {at}/s.tar --photos 2 --prompts 2 --free 1 --steps 5 --out {at}/scorer",
    "distill_encoder": "--method decoupled --teacher tiny --student tiny --picture-px 64 --batch 1 --steps 1"
    " --data {at}/photos --out {at}/student",
    "evaluate": "--data {at}/s.tar --sam tiny --prompts gt-point --out {at}/evaluation",
    "calibrate": "--data {at}/s.tar --prompts grid-1,grid-2 --sweep mask_nms_thresh=0.7 --limit 2"
    " --out {at}/calibration",
    "retrain": "--corpus {at}/photos --registry {at}/registry --eval {at}/one.tar --sparse {at}/s.tar=2 --steps 1"
    " --teacher-prompts grid-2 --tolerance 100 --more-prompts 1000 --at-least 2",
    "registry": "--registry {at}/registry --promote 1",
    "label_corpus": "--images {at}/photos --config {at}/calibration/config.yaml --prompts aop"
    " --predictor {at}/registry@latest --scorer {at}/scorer/scorer.safetensors"
    " --mask-head {at}/head/mask_head.safetensors --out {at}/out",
    "export_onnx": "--sam tiny --predictor {at}/predictor/predictor.safetensors --out {at}/onnx",
    "verify_labels": "--images {at}/photos --labels {at}/out",
    "export_labels": "--labels {at}/out --to coco --out {at}/coco",
    "browse_labels": "--labels {at}/out --images {at}/photos --out {at}/gallery",
    "compare_labels": "--labels {at}/out --with {at}/out --out {at}/compared",
    "reproduce": "--sam tiny --data coco={at}/one.tar --limit 1 --tables amr-2 --out {at}/reproduced",
    "import_labels": "--labels {at}/out --from coco --file {at}/coco/instances.json --out {at}/corrected",
}
"""Arguments of each pipeline, where `{at}` is the place."""


@pytest.mark.slow
def test_every_pipeline(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mains = {name: importlib.import_module(f"pipelines.{name}").main for name in PIPELINES}
    without_ray(monkeypatch)
    training_without_ray(monkeypatch)
    monkeypatch.setattr("stages.train.sam.THRESHOLD_PHOTOS", 1)
    source = tmp_path / "source"
    (source / "photos").mkdir(parents=True)
    photos = {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate(["a", "b", "c", HELD_OUT])}
    write_shard(source / "s.tar", photos)
    write_shard(source / "one.tar", {"a": photos["a"]})
    for name in ("d", "e"):
        (source / f"photos/{name}.jpg").write_bytes(jpeg(ord(name), (96, 128)))
    save_random_hed(source / "hed.safetensors")
    save_random_nanodet(source / "nanodet.safetensors")
    filesystem, path = url_to_fs(bucket)
    filesystem.put(f"{source}/", path, recursive=True)
    for name, arguments in PIPELINES.items():
        assert mains[name](arguments.format(at=bucket).split()) == 0, name


def test_no_pipeline_is_left_out() -> None:
    assert set(PIPELINES) == {path.stem for path in (ROOT / "pipelines").glob("*.py")}
