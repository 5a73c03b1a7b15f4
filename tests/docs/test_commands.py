"""Every command of README and docs: run by a test, or listed with the reason why not; all are parsed as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from tests.helpers import ROOT

PAGES = ("README.md", "docs/*.md")

FOLLOWED = "tests/docs/test_readme.py::test_the_readme_is_followed_in_an_empty_folder"
EVERY = "tests/pipelines/test_every_place.py::test_every_pipeline"
RETRAIN = "tests/pipelines/test_retrain.py::test_killed_in_each_phase_then_in_use_then_spoiled_then_back"
TRAIN_SAM = "tests/pipelines/test_train_sam.py::test_fine_tuning_changes_the_encoder_alone"
EFFICIENT_SAM = "tests/pipelines/test_distill_encoder.py::test_efficient_sam_is_made_here"
S3 = "tests/pipelines/test_label_on_s3.py::test_a_bucket_of_photos_and_a_shard"
PIPELINE = "python pipelines/"

COMMANDS = {
    "make label IMAGES=~/photos OUT=out": "not run: its set-up is CI's, what it runs is the next line but one of README",
    "make test": "not run: runs this",
    "make reproduce SAM=vit_h CHECKPOINT=FILE DATA='sa1b=URI coco=URI lvis=URI'": "not run: weights and data sets are not"
    " ours; tests/pipelines/test_reproduce.py runs the pipeline with tiny and made photos",
    f"{PIPELINE}label_corpus.py --images ~/photos --out out --plan": FOLLOWED,
    f"{PIPELINE}label_corpus.py --images ~/photos --out out": FOLLOWED,
    f"{PIPELINE}browse_labels.py --labels out": FOLLOWED,
    f"{PIPELINE}verify_labels.py --images ~/photos --labels out": FOLLOWED,
    f"{PIPELINE}export_labels.py --labels out --to coco --out out/coco": FOLLOWED,
    f"{PIPELINE}label_corpus.py --images ~/photos --sam vit_h --out out_vit_h": "not run: downloads 2.4 GB",
    f"{PIPELINE}label_corpus.py --images ~/photos --sam vit_h --checkpoint sam_vit_h_4b8939.pth --out out_vit_h": "not run:"
    " the file is 2.4 GB; tests/aopsam/sam compares the model's code with the authors', with random weights",
    "ray job submit --working-dir . -- python pipelines/label_corpus.py --images s3://bucket/photos"
    " --out s3://bucket/out": "not run: needs a cluster; the command behind it is the next",
    f"{PIPELINE}label_corpus.py --images s3://bucket/photos --out s3://bucket/out": S3,
    f"{PIPELINE}retrain.py --corpus s3://bucket/photos --registry s3://bucket/registry --eval s3://bucket/val.json": EVERY,
    f"{PIPELINE}label_corpus.py --images s3://bucket/photos --predictor s3://bucket/registry@latest"
    " --out s3://bucket/out": EVERY,
    f"{PIPELINE}registry.py --registry s3://bucket/registry --rollback": RETRAIN,
    f"{PIPELINE}label_corpus.py --images ~/photos --prompts grid-32 --out runs/teacher": FOLLOWED,
    f"{PIPELINE}build_prompt_maps.py --data runs/teacher --out runs/maps": FOLLOWED,
    f"{PIPELINE}train_predictor.py --data runs/maps --out runs/predictor": FOLLOWED,
    f"{PIPELINE}label_corpus.py --images ~/photos --predictor runs/predictor/predictor.safetensors --out out2": FOLLOWED,
    f"{PIPELINE}evaluate.py --data SHARD --sam tiny --prompts aop,grid-16,gt-point --out runs/evaluation": FOLLOWED,
    f"{PIPELINE}calibrate.py --data SHARD --sam tiny --out runs/calibration": "not run: the same as with --data corrected",
    f"{PIPELINE}label_corpus.py --images ~/photos --prompts hierarchical --out out3": FOLLOWED,
    f"{PIPELINE}compare_labels.py --labels out --with out3 --out differences": FOLLOWED,
    f"{PIPELINE}export_labels.py --labels out --to label-studio --out ls --min-score 0.5": FOLLOWED,
    f"{PIPELINE}import_labels.py --labels out --from label-studio --file export.json --out corrected"
    " --min-score 0.5": FOLLOWED,
    f"{PIPELINE}calibrate.py --data corrected --sam tiny --out runs/calibration": FOLLOWED,
    f"{PIPELINE}build_prompt_maps.py --data corrected --out runs/corrected_maps": FOLLOWED,
    f"{PIPELINE}label_corpus.py --images ~/photos --config runs/calibration/config.yaml --out out4": FOLLOWED,
    f"{PIPELINE}label_corpus.py --images PHOTOS --prompts grid-32 --out runs/teacher": "not run: README's, other names",
    f"{PIPELINE}label_corpus.py --images PHOTOS --predictor runs/predictor/predictor.safetensors --out out": "not run:"
    " README's, other names",
    f"{PIPELINE}curate.py --data SHARD… --keep 0.3 --out runs/curated": EVERY,
    f"{PIPELINE}build_prompt_maps.py --data SHARD… --only runs/curated/curation.parquet --out runs/maps": "not run: EVERY"
    " makes maps of a shard; tests/pipelines/test_curate.py uses --only",
    f"{PIPELINE}train_predictor.py --data runs/maps --validate SHARD… --out runs/predictor": EVERY,
    f"{PIPELINE}train_detector.py --data runs/maps --out runs/detector": EVERY,
    f"{PIPELINE}train_scorer.py --data SHARD… --sam vit_b --out runs/scorer": EVERY,
    f"{PIPELINE}distill_encoder.py --method decoupled --teacher vit_b --student mobile_sam --data PHOTOS"
    " --out runs/student": EVERY,
    f"{PIPELINE}train_sam.py --data SHARD… --finetune mobile_sam --start runs/student/student.safetensors"
    " --out runs/sam": TRAIN_SAM,
    f"{PIPELINE}distill_encoder.py --method sami --recipe paper --teacher vit_h --student efficient_sam_ti --data PHOTOS"
    " --out runs/sami": EFFICIENT_SAM,
    f"{PIPELINE}train_sam.py --data SHARD… --finetune efficient_sam_ti --finetune-decoder"
    " --start runs/sami/student.safetensors --out runs/es": EFFICIENT_SAM,
    f"{PIPELINE}build_edge_maps.py --data SHARD… --hed hed_vgg16.safetensors --out runs/edges": EVERY,
    f"{PIPELINE}train_sam.py --data SHARD… --edges runs/edges --trunk nanodet_g.safetensors --out runs/tiny": EVERY,
    f"{PIPELINE}evaluate.py --data SHARD… --sam tiny --prompts aop,grid-16,gt-point --out runs/evaluation": "not run:"
    " README's, with more shards",
}
"""Command → test that runs its pipeline so, with smaller numbers and other names; or `not run: ` and why."""


def commands_of(text: str) -> list[str]:
    """Commands of a page's `sh` blocks, without comments and doubled spaces."""
    lines = [
        line for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for line in block.split("\n")
    ]
    bare = [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines]
    return [line for line in bare if line]


