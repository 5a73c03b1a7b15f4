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
TUNED = "tests/pipelines/test_train_sam.py::test_fine_tuning_changes_the_encoder_alone"
EFFICIENT_SAM = "tests/pipelines/test_distill_encoder.py::test_efficient_sam_is_made_here"
S3 = "tests/pipelines/test_label_on_s3.py::test_a_bucket_of_photos_and_a_shard"

OTHER_NAMES = "not run: README has it with other names"

LISTED = {
    "make label IMAGES=~/photos OUT=out": "not run: its set-up is CI's, what it runs is the second in README",
    "make test": "not run: runs this",
    "make reproduce SAM=vit_h CHECKPOINT=FILE DATA='sa1b=URI coco=URI lvis=URI'": (
        "not run: weights and data sets are not ours; tests/pipelines/test_reproduce.py runs the pipeline with "
        "tiny and made photos"
    ),
    "label_corpus.py --images ~/photos --out out --plan": FOLLOWED,
    "label_corpus.py --images ~/photos --out out": FOLLOWED,
    "browse_labels.py --labels out": FOLLOWED,
    "verify_labels.py --images ~/photos --labels out": FOLLOWED,
    "export_labels.py --labels out --to coco --out out/coco": FOLLOWED,
    "label_corpus.py --images ~/photos --sam vit_h --out out_vit_h": "not run: downloads 2.4 GB",
    "label_corpus.py --images ~/photos --sam vit_h --checkpoint sam_vit_h_4b8939.pth --out out_vit_h": (
        "not run: the file is 2.4 GB; tests/aopsam/sam compares the model's code with the authors', with random weights"
    ),
    (
        "ray job submit --working-dir . -- python pipelines/label_corpus.py --images s3://bucket/photos --out "
        "s3://bucket/out"
    ): "not run: needs a cluster; the command behind it is the next",
    "label_corpus.py --images s3://bucket/photos --out s3://bucket/out": S3,
    "retrain.py --corpus s3://bucket/photos --registry s3://bucket/registry --eval s3://bucket/val.json": EVERY,
    "label_corpus.py --images s3://bucket/photos --predictor s3://bucket/registry@latest --out s3://bucket/out": EVERY,
    "registry.py --registry s3://bucket/registry --rollback": RETRAIN,
    "pip install 'aopsam[onnx]'": "not run: CI installs the extra with the others",
    "export_onnx.py --sam vit_b --out runs/onnx": EVERY,
    "python examples/onnx_everything.py runs/onnx aop photo.jpg > masks.json": (
        "not run: tests/aopsam/onnx/test_export.py runs it on another model"
    ),
    "label_corpus.py --images ~/photos --prompts grid-32 --out runs/teacher": FOLLOWED,
    "build_prompt_maps.py --data runs/teacher --out runs/maps": FOLLOWED,
    "train_predictor.py --data runs/maps --out runs/predictor": FOLLOWED,
    "label_corpus.py --images ~/photos --predictor runs/predictor/predictor.safetensors --out out2": FOLLOWED,
    "evaluate.py --data SHARD --sam tiny --prompts aop,grid-16,gt-point --out runs/evaluation": FOLLOWED,
    "calibrate.py --data SHARD --sam tiny --out runs/calibration": "not run: the same as with --data corrected",
    "label_corpus.py --images ~/photos --prompts hierarchical --out out3": FOLLOWED,
    "compare_labels.py --labels out --with out3 --out differences": FOLLOWED,
    "export_labels.py --labels out --to label-studio --out ls --min-score 0.5": FOLLOWED,
    "import_labels.py --labels out --from label-studio --file export.json --out corrected --min-score 0.5": FOLLOWED,
    "calibrate.py --data corrected --sam tiny --out runs/calibration": FOLLOWED,
    "build_prompt_maps.py --data corrected --out runs/corrected_maps": FOLLOWED,
    "label_corpus.py --images ~/photos --config runs/calibration/config.yaml --out out4": FOLLOWED,
    "label_corpus.py --images PHOTOS --prompts grid-32 --out runs/teacher": OTHER_NAMES,
    "label_corpus.py --images PHOTOS --predictor runs/predictor/predictor.safetensors --out out": OTHER_NAMES,
    "label_corpus.py --images photos --out out --sam hf:runs/my-fine-tune": (
        "not run: tests/aopsam/sam/test_hugging_face.py labels with SAMs of transformers by the library"
    ),
    "pip install .": "not run: tests/test_package.py looks into the wheel; CI installs -e '.[dev]'",
    "pip install -e '.[corpus]'": "not run: CI installs -e '.[dev]', which has it",
    "curate.py --data SHARD… --keep 0.3 --out runs/curated": EVERY,
    "build_prompt_maps.py --data SHARD… --only runs/curated/curation.parquet --out runs/maps": EVERY,
    "train_predictor.py --data runs/maps --validate SHARD… --out runs/predictor": EVERY,
    "train_detector.py --data runs/maps --out runs/detector": EVERY,
    "train_scorer.py --data SHARD… --sam vit_b --out runs/scorer": EVERY,
    "train_mask_head.py --data SHARD… --out runs/mask_head": EVERY,
    "train_thing_head.py --data SHARD… --teacher nanodet_g.safetensors --out runs/thing_head": EVERY,
    (
        "distill_encoder.py --method decoupled --teacher vit_b --student mobile_sam --data PHOTOS --out runs/student"
    ): EVERY,
    "train_sam.py --data SHARD… --finetune mobile_sam --start runs/student/student.safetensors --out runs/sam": TUNED,
    (
        "distill_encoder.py --method sami --recipe paper --teacher vit_h --student efficient_sam_ti --data PHOTOS "
        "--out runs/sami"
    ): EFFICIENT_SAM,
    (
        "train_sam.py --data SHARD… --finetune efficient_sam_ti --finetune-decoder --start "
        "runs/sami/student.safetensors --out runs/es"
    ): EFFICIENT_SAM,
    "build_edge_maps.py --data SHARD… --hed hed_vgg16.safetensors --out runs/edges": EVERY,
    "train_sam.py --data SHARD… --edges runs/edges --trunk nanodet_g.safetensors --out runs/tiny": EVERY,
    "evaluate.py --data SHARD… --sam tiny --prompts aop,grid-16,gt-point --out runs/evaluation": OTHER_NAMES,
}
"""Command, without `python pipelines/` → test that runs its pipeline so, with smaller numbers and
other names; or `not run: ` and why."""


COMMANDS = {f"python pipelines/{text}" if re.match(r"\w+\.py ", text) else text: by for text, by in LISTED.items()}


def commands_of(text: str) -> list[str]:
    """Commands of a page's `sh` blocks and indented ones, without comments and doubled spaces."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.split("\n")]
    lines += re.findall(r"^ {4}((?:make|pip|python|ray) .*)$", text, re.MULTILINE)
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
    text = "# A\n```sh\nmake test\npython pipelines/new.py --all  # what is new\n\n```\n\n    make all\n\nmake no\n"
    assert unlisted([text], COMMANDS) == ["python pipelines/new.py --all", "make all"]


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
