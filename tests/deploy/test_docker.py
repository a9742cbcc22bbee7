"""The Dockerfile and the Compose file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from compose_pydantic import ComposeSpecification

from deploy.files import DEPLOY, assert_options, assert_understood
from socketcluster.brokers.registry import create_broker
from socketcluster.cli.loading import load_server
from socketcluster.server.health import LIVE

DOCKERFILE = DEPLOY / "docker/Dockerfile"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())


def _instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", "")
    return [line.strip() for line in text.splitlines() if line.strip().startswith(f"{name} ")]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run(
        [hadolint, "--failure-threshold", "style", DOCKERFILE],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_copies_what_exists() -> None:
    root = DEPLOY.parent
    for line in _instructions("COPY"):
        if "--from" not in line and "$" not in line:
            for name in line.split()[1:-1]:
                assert (root / name).exists(), name
    (argument,) = _instructions("ARG")
    assert (root / argument.partition("=")[2] / "server.py").is_file()
    ignored = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().split("\n")
    assert "*" in ignored
    for line in ignored:
        if line.startswith("!"):
            assert (root / line[1:]).exists(), line


def test_images_are_pinned_and_run_as_a_user() -> None:
    images = [line.split()[1] for line in _instructions("FROM")]
    images += [s["image"] for s in COMPOSE["services"].values() if "image" in s]
    for image in images:
        tag = image.partition(":")[2]
        assert tag.partition("-")[0].count(".") == 2, f"{image} names no patch version"
    (user,) = _instructions("USER")
    assert user.removeprefix("USER ").partition(":")[0].isdigit()


def test_entry_point_and_health_check() -> None:
    (entry,) = _instructions("ENTRYPOINT")
    program, *arguments = json.loads(entry.removeprefix("ENTRYPOINT "))
    assert program == "socketcluster"
    assert_understood(arguments)
    (check,) = _instructions("HEALTHCHECK")
    program, option, code = json.loads(check[check.index("[") :])
    assert (program, option) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    assert LIVE in code


async def test_application_of_the_image(monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(DEPLOY / "docker/app")
    monkeypatch.delitem(sys.modules, "server", raising=False)  # Of another test.
    server = await load_server("server:server")
    assert "echo" in server.handlers.procedures
    sys.modules.pop("server")


def test_compose() -> None:
    ComposeSpecification.model_validate(COMPOSE)
    services = COMPOSE["services"]
    for service in services.values():
        for name in service.get("depends_on", {}):
            assert "healthcheck" in services[name] or "build" in services[name]
        for volume in service.get("volumes", []):
            assert (DEPLOY / "compose" / volume.split(":")[0]).is_file()
    node = services["node"]
    context = DEPLOY / "compose" / node["build"]["context"]
    assert (context / node["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert_understood(["serve", *node["command"]])
    assert_options(list(node["environment"]))
    assert create_broker(node["environment"]["SOCKETCLUSTER_BROKER"])


def test_compose_waits_for_the_drain() -> None:
    node = COMPOSE["services"]["node"]
    delay = int(node["environment"]["SOCKETCLUSTER_DRAIN_DELAY"]) / 1000
    assert int(node["stop_grace_period"].removesuffix("s")) >= delay + 10 + 15
