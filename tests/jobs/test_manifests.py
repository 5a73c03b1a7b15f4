from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from stages.config.command_line import parse
from tests.helpers import ROOT

MANIFESTS = sorted((ROOT / "jobs").glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    return document


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    spec = spec.get("jobTemplate", spec)
    return spec.get("rayClusterSpec", spec)


def pods_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(manifest)
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def pipeline_command(line: str) -> list[str] | None:
    """Script and arguments of a `… python …pipelines/NAME.py ARGUMENTS` line, as words."""
    words = shlex.split(line)
    for place, word in enumerate(words):
        if re.search(r"pipelines/\w+\.py$", word):
            assert words[place - 1] == "python"
            return words[place:]
    return None


def commands_of(path: Path) -> list[list[str]]:
    """Those of a manifest's entrypoint, of the script that it runs, and in its opening comment."""
    spec = load(path)["spec"]
    entrypoint = spec.get("jobTemplate", spec).get("entrypoint", "")
    lines = [entrypoint]
    lines += [line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#   ray job submit")]
    if entrypoint.startswith("sh "):
        script = ROOT / shlex.split(entrypoint)[1].removeprefix("/opt/aopsam/")
        lines += [line for line in script.read_text().splitlines() if line.startswith("python ")]
    return [command for command in map(pipeline_command, lines) if command is not None]


def test_there_is_one_of_each_kind() -> None:
    assert sorted(load(path)["kind"] for path in MANIFESTS) == ["RayCluster", "RayCronJob", "RayJob"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_commands_name_pipelines_and_arguments_that_exist(path: Path) -> None:
    commands = commands_of(path)
    assert commands
    for script, *arguments in commands:
        name = Path(script).stem
        assert (ROOT / "pipelines" / f"{name}.py").is_file()
        kind = importlib.import_module(f"pipelines.{name}").Arguments
        assert parse(kind, arguments).out  # SystemExit, with a line that says why, where one does not fit


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_entrypoint_is_one_plain_command(path: Path) -> None:
    """KubeRay pastes it, unquoted, into a shell of the submitting pod."""
    spec = load(path)["spec"]
    assert not re.search(r"[^\w ./:=-]", spec.get("jobTemplate", spec).get("entrypoint", ""))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_cluster_is_of_one_piece(path: Path) -> None:
    manifest = load(path)
    assert manifest["apiVersion"] == "ray.io/v1"
    cluster = cluster_of(manifest)
    dockerfile = (ROOT / "jobs" / "Dockerfile").read_text()
    assert f"rayproject/ray:{cluster['rayVersion']}-" in dockerfile
    project = (ROOT / "pyproject.toml").read_text()
    allowed = re.search(r'"ray\[data,train\]([^"]+)"', project)
    assert allowed is not None
    assert cluster["rayVersion"] in SpecifierSet(allowed.group(1))
    assert cluster["authOptions"] == {"mode": "token"}  # Ray's default: all nodes need the same one
    images = {container["image"] for pod in pods_of(manifest) for container in pod["containers"]}
    assert len(images) == 1
    assert images.pop() in (ROOT / "jobs" / "README.md").read_text()
    for pod in pods_of(manifest):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_gpu_cluster_has_a_gpu() -> None:
    pods = pods_of(load(ROOT / "jobs" / "gpu_cluster.yaml"))
    assert [pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods] == [None, "1"]


def test_the_readme_names_every_file_and_no_other() -> None:
    readme = (ROOT / "jobs" / "README.md").read_text()
    files = {path.name for path in (ROOT / "jobs").iterdir()} - {"README.md"}
    assert set(re.findall(r"^\| `([^`]+)`", readme, re.MULTILINE)) == files
    named = re.findall(r"jobs/(\w+\.\w+)", readme) + re.findall(r"pipelines/(\w+\.py)", readme)
    for name in named:
        assert (ROOT / "jobs" / name).is_file() or (ROOT / "pipelines" / name).is_file()
