"""The files under deploy/ are valid, and name what exists."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_pydantic import ComposeSpecification
from typer.testing import CliRunner

from socketcluster.brokers.registry import create_broker
from socketcluster.cli.app import app
from socketcluster.server.health import LIVE, READY
from support import require

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes/socketcluster.yaml").read_text()))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())


def is_understood(arguments: list[str]) -> bool:
    """Whether the command line takes these; `--version`-like help ends it before it serves."""
    result = CliRunner().invoke(app, [*arguments, "--help"])
    known = [a for a in arguments if a.startswith("--")]
    return result.exit_code == 0 and all(name in result.output for name in known)


def test_systemd(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    text = (DEPLOY / "systemd/socketcluster.service").read_text()
    (line,) = (x for x in text.splitlines() if x.startswith("ExecStart="))
    program, *arguments = shlex.split(line.removeprefix("ExecStart="))
    assert is_understood(arguments)
    unit = tmp_path / "socketcluster.service"
    unit.write_text(text.replace(program, sys.executable))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("resource", KUBERNETES, ids=lambda resource: resource["kind"])
def test_kubernetes(resource: Any) -> None:
    kubernetes_validate.validate(resource, "1.31", strict=True)


def test_kubernetes_names_what_exists() -> None:
    (deployment,) = (r for r in KUBERNETES if r["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == LIVE
    assert container["readinessProbe"]["httpGet"]["path"] == READY
    assert is_understood(["serve", *container["args"]])
    assert create_broker(container["args"][-1])
    for resource in KUBERNETES[1:]:
        selector = resource["spec"]["selector"]
        assert (
            selector.get("matchLabels", selector) == deployment["spec"]["selector"]["matchLabels"]
        )


def test_compose() -> None:
    ComposeSpecification.model_validate(COMPOSE)
    services = COMPOSE["services"]
    for service in services.values():
        for name in service.get("depends_on", {}):
            assert "healthcheck" in services[name]
        for volume in service.get("volumes", []):
            assert (DEPLOY / "compose" / volume.split(":")[0]).is_file()
    node = services["node"]
    assert READY in node["healthcheck"]["test"][-1]
    compile(node["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert is_understood(["serve", *node["command"]])
    assert create_broker(node["environment"]["SOCKETCLUSTER_BROKER"])


def test_dockerfile() -> None:
    lines = (DEPLOY / "compose/Dockerfile").read_text().splitlines()
    (entry,) = (line for line in lines if line.startswith("ENTRYPOINT "))
    program, *arguments = yaml.safe_load(entry.removeprefix("ENTRYPOINT "))
    assert program == "socketcluster"
    assert is_understood(arguments)
