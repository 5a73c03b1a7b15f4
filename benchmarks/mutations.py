"""Do the tests notice when a step of the papers or one of their numbers changes? Forty named mutations.

    python benchmarks/mutations.py
    python benchmarks/mutations.py --only "k of T_elim" -j 1

Each is applied to a temporary copy of the tree, never to the tree itself, and the tests of its module run there; a
mutation dies where one of them fails. The same tests must pass on a copy that is not changed, last of all.
Exit status: 0 where all die; 1 where one survives, its text is not in its file, or the unchanged copy fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("aopsam", "benchmarks", "docs", "pipelines", "pyproject.toml", "samples", "schemas", "stages", "tests")
"""Files of the tree that tests read."""
SHARED = (
    "torch",
    "torch._dynamo",
    "scipy.ndimage",
    "sklearn.cluster",
    "skimage.measure",
    "PIL.ImageOps",
    "pytest",
)
"""Modules imported once, before the processes that share them part ways: most of a test's time."""


@dataclass(frozen=True)
class Mutation:
    """One change that a test must notice.

    Attributes:
        name: what is changed.
        file: path in the tree; empty for no change at all.
        old: text that is in the file once.
        new: text in its place.
        tests: files of tests that are run.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def of(file: str, *tests: str) -> partial[Mutation]:
    """Return a maker of mutations of one file: of `tests/` without `test_` and suffix."""
    paths = (f"{Path('tests', test).parent}/test_{Path(test).name}.py" for test in tests)
    return partial(Mutation, file=file, tests=tuple(paths))


BY_HAND, OPTIMIZERS, CONSTANTS = "aopsam/prompting/aop_by_hand", "aopsam/training/optimizers", "docs/constants"
NETWORK = of("aopsam/predictor/network.py", "aopsam/predictor/network")
TARGETS = of("aopsam/predictor/targets.py", "aopsam/predictor/targets")
KERNELS = of("aopsam/predictor/kernels.py", CONSTANTS)
MAPS = of("stages/prompt_maps/target.py", "stages/prompt_maps/target")
LOSSES = of("aopsam/training/map_losses.py", "aopsam/training/predictor")
PREDICTOR = of("aopsam/training/predictor.py", OPTIMIZERS)
SAMPLING = of("aopsam/predictor/sampling.py", CONSTANTS)
ASF = of("aopsam/prompting/asf.py", BY_HAND, "aopsam/prompting/asf")
AOP = of("aopsam/prompting/aop.py", BY_HAND)
REGISTRY = of("aopsam/sam/registry.py", BY_HAND, CONSTANTS)
DECODE = of("aopsam/sam/decode.py", "aopsam/sam/decode")
DETECT = of("aopsam/detector/inference.py", "aopsam/detector/inference")
DETECT_NUMBERS = of("aopsam/detector/inference.py", CONSTANTS)
OAS = of("aopsam/prompting/oas.py", "aopsam/prompting/oas")
RECIPES = of("aopsam/training/recipes.py", OPTIMIZERS)
ATTENTION = of("aopsam/prompting/attention.py", "aopsam/prompting/attention")
ATTENTION_NUMBERS = of("aopsam/prompting/attention.py", CONSTANTS)
MERGE = of("aopsam/masks/merge.py", "aopsam/masks/duplicates")
NMS = of("aopsam/masks/nms.py", "aopsam/torchvision")
HIERARCHICAL = of("aopsam/prompting/hierarchical.py", "aopsam/prompting/strategies")
REFINE = of("aopsam/masks/refine.py", "aopsam/masks/refine")
SAMI = of("aopsam/training/sami.py", "aopsam/training/sami")
SAMI_NUMBERS = of("aopsam/training/sami.py", OPTIMIZERS)
STUDENT = of("aopsam/training/student.py", OPTIMIZERS)
FINETUNE = of("aopsam/training/finetune.py", OPTIMIZERS)
STABILITY = of("aopsam/masks/stability.py", "aopsam/masks/filters")
RLE = of("aopsam/masks/rle.py", "aopsam/masks/rle")
GREEDY = of("aopsam/metrics/greedy.py", "aopsam/metrics/greedy")
CHECKPOINTS = of("aopsam/sam/checkpoints.py", "aopsam/sam/checkpoints")

MUTATIONS = (
    NETWORK("third convolution of the image branch", old=", _conv(32, 32))\n", new=")\n"),
    TARGETS("sum of overlapping prompts", old='if combine == "max" else window', new='if combine == "sum" else window'),
    KERNELS(
        "sigma of medium",
        old='"medium": TargetPreset(box=3, sigma=2.0)',
        new='"medium": TargetPreset(box=3, sigma=3.0)',
    ),
    MAPS("recorded points become interior", old='if source == "recorded" else', new='if source == "interior" else'),
    LOSSES(
        "squared error becomes absolute",
        old="(logits.sigmoid() - target).square()\n\n\ndef cross",
        new="(logits.sigmoid() - target).abs()\n\n\ndef cross",
    ),
    PREDICTOR("Adam becomes AdamW", old="torch.optim.Adam([", new="torch.optim.AdamW(["),
    PREDICTOR("Adam becomes SGD", old="torch.optim.Adam([", new="torch.optim.SGD(["),
    SAMPLING("threshold of sampling", old="threshold: float = 0.2", new="threshold: float = 0.25"),
    SAMPLING("spacing of sampling", old="spacing: int = 6", new="spacing: int = 2"),
    ASF("order by confidence", old="np.argsort(-smooth[rows, columns]", new="np.argsort(smooth[rows, columns]"),
    ASF("M_i without its norm (Eq. 1)", old="functional.normalize(means, dim=1).sum(0)", new="means.sum(0)"),
    ASF("C as a sum, not a mean (Eq. 2)", old="self._sum / self._count)", new="self._sum)"),
    ASF(
        "C over one round alone",
        old="self._sum += functional.normalize(means, dim=1).sum(0)\n        self._count += len(means)",
        new="self._sum = functional.normalize(means, dim=1).sum(0)\n        self._count = len(means)",
    ),
    ASF("T_elim without the IoU (Eq. 3)", old="(best_iou * similarity).mean()", new="similarity.mean()"),
    AOP("worst IoU in place of the best (Eq. 3)", old="predicted_iou.max(dim=1)", new="predicted_iou.min(dim=1)"),
    AOP(
        "T_elim of the waiting prompts",
        old="self._on_cells(photo, decoded.prompts))",
        new="self._on_cells(photo, waiting))[: len(decoded.prompts)]",
    ),
    REGISTRY("k of T_elim", old="elimination_k: float = 1.3", new="elimination_k: float = 1.25"),
    DECODE("cells of the padding", old="covered[:, content[0] :] = 0\n", new="pass\n"),
    DECODE(
        "masks shrink by their maximum, not by area",
        old="functional.avg_pool2d(covered",
        new="functional.max_pool2d(covered",
    ),
    DETECT_NUMBERS("320 boxes", old="MAX_BOXES = 320", new="MAX_BOXES = 256"),
    DETECT("NMS of boxes", old="NMS_THRESH = 0.75", new="NMS_THRESH = 0.7"),
    OAS("centres of boxes", old="(boxes[:, :2] + boxes[:, 2:]) / 2", new="boxes[:, :2]"),
    RECIPES(
        "weight decay of the detector",
        old="weight_decay: float = 0.02\n    average",
        new="weight_decay: float = 0.05\n    average",
    ),
    ATTENTION_NUMBERS("block and head of Hiera-L", old="Head(23, 2)", new="Head(23, 0)"),
    ATTENTION("medoid of a cluster", old=".sum(axis=1).argmin()", new=".sum(axis=1).argmax()"),
    MERGE("merging by the larger mask", old="np.minimum(area[:, None], area)", new="np.maximum(area[:, None], area)"),
    NMS("NMS begins with the worst", old="argsort(descending=True, stable=True)", new="argsort(stable=True)"),
    HIERARCHICAL("settled by all masks, not by one", old=".any(dim=0)", new=".all(dim=0)"),
    REFINE("fragmented masks to the centre (AMR)", old='return rule == "prose"', new='return rule == "formula"'),
    REFINE("70 % of the depth (AMR)", old="DEEP = 0.7", new="DEEP = 0.1"),
    SAMI_NUMBERS("betas of SAMI", old="(0.9, 0.95)", new="(0.9, 0.999)"),
    SAMI("loss on masked tokens alone", old="(visible | masked).unsqueeze", new="masked.unsqueeze"),
    STUDENT("teacher that is not frozen", old="teacher.eval().requires_grad_(False)", new="teacher"),
    STUDENT("weight decay of distillation", old="weight_decay: float = 0.05", new="weight_decay: float = 0.1"),
    FINETUNE("betas of fine-tuning", old="betas=(0.9, 0.999)", new="betas=(0.9, 0.95)"),
    FINETUNE("weight decay of fine-tuning", old="weight_decay: float = 0.1", new="weight_decay: float = 0.05"),
    STABILITY("offset of the stability score", old="mask_threshold - offset", new="mask_threshold"),
    RLE("rows for columns in RLE", old="reshape(width, height).T", new="reshape(height, width)"),
    GREEDY("pairs that are not one to one", old="row not in rows and ", new=""),
    CHECKPOINTS("digest that is not compared", old=") != remote.sha256:", new=") == '':"),
)


def changed(text: str, mutation: Mutation) -> str:
    """Return a file's text with a mutation.

    Raises:
        ValueError: what is to be changed is not there, or more than once.
    """
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: {mutation.old!r} is there {text.count(mutation.old)} times, expected once")
    return text.replace(mutation.old, mutation.new)


def copy_tree(source: Path, target: Path) -> None:
    """Copy what tests read."""
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        else:
            shutil.copy2(source / name, target / name)


def outcome(mutation: Mutation, tree: Path) -> tuple[str, str]:
    """Run the tests of a mutation in a copy of the tree; return `killed`, `survived` or `broken`, and pytest's words.

    Called in a process of its own, which it changes.
    """
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_tree(tree, copy)
        if mutation.file:
            file = copy / mutation.file
            try:
                file.write_text(changed(file.read_text(encoding="utf-8"), mutation), encoding="utf-8")
            except ValueError as error:
                return "broken", str(error)
        os.chdir(copy)
        sys.path[:] = [folder, *(place for place in sys.path if place not in ("", str(ROOT), str(ROOT / "benchmarks")))]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", f"--rootdir={folder}", *mutation.tests])
            sys.stdout.flush()
            said.seek(0)
            words = said.read()
        os.chdir(ROOT)
    return {0: "survived", 1: "killed"}.get(int(status), "broken"), words


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutations; return the exit status."""
    parser = argparse.ArgumentParser(description="do the tests notice changes of the papers' steps and numbers?")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[mutation.name for mutation in MUTATIONS])
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="mutations at the same time")
    arguments = parser.parse_args(argv)
    wanted = [mutation for mutation in MUTATIONS if not arguments.only or mutation.name in arguments.only]
    tests = tuple(sorted({test for mutation in wanted for test in mutation.tests}))
    tried = [*wanted, Mutation("nothing", "", "", "", tests)]
    for name in SHARED:
        import_module(name)
    killed, sound = 0, False
    processes = multiprocessing.get_context("fork").Pool(arguments.jobs, maxtasksperchild=1)
    with processes as pool, tempfile.TemporaryDirectory() as frozen:
        copy_tree(ROOT, Path(frozen))  # all mutations are of one tree, whatever is edited meanwhile
        for mutation, (found, words) in zip(tried, pool.imap(partial(outcome, tree=Path(frozen)), tried), strict=True):
            if mutation.file:
                killed += found == "killed"
            else:
                sound = found == "survived"
            print(f"{found:8}  {mutation.name}  ({mutation.file or f'{len(tests)} files of tests'})", flush=True)
            if found == "broken" or not (mutation.file or sound):
                print(words[-2000:], flush=True)
    print(f"{killed} of {len(wanted)} killed; unchanged, the tests {'pass' if sound else 'FAIL'}")
    return 0 if sound and killed == len(wanted) else 1


if __name__ == "__main__":
    raise SystemExit(main())
