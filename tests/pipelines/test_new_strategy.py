"""A strategy is one file and one line: a throw-away one labels a corpus, and its weights and options are known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

CORNERS = '''
"""`corners`: four points near the corners, kept apart by a file's digest."""

from collections.abc import Generator
from pathlib import Path
from typing import Annotated

import numpy as np

from aopsam._options import Limits
from aopsam.prompting.fates import Fates
from aopsam.prompting.strategy import Decoded, Strategy
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class Corners(Strategy):
    """Four points at a distance from the corners."""

    def __init__(self, *, inset: Annotated[float, Limits(0, 0.5)] = 0.1, table: Path | None = None) -> None:
        self.inset, self.table = inset, table

    def weights(self) -> dict[str, dict[str, str]]:
        return {"corner table": {"sam": "tiny", "sha256": str(self.table)}}

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        shares = np.array([[x, y] for x in (self.inset, 1 - self.inset) for y in (self.inset, 1 - self.inset)])
        yield Prompts.from_points(shares * [photo.hw[1], photo.hw[0]])
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with `corners` added: one file, one line (and its import) in the registry."""
    root = tmp_path_factory.mktemp("checkout")
    for room in ("aopsam", "schemas", "stages", "pipelines"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "aopsam/prompting/corners.py").write_text(CORNERS)
    shutil.copytree(ROOT / "tests/helpers", root / "tests/helpers", ignore=shutil.ignore_patterns("__pycache__"))
    registry = root / "aopsam/prompting/__init__.py"
    text = registry.read_text()
    text = text.replace(
        "from aopsam.prompting.grid", "from aopsam.prompting.corners import Corners\nfrom aopsam.prompting.grid"
    )
    registry.write_text(text.replace('    "grid-N": Grid,', '    "grid-N": Grid,\n    "corners": Corners,'))
    return root


LABEL = """
import sys, pytest
from pipelines import label_corpus
from tests.helpers.in_process import without_ray
without_ray(pytest.MonkeyPatch())
sys.exit(label_corpus.main(sys.argv[1:]))
"""


def label(checkout: Path, out: Path, prompts: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LABEL, "--images", str(ROOT / "samples/chelsea.jpg")]
    command += ["--out", str(out), "--prompts", prompts, "--actors", "1"]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return subprocess.run(command, capture_output=True, text=True, cwd=checkout, env=environment, check=False)


@pytest.mark.slow
def test_a_new_strategy_labels_a_corpus(checkout: Path, tmp_path: Path) -> None:
    ended = label(checkout, tmp_path / "out", "corners(inset=0.3,table=corners.bin)")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["prompts_proposed"], manifest["prompts_decoded"]) == (4, 4)
    # Its file is absolute, for workers run elsewhere; its weights are in the manifest.
    file = str(checkout / "corners.bin")
    assert manifest["configuration"]["strategy_options"] == {"inset": 0.3, "table": file}
    assert manifest["configuration"]["weights"]["corner table"] == {"sam": "tiny", "sha256": file}


@pytest.mark.slow
def test_its_options_are_checked(checkout: Path, tmp_path: Path) -> None:
    ended = label(checkout, tmp_path / "out", "corners(insert=0.1)")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "unknown option 'insert'; did you mean inset? choose from inset, table" in ended.stderr
