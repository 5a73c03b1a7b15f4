"""Whether a manifest of `jobs/` can work: against schemas, the pipelines' own parsers and nodes of a stated size."""

from __future__ import annotations

import importlib
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from ray.autoscaler._private.kuberay.autoscaling_config import _generate_available_node_types_from_ray_cr_spec
from ray.autoscaler._private.kuberay.utils import parse_quantity

from stages.config.command_line import parse
from stages.engine.resources import MEMORY_OF_AN_ACTOR, Machines, choose_resources
from stages.storage.errors import BadInput
from tests.helpers import ROOT

Manifest = dict[str, Any]
SCHEMAS = yaml.safe_load((ROOT / "tests" / "jobs" / "schemas.yaml").read_text())
HOME = "/opt/aopsam/"
"""Where the image holds the repository."""
DAEMONS = {"cpu": 0.5, "memory": 0.5 * 2**30}
"""What a node's own pods (network, logs, devices) are supposed to ask for."""
SUBMITTER = {"cpu": 0.5, "memory": 200 * 2**20}
"""What KubeRay's pod that submits a RayJob asks for."""
AUTOSCALER = {"cpu": 0.5, "memory": 512 * 2**20}
"""What KubeRay's container beside an autoscaling head asks for."""


def read(text: str) -> list[Manifest]:
    """Return the manifests of a file, and those in its ConfigMaps."""
    found: list[Manifest] = []
    for document in yaml.safe_load_all(text):
        found.append(document)
        if document["kind"] == "ConfigMap":
            found += [inner for held in document["data"].values() for inner in yaml.safe_load_all(held)]
    return found


