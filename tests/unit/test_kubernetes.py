"""The manifests in deploy/kubernetes, held to Kubernetes' own schemas and to docker-compose.yml."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.celery import settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
OLDEST, NEWEST = "1.32", "1.37"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
# What only a machine with compose has; a cluster has a Prometheus of its own, or none.
NOT_HERE = {"postgres", "redis", "sandbox", "sandbox-model", "prometheus", "grafana"}
# In the Secret, or of the sandbox.
PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD"}
# Kustomize is a program, and no package index has it (CONTRIBUTING.md). Each manifest by itself is validated anywhere.
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine: install it")


def documents(folder: Path = FOLDER) -> list[dict[str, Any]]:
    found = [document for file in sorted(folder.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]
    return [document for document in found if document["kind"] != "Kustomization"]


WORKLOADS = {
    document["metadata"]["name"]: document for document in documents() if "template" in document.get("spec", {})
}


def pod(name: str) -> dict[str, Any]:
    return dict(WORKLOADS[name]["spec"]["template"]["spec"])


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    return dict(only)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "document", documents(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}"
)
def test_kubernetes_knows_every_field(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_field_is_found() -> None:
    wrong = yaml.safe_load((FOLDER / "beat.yaml").read_text())
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["true"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_every_service_of_ours_is_here() -> None:
    assert WORKLOADS.keys() == SERVICES.keys() - NOT_HERE
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(kustomization["resources"]) == files


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_it_runs_what_compose_runs(name: str) -> None:
    service, here = SERVICES[name], container(name)
    if name == "kickoff":  # a job may end, where compose's has to sleep
        assert service["command"][-1].startswith(f"{' '.join(here['command'])} && ")
    else:
        assert here["command"] == service["command"]
    assert here["image"] == service["image"]
    assert [variable["name"] for variable in here["env"] if variable["name"] not in service["environment"]] == []
    assert service["environment"].keys() == {variable["name"] for variable in here["env"]}
    mounted = {mount["mountPath"] for mount in here["volumeMounts"]} - {"/tmp", "/app/explorer.yaml"}  # noqa: S108
    assert mounted == {volume.split(":")[1] for volume in service.get("volumes", [])}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_it_is_nobodys_root(name: str) -> None:
    security = pod(name)["securityContext"]
    users = {
        user for file in ROOT.glob("Dockerfile.*") for user in re.findall(r"useradd --uid (\d+)", file.read_text())
    }
    assert users == {str(security["runAsUser"])}
    assert security["runAsNonRoot"]
    for each in (*pod(name)["containers"], *pod(name).get("initContainers", [])):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"migrate", "kickoff"}))
def test_it_is_checked_as_compose_checks_it_and_has_time_to_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLORER_CONFIG", str(ROOT / "explorer.example.yaml"))
    probe, check = container(name)["livenessProbe"], SERVICES[name]["healthcheck"]
    if name == "console":
        assert probe["httpGet"]["path"] == "/health"
    else:
        assert ["CMD", *probe["exec"]["command"]] == check["test"]
    assert probe["timeoutSeconds"] >= 30
    grace = SERVICES[name].get("stop_grace_period", "30s")
    assert pod(name)["terminationGracePeriodSeconds"] == int(grace.removesuffix("s"))
    if name.endswith("worker"):
        assert pod(name)["terminationGracePeriodSeconds"] > settings()["worker_soft_shutdown_timeout"]


def test_the_gpu_service_is_never_twice() -> None:
    spec = WORKLOADS["gpu-worker"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_secret_has_every_key_that_is_asked_for_and_no_value() -> None:
    (secret,) = [document for document in documents() if document["kind"] == "Secret"]
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for name in WORKLOADS
        for each in (*pod(name)["containers"], *pod(name).get("initContainers", []))
        for variable in each["env"]
        if "valueFrom" in variable
    }
    assert secret["stringData"] == dict.fromkeys(asked, "")


def test_claims_and_ports_are_those_that_are_used() -> None:
    claims = {document["metadata"]["name"] for document in documents() if document["kind"] == "PersistentVolumeClaim"}
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for name in WORKLOADS
        for volume in pod(name)["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == used
    (policy,) = [document for document in documents() if document["kind"] == "NetworkPolicy"]
    open_ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert open_ports == {port["containerPort"] for name in WORKLOADS for port in container(name).get("ports", [])}


def put_together(folder: str, kind: str = "") -> dict[str, dict[str, Any]]:
    """What `kubectl apply -k` would send: the workloads by name, or whatever is of a kind."""
    done = subprocess.run(["kubectl", "kustomize", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return {
        document["metadata"]["name"]: document
        for document in yaml.safe_load_all(done.stdout)
        if (document["kind"] == kind if kind else "template" in document.get("spec", {}))
    }


@needs_kubectl
@pytest.mark.parametrize("folder", ["deploy/kubernetes", "deploy/kubernetes-gpu", "deploy/kubernetes-s3"])
def test_kubectl_puts_it_together(folder: str) -> None:
    made = put_together(folder)
    assert made.keys() == WORKLOADS.keys()
    for document in made.values():
        kubernetes_validate.validate(document, NEWEST, strict=True)
    limits = made["gpu-worker"]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert ("nvidia.com/gpu" in limits) == folder.endswith("gpu")


@needs_kubectl
def test_with_an_object_store_no_volume_is_written_from_two_nodes() -> None:
    made = put_together("deploy/kubernetes-s3")
    claims = put_together("deploy/kubernetes-s3", "PersistentVolumeClaim")
    assert {tuple(claim["spec"]["accessModes"]) for claim in claims.values()} == {("ReadWriteOnce",)}
    users: dict[str, list[str]] = {name: [] for name in claims}
    for name, document in made.items():
        spec = document["spec"]["template"]["spec"]
        for volume in spec["volumes"]:
            if "persistentVolumeClaim" in volume:
                users[volume["persistentVolumeClaim"]["claimName"]].append(name)
        (only,) = spec["containers"]
        works_on_files = {"data", "checkpoints"} & {mount["name"] for mount in only["volumeMounts"]}
        assert ("envFrom" in only) == bool(works_on_files), f"{name} needs the store's keys if it has its files"
        assert not [m for m in only["volumeMounts"] if m["name"] in works_on_files and m.get("readOnly")]
    assert users == {"checkpoints": ["gpu-worker"], "data": ["kickoff"], "flower": ["flower"]}
