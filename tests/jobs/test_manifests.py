"""What `jobs/` holds, and that what checks it finds mistakes."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from tests.helpers import ROOT
from tests.helpers.manifests import (
    HOME,
    Manifest,
    arguments_of,
    cluster_of,
    commands,
    job_of,
    misfits,
    read,
    schema_errors,
    stated_nodes,
)

JOBS = ROOT / "jobs"
README = (JOBS / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `([^`]+)` \|(.*)$", README, re.MULTILINE))
"""What the README says of each file."""
TEXTS = {path.name: path.read_text() for path in sorted(JOBS.glob("*.yaml"))}
MANIFESTS = {name: read(text) for name, text in TEXTS.items()}
CLUSTERS = [name for name, manifests in MANIFESTS.items() if any(map(cluster_of, manifests))]


def cluster_manifest(name: str) -> Manifest:
    (manifest,) = filter(cluster_of, MANIFESTS[name])
    return manifest


def groups(manifest: Manifest) -> list[Manifest]:
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_there_is_all_that_a_platform_team_applies() -> None:
    kinds = sorted(manifest["kind"] for manifests in MANIFESTS.values() for manifest in manifests)
    single = ["ConfigMap", "CronJob", "NetworkPolicy", "PersistentVolumeClaim", "RayCluster", "RayCronJob"]
    assert kinds == sorted([*single, *["RayJob"] * 4, "Role", "RoleBinding", *["ServiceAccount"] * 2])


@pytest.mark.parametrize("name", TEXTS)
def test_fields_are_those_of_the_schemas(name: str) -> None:
    assert [error for manifest in MANIFESTS[name] for error in schema_errors(manifest)] == []


@pytest.mark.parametrize("name", CLUSTERS)
def test_commands_name_pipelines_and_arguments_that_exist(name: str) -> None:
    found = commands(TEXTS[name])
    assert found
    for command in found:
        arguments_of(command)


@pytest.mark.parametrize("name", CLUSTERS)
def test_pods_and_processes_fit_the_nodes_that_the_readme_states(name: str) -> None:
    assert misfits(cluster_manifest(name), stated_nodes(ROWS[name])) == []


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_cluster_is_of_one_piece(name: str) -> None:
    manifest = cluster_manifest(name)
    cluster = cluster_of(manifest)
    assert f"rayproject/ray:{cluster['rayVersion']}-" in (JOBS / "Dockerfile").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    allowed = re.search(r'"ray\[data,train\]([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert allowed is not None
    assert cluster["rayVersion"] in SpecifierSet(allowed.group(1))
    assert cluster["authOptions"] == {"mode": "token"}  # Ray's default: all nodes need the same one
    (policy,) = MANIFESTS["network_policy.yaml"]
    (claim,) = MANIFESTS["claim.yaml"]
    (account,) = MANIFESTS["s3.yaml"]
    ours = policy["spec"]["podSelector"]["matchLabels"]
    buckets = "s3://" in job_of(manifest).get("entrypoint", "")
    for group in groups(manifest):
        pod = group["template"]["spec"]
        assert ours.items() <= group["template"]["metadata"]["labels"].items()
        (container,) = pod["containers"]
        assert container["image"] in README
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod.get("serviceAccountName") == (account["metadata"]["name"] if buckets else None)
        claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod.get("volumes", ())}
        mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", ())}
        assert claims.keys() == mounts.keys()
        assert set(claims.values()) <= {claim["metadata"]["name"]}
        paths = [variable["value"] for variable in container.get("env", ())]
        paths += [word for word in job_of(manifest).get("entrypoint", "").split() if word.startswith("/")]
        assert all(path.startswith((HOME, *(f"{place}/" for place in mounts.values()))) for path in paths)


def test_pods_that_share_the_claim_may_all_write_it() -> None:
    (claim,) = MANIFESTS["claim.yaml"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    pods = [group["template"]["spec"] for name in CLUSTERS for group in groups(cluster_manifest(name))]
    assert {tuple(pod["securityContext"].items()) for pod in pods} == {(("runAsUser", 1000), ("fsGroup", 100))}


def test_both_schedules_run_the_same_job() -> None:
    ray, plain = (cluster_manifest(f"retrain_{kind}.yaml") for kind in ("raycronjob", "cronjob"))
    assert job_of(ray) == job_of(plain)
    assert ray["spec"]["schedule"] == MANIFESTS["retrain_cronjob.yaml"][0]["spec"]["schedule"]


def test_the_plain_schedule_may_do_what_it_does_and_no_more() -> None:
    cron, account, role, binding, held, job = MANIFESTS["retrain_cronjob.yaml"]
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"] == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}]
    assert pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    (file,) = held["data"]
    assert pod["volumes"][0]["configMap"]["name"] == held["metadata"]["name"]
    assert container["args"] == ["create", "--filename", f"{container['volumeMounts'][0]['mountPath']}/{file}"]
    assert "generateName" in job["metadata"]  # `create` needs another name each time


def test_spot_nodes_come_as_needed_and_never_hold_the_driver() -> None:
    cluster = cluster_of(cluster_manifest("label_corpus_spot.yaml"))
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert (cluster["enableInTreeAutoscaling"], workers["minReplicas"], workers["replicas"]) == (True, 0, 0)
    assert head["template"]["spec"]["automountServiceAccountToken"]  # the autoscaler's
    rules = []
    for group, operator in ((head, "NotIn"), (workers, "In")):
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        needed = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        terms = [term["matchExpressions"] for term in needed["nodeSelectorTerms"]]
        assert len(terms) == 1 or all(len(term) == 1 for term in terms)  # one term: all of it; several: any of them
        assert {rule["operator"] for term in terms for rule in term} == {operator}
        rules.append([(rule["key"], rule["values"]) for term in terms for rule in term])
    assert rules[0] == rules[1]


def test_kuberay_alone_reaches_the_pods_from_elsewhere() -> None:
    (policy,) = MANIFESTS["network_policy.yaml"]
    inside, kuberay = policy["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    assert kuberay["ports"] == [{"port": 8265, "protocol": "TCP"}]
    assert all(peer.get("podSelector") for peer in kuberay["from"])  # an empty one is any pod


def test_the_image_holds_what_runs_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]
    needed = [
        *["aopsam", "pipelines", "schemas", "stages", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"],
        "tiny.safetensors",
    ]
    assert not [name for name in needed for pattern in patterns if fnmatch.fnmatch(name, pattern)]
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()}
    assert {".git", *ignored} <= set(patterns)
    dockerfile = (JOBS / "Dockerfile").read_text()
    assert (
        dockerfile.count("pip install") == dockerfile.count("pip install --no-cache-dir -c /tmp/constraints.txt") == 2
    )
    assert f". {HOME.rstrip('/')}\n" in dockerfile


def test_the_readme_names_every_file_and_no_other() -> None:
    assert set(ROWS) == {path.name for path in JOBS.iterdir()} - {"README.md"}
    named = re.findall(r"jobs/(\w+\.\w+)", README + "".join(TEXTS.values()))
    assert all((JOBS / name).is_file() for name in named)


def change(place: str, value: Any) -> Callable[[Manifest], None]:
    """What sets the value at a place such as `spec.rayClusterSpec.workerGroupSpecs.0.replicas`, made where it lacks."""

    def apply(manifest: Manifest) -> None:
        *path, last = place.split(".")
        at: Any = manifest
        for step in path:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        at[last] = value

    return apply


HEAD = "spec.rayClusterSpec.headGroupSpec"
WORKERS = "spec.rayClusterSpec.workerGroupSpecs.0"
MISTAKES = [
    (change("spec.entryPoint", "python x.py"), "'entryPoint' was unexpected"),
    (change("spec.rayClusterSpec.enableInTreeAutoScaling", True), "'enableInTreeAutoScaling' was unexpected"),
    (change("spec.backoffLimit", "2"), "'2' is not of type 'integer'"),
    (change("spec.shutdownAfterJobFinishes", False), "True was expected"),
    (change("spec.entrypoint", "sh -c 'a && b'"), "does not match"),
    (change("spec.rayClusterSpec.authOptions.mode", "tokens"), "'tokens' is not one of"),
    (change("spec.rayClusterSpec.workerGroupSpecs.0.rayStartParams", {"num-cpus": 0}), "0 is not of type 'string'"),
    (change(f"{WORKERS}.template.spec.tolerations", [{"key": "a", "operator": "Exist"}]), "'Exist' is not one of"),
    (change(f"{WORKERS}.template.spec.containers.0.resources", {"limits": {"cpu": "1", "memory": "1"}}), "'requests'"),
    (change(f"{WORKERS}.template.spec.containers.0.image", "aopsam:latest"), "does not match"),
    (change(f"{HEAD}.template.spec.serviceAccount", "a"), "'serviceAccount' was unexpected"),
    (change("metadata.name", "a" * 48), "is too long"),
    (change("kind", "RayJobs"), "kind RayJobs: unknown"),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_in_a_field_is_found(mistake: Callable[[Manifest], None], said: str) -> None:
    manifest = json.loads(json.dumps(cluster_manifest("label_corpus.yaml")))  # anchors make several places one
    mistake(manifest)
    assert said in " ".join(schema_errors(manifest))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("--images", "--image", "--image"),
        ("--sam tiny", "--sam tiny --threads none", "none"),
        ("--prompts aop", "--actors 0", "actors"),
        ("--out /data/labelled", "", "--out"),
        ("label_corpus.py", "label_corpora.py", "no such pipeline"),
    ],
)
def test_a_mistake_in_a_command_is_found(before: str, after: str, said: str) -> None:
    (command,) = commands(TEXTS["label_corpus.yaml"].replace(before, after))
    with pytest.raises(ValueError, match=said):
        arguments_of(command)


CPU_JOB, GPU_JOB, SPOT = "label_corpus.yaml", "label_corpus_gpu.yaml", "label_corpus_spot.yaml"
RETRAIN = "retrain_raycronjob.yaml"


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        (CPU_JOB, 'cpu: "7"', 'cpu: "8"', "pod cpu-0: no node has room"),
        (CPU_JOB, "memory: 24Gi", "memory: 30Gi", "pod cpu-0"),
        (CPU_JOB, "memory: 24Gi", "memory: 14Gi", "no Ray node has room for a process"),  # 7 of 2 GiB beside the store
        (CPU_JOB, " replicas: 4", " replicas: 5", "group cpu: 5 replicas, not 4 to 4"),
        (CPU_JOB, "maxReplicas: 4", "maxReplicas: 5", "pod cpu-4"),
        (CPU_JOB, "--sam tiny", "--threads 8", "no Ray node has room for a process of {'CPU': 8"),
        (GPU_JOB, 'nvidia.com/gpu: "1"', 'nvidia.com/gpu: "2"', "pod gpu-0"),
        (GPU_JOB, "key: nvidia.com/gpu", "key: nvidia.com/gpus", "pod gpu-0"),
        (GPU_JOB, "--device cuda", "--device cpu", "has 1 GPUs, and the job runs on cpu"),
        (SPOT, "--actors 8", "--actors 9", "no Ray node has room for a process of {'CPU': 1, 'GPU': 1"),
        (SPOT, "--device cuda", "", "has 8 GPUs, and the job runs on cpu"),
        (SPOT, "maxReplicas: 8", "maxReplicas: 9", "pod spot-8"),
        (RETRAIN, "--eval", "--workers 7 --eval", "no Ray node has room for a process of {'CPU': 2"),
        (SPOT, 'requests: {cpu: "2", memory: 10Gi}', 'requests: {cpu: "3500m", memory: 10Gi}', "pod head"),
    ],
)
def test_a_request_that_is_too_large_is_found(name: str, before: str, after: str, said: str) -> None:
    text = TEXTS[name].replace(before, after)
    assert text != TEXTS[name]
    assert said in " ".join(misfits(read(text)[0], stated_nodes(ROWS[name])))
