"""What `pip install .` brings: the library whole, light, and free to use."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.licences import COPYLEFT, copyleft, licences
from tests.helpers import ROOT
from tests.test_layering import _files, _imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {"huggingface_hub", "numba", "onnx", "onnxruntime", "openvino", "pillow_heif", "transformers"}
"""Packages that extras bring, imported only where an option asks for them."""

LABEL_A_PHOTO = """
import pkgutil, sys
for name in ("ray", "pyarrow", "fsspec", "s3fs", "tensorboard", "yaml", "psutil", "tyro", *sys.argv[2:]):
    sys.modules[name] = None
import aopsam
assert aopsam.__file__.startswith(sys.argv[1]), aopsam.__file__
assert "torch" not in sys.modules
for module in pkgutil.walk_packages(aopsam.__path__, "aopsam."):
    if module.name != "aopsam.masks.compiled":  # the extra `fast`
        __import__(module.name)
import numpy as np
rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
options = {"pred_iou_thresh": 0, "stability_score_thresh": 0}
print(len(aopsam.AutoMaskGenerator(aopsam.load_sam("tiny"), **options).generate(rgb)))
"""


def test_the_wheel_holds_the_library_and_labels_a_photo_without_ray(tmp_path: Path) -> None:
    tree, site = tmp_path / "tree", tmp_path / "site"
    tree.mkdir()
    shutil.copytree(ROOT / "aopsam", tree / "aopsam", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 60e6
    files = {path.relative_to(tree).as_posix() for path in (tree / "aopsam").rglob("*") if path.is_file()}
    assert {"aopsam/py.typed", "aopsam/weights/tiny.safetensors", "aopsam/report/gallery.js"} <= files
    with ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
        opened.extractall(site)
    assert held == files

    command = [sys.executable, "-c", LABEL_A_PHOTO, str(site), *OPTIONAL]
    said = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 0


def test_what_the_library_imports_is_what_it_depends_on() -> None:
    names = {name.split(".")[0] for path in _files("aopsam") for name in _imports(path)}
    others = names - set(sys.stdlib_module_names) - OPTIONAL - {"aopsam"}
    home = packages_distributions()
    imported = {canonicalize_name(home[name][0]) for name in others}
    assert imported == {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}


def test_no_gpl_by_default() -> None:
    table = licences({"default": PROJECT["dependencies"]}, PROJECT["name"])["default"]
    assert {"torch", "numpy", "mpmath"} <= set(table)  # of what we ask for, of what that asks for
    assert not {"ray", "pyarrow", "pandas"} & set(table)
    assert "not installed here" not in table.values()
    assert copyleft(table) == []


def _install(folder: Path, name: str, *lines: str) -> None:
    (folder / f"{name}-1.dist-info").mkdir()
    text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1", *lines, ""])
    (folder / f"{name}-1.dist-info" / "METADATA").write_text(text)


def test_licences_of_what_is_asked_for_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "made_a", "License-Expression: MIT", "Requires-Dist: made-b[more]", "Requires-Dist: made_a")
    _install(
        tmp_path,
        "made_b",
        "Classifier: License :: OSI Approved :: GNU Affero General Public License v3",
        "License: other",
        "Requires-Dist: made_c; extra == 'more'",
        "Requires-Dist: made_d; extra == 'less'",
        "Requires-Dist: made_d; python_version < '3'",
    )
    _install(tmp_path, "made_c", "License: Apache 2.0")
    _install(tmp_path, "made_d")
    monkeypatch.syspath_prepend(str(tmp_path))
    tables = licences({"default": ["made-a>0"], "extra": ["own[default]", "made_a", "made_d", "made_e"]}, "Own")
    affero = "GNU Affero General Public License v3"
    assert tables == {
        "default": {"made-a": "MIT", "made-b": affero, "made-c": "Apache 2.0"},
        "extra": {"made-d": "not stated", "made-e": "not installed here"},
    }
    assert copyleft(tables["default"]) == ["made-b"]


@pytest.mark.parametrize(
    ("licence", "bad"),
    [
        ("AGPL-3.0-only", True),
        ("MIT AND GPL-2.0-or-later", True),
        ("GNU General Public License v3 (GPLv3)", True),
        ("LGPL-2.1", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", False),
    ],
)
def test_a_gpl_is_known_by_its_names(licence: str, bad: bool) -> None:
    assert bool(re.search(COPYLEFT, licence)) == bad