def schema_errors(manifest: Manifest) -> list[str]:
    """Return what is wrong with a manifest's fields, a line each."""
    kind = manifest.get("kind")
    if kind not in SCHEMAS["$defs"]:
        return [f"kind {kind}: unknown"]
    validator = Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMAS["$defs"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def job_of(manifest: Manifest) -> Manifest:
    """Return the spec of the RayJob that a manifest is or makes; empty where it is something else."""
    spec = manifest.get("spec", {})
    return {"RayJob": spec, "RayCronJob": spec.get("jobTemplate", {})}.get(manifest["kind"], {})


def cluster_of(manifest: Manifest) -> Manifest:
    """Return the spec of the Ray cluster that a manifest starts; empty where it starts none."""
    return manifest["spec"] if manifest["kind"] == "RayCluster" else job_of(manifest).get("rayClusterSpec", {})


def commands(text: str) -> list[list[str]]:
    """Return script and arguments of every pipeline that a manifest, its opening comment or a text names."""
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#   ray job submit")]
    lines += [entrypoint for manifest in read(text) if (entrypoint := job_of(manifest).get("entrypoint"))]
    return [command for command in map(pipeline_command, lines) if command]


def pipeline_command(line: str) -> list[str]:
    """Return script and arguments of a `… python …pipelines/NAME.py ARGUMENTS` line; empty where it has none."""
    words = shlex.split(line)
    for place, word in enumerate(words):
        if place and words[place - 1] == "python" and re.search(r"pipelines/\w+\.py$", word):
            return words[place:]
    return []


def arguments_of(command: Sequence[str]) -> Any:
    """Return what a pipeline's own parser makes of a command.

    Raises:
        ValueError: no such pipeline, or arguments that do not fit; the message says which.
    """
    script, *words = command
    if not (ROOT / script.removeprefix(HOME)).is_file():
        raise ValueError(f"{script}: no such pipeline")
    kind = importlib.import_module(f"pipelines.{Path(script).stem}").Arguments
    with redirect_stderr(io.StringIO()) as said, redirect_stdout(said):
        try:
            return parse(kind, words)
        except (SystemExit, BadInput) as error:
            raise ValueError(f"{shlex.join(command)}: {said.getvalue()} {error}") from error


@dataclass(frozen=True)
class Node:
    """A machine of a Kubernetes cluster: CPUs, GiB of memory, GPUs."""

    cpus: int
    gib: int
    gpus: int = 0

    def free(self) -> dict[str, float]:
        """Return what is left for pods: without the kubelet's share, as GKE reserves it, and without daemons."""
        steps = ((4, 0.25), (4, 0.2), (8, 0.1), (112, 0.06))
        reserved, left = 0.1, float(self.gib)
        for width, share in steps:
            reserved += share * min(width, left)
            left -= min(width, left)
        memory = (self.gib - reserved) * 2**30
        return {"cpu": self.cpus - DAEMONS["cpu"], "memory": memory - DAEMONS["memory"], "gpu": self.gpus}


def stated_nodes(text: str) -> list[Node]:
    """Return the nodes that a line such as `1 of 4 CPUs, 16 GiB; 2 of 8 CPUs, 32 GiB, 1 GPU` names."""
    found = re.findall(r"(\d+) of (\d+) CPUs, (\d+) GiB(?:, (\d+) GPU)?", text)
    return [Node(int(cpus), int(gib), int(gpus or 0)) for many, cpus, gib, gpus in found for _ in range(int(many))]


def misfits(manifest: Manifest, nodes: Sequence[Node]) -> list[str]:
    """Place a manifest's pods on nodes, and its pipeline's processes on its Ray cluster; return what finds no place."""
    groups = cluster_of(manifest)["workerGroupSpecs"]
    ranges = [(one["groupName"], one["replicas"], one["minReplicas"], one["maxReplicas"]) for one in groups]
    outside = [
        f"group {name}: {now} replicas, not {low} to {high}"
        for name, now, low, high in ranges
        if not low <= now <= high
    ]
    return [*outside, *_pods_without_place(manifest, nodes), *_processes_without_place(manifest)]


def _pods_without_place(manifest: Manifest, nodes: Sequence[Node]) -> Iterator[str]:
    """Place pods at their most, the largest first; a node with GPUs takes those that tolerate it."""
    free = [node.free() for node in nodes]
    for name, asked, tolerates in sorted(_pods(manifest), key=lambda pod: (-pod[1]["gpu"], -pod[1]["cpu"])):
        for node, left in zip(nodes, free, strict=True):
            if (tolerates or not node.gpus) and all(asked[kind] <= left[kind] for kind in asked):
                for kind in asked:
                    left[kind] -= asked[kind]
                break
        else:
            yield f"pod {name}: no node has room for {asked}"


def _pods(manifest: Manifest) -> Iterator[tuple[str, dict[str, float], bool]]:
    """Yield name, requests and whether it tolerates GPU nodes, of every pod there can be at a time."""
    cluster = cluster_of(manifest)
    if job_of(manifest):
        yield "submitter", SUBMITTER | {"gpu": 0}, False
    beside = AUTOSCALER if cluster.get("enableInTreeAutoscaling") else {}
    yield "head", _requests(cluster["headGroupSpec"], beside), _tolerates_gpus(cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        for number in range(group["maxReplicas"]):
            yield f"{group['groupName']}-{number}", _requests(group, {}), _tolerates_gpus(group)


def _requests(group: Manifest, beside: Mapping[str, float]) -> dict[str, float]:
    asked = [container["resources"]["requests"] for container in group["template"]["spec"]["containers"]]
    total = {kind: sum(float(parse_quantity(one.get(kind, "0"))) for one in asked) for kind in ("cpu", "memory")}
    total = {kind: amount + beside.get(kind, 0) for kind, amount in total.items()}
    return total | {"gpu": sum(float(one.get("nvidia.com/gpu", 0)) for one in asked)}


def _tolerates_gpus(group: Manifest) -> bool:
    return any(one.get("key") == "nvidia.com/gpu" for one in group["template"]["spec"].get("tolerations", ()))


def _processes_without_place(manifest: Manifest) -> Iterator[str]:
    """Place what the pipeline asks of Ray, as its plan chooses on this cluster, on the nodes as Ray sees them."""
    entrypoint = job_of(manifest).get("entrypoint")
    if not entrypoint:
        return
    arguments = arguments_of(pipeline_command(entrypoint))
    cluster = cluster_of(manifest)
    # In the order of the groups, the head's first.
    kinds = _generate_available_node_types_from_ray_cr_spec(cluster).values()
    first: list[dict[str, float]] = []
    most: list[dict[str, float]] = []
    for group, kind in zip([cluster["headGroupSpec"], *cluster["workerGroupSpecs"]], kinds, strict=True):
        memory = kind["resources"]["memory"]
        store = float(group["rayStartParams"].get("object-store-memory", 0.3 * memory))
        node = {"CPU": 0.0, "GPU": 0.0, "store": store} | kind["resources"]
        first += [node] * group.get("replicas", 1)
        most += [node] * group.get("maxReplicas", 1)
    # Ray's autoscaler reports no nodes that it could start: a job sees those that are there.
    plan = choose_resources(
        getattr(arguments, "actors", None),
        getattr(arguments, "threads", None),
        device=arguments.device,
        openers=getattr(arguments, "openers", 0),
        on=Machines(first, grows=True),
    )
    if any(node["GPU"] for node in most) != (plan.device == "cuda"):
        yield f"the cluster has {sum(node['GPU'] for node in most):g} GPUs, and the job runs on {plan.device}"
    there = most if cluster.get("enableInTreeAutoscaling") else first
    process = {"CPU": plan.threads, "GPU": 1 if plan.device == "cuda" else 0, "memory": MEMORY_OF_AN_ACTOR}
    opener = {"CPU": 1, "GPU": 0, "memory": MEMORY_OF_AN_ACTOR}
    yield from _without_place([process] * (plan.most or plan.actors) + [opener] * plan.openers, there)
    # A training comes after that; its first process of one CPU is Ray Train's own.
    if workers := getattr(getattr(arguments, "settings", None), "workers", 0):
        yield from _without_place([opener, *[process] * workers], there)


def _without_place(needs: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Place processes one by one; a node's memory holds its object store, too."""
    free = [dict(node) | {"memory": node["memory"] - node["store"]} for node in nodes]
    for need in needs:
        for left in free:
            if all(need[kind] <= left[kind] for kind in need):
                for kind in need:
                    left[kind] -= need[kind]
                break
        else:
            yield f"no Ray node has room for a process of {dict(need)}"
