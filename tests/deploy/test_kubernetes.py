"""The manifests for Kubernetes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.files import DEPLOY, assert_options, assert_understood
from socketcluster.brokers.registry import create_broker
from socketcluster.server.health import LIVE, READY
from support import require

FOLDER = DEPLOY / "kubernetes"
BASE: list[dict[str, Any]] = [
    yaml.safe_load(path.read_text())
    for path in sorted((FOLDER / "base").glob("*.yaml"))
    if path.name != "kustomization.yaml"
]


def _resource(kind: str) -> dict[str, Any]:
    (found,) = (resource for resource in BASE if resource["kind"] == kind)
    return found


POD: dict[str, Any] = _resource("Deployment")["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("resource", BASE, ids=lambda resource: str(resource["kind"]))
def test_valid(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, "1.31", strict=True)


@pytest.mark.parametrize("folder", ["base", "example"])
def test_kustomize(folder: str) -> None:
    require(shutil.which("kubectl") is not None, "kubectl")
    result = subprocess.run(
        ["kubectl", "kustomize", FOLDER / folder], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    made = list(yaml.safe_load_all(result.stdout))
    assert {r["kind"] for r in made} == {r["kind"] for r in BASE}
    for resource in made:
        kubernetes_validate.validate(resource, "1.31", strict=True)


def test_all_files_are_resources() -> None:
    named = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())["resources"]
    assert {*named, "kustomization.yaml"} == {p.name for p in (FOLDER / "base").iterdir()}


def test_probes() -> None:
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == LIVE
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == f"{READY}?broker=0"
    ports = {port["name"] for port in CONTAINER["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] in ports


def test_command_line() -> None:
    arguments = CONTAINER["args"]
    assert_understood(["serve", *arguments])
    assert create_broker(arguments[arguments.index("--broker") + 1])
    assert_options([variable["name"] for variable in CONTAINER["env"]])
    port = arguments[arguments.index("--metrics-port") + 1].partition(":")[2]
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == port
    assert int(port) in {p["containerPort"] for p in CONTAINER["ports"]}


def test_grace_period_fits_the_drain() -> None:
    env = {v["name"]: v.get("value") for v in CONTAINER["env"]}
    delay = int(env["SOCKETCLUSTER_DRAIN_DELAY"]) / 1000
    timeout = int(env["SOCKETCLUSTER_DRAIN_TIMEOUT"]) / 1000
    assert POD["spec"]["terminationGracePeriodSeconds"] >= delay + timeout + 15
    # The service stops sending clients before the pod stops accepting.
    probe = CONTAINER["readinessProbe"]
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]


def test_selectors() -> None:
    labels = POD["metadata"]["labels"]
    assert _resource("Service")["spec"]["selector"] == labels
    assert _resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    target = _resource("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == _resource("Deployment")["metadata"]["name"]


def test_metric_of_the_autoscaler_is_served() -> None:
    (metric, *_) = _resource("HorizontalPodAutoscaler")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    adapter = yaml.safe_load(Path(FOLDER / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(f"{name}{{")