def pages() -> list[Path]:
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def unlisted(texts: Sequence[str], table: dict[str, str]) -> list[str]:
    return [command for text in texts for command in commands_of(text) if command not in table]


def test_every_command_is_listed_and_none_is_listed_that_is_gone() -> None:
    texts = [path.read_text(encoding="utf-8") for path in pages()]
    assert unlisted(texts, COMMANDS) == [], "run them by a test, or say in COMMANDS why not"
    assert set(COMMANDS) - {command for text in texts for command in commands_of(text)} == set()


def test_a_new_command_is_found() -> None:
    text = "# A\n```sh\nmake test\npython pipelines/new.py --all  # what is new\n\n```\n```python\nimport aopsam\n```\n"
    assert unlisted([text], COMMANDS) == ["python pipelines/new.py --all"]


@pytest.mark.parametrize("where", sorted({where for where in COMMANDS.values() if not where.startswith("not run: ")}))
def test_a_test_that_is_named_is_there(where: str) -> None:
    file, _, test = where.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"\ndef {test}(" in text
    named = {re.search(r"pipelines/(\w+)\.py", command).group(1) for command, by in COMMANDS.items() if by == where}
    assert where == FOLLOWED or {name for name in named if name not in text} == set()


@pytest.mark.parametrize("command", [command for command in COMMANDS if "pipelines/" in command])
def test_a_command_has_the_flags_of_its_pipeline(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.config.command_line import parse

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/calibration").mkdir(parents=True)
    (tmp_path / "runs/calibration/config.yaml").write_text("prompts: grid-2\n")
    _, name, arguments = re.split(r"pipelines/(\w+)\.py", command)
    module = import_module(f"pipelines.{name}")
    words = shlex.split(arguments.replace("…", ""))
    if hasattr(module, "parse_arguments"):
        module.parse_arguments(words)
    else:
        parse(module.Arguments, words)
