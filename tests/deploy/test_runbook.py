"""The runbook has a section for each alert."""

from __future__ import annotations

import re
from typing import Any

import yaml

from deploy.files import DEPLOY

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DEPLOY / "monitoring/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
RUNBOOK = (DEPLOY.parent / "docs/operations.md").read_text()


def test_each_alert_has_a_section() -> None:
    assert set(re.findall(r"^### (SocketCluster\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


def test_each_section_says_what_to_do() -> None:
    for section in re.split(r"^##+ ", RUNBOOK, flags=re.MULTILINE):
        if section.startswith("SocketCluster"):
            for part in ("**Means**", "**Look at**", "**Do**"):
                assert part in section, section


def test_each_alert_links_to_its_section() -> None:
    for name, rule in ALERTS.items():
        address = rule["annotations"]["runbook_url"]
        assert address.endswith(f"docs/operations.md#{name.lower()}")
