"""The table of JavaScript names: every Python name in it exists."""

from __future__ import annotations

import dataclasses
import operator
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import socketcluster
from socketcluster import streams

TABLE = Path(__file__).parents[1] / "docs" / "javascript-names.md"
SERVER = socketcluster.AGServer()
CLIENT = socketcluster.create(auto_connect=False)
NAMES = {
    **vars(streams),
    **vars(socketcluster),
    "AGServer": SERVER,
    "AGClientSocket": CLIENT,
    "Client options": CLIENT.options,
}
ROW = re.compile(r"\| (.+) \| (.+) \|")
NAME = re.compile(r"\w+(\.\w+)*")
EVENT = re.compile(r"(\w+)\((.*)\)")


def rows() -> list[tuple[str, str, str]]:
    """(section, JavaScript cell, Python cell)."""
    found = []
    section = ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif (row := ROW.fullmatch(line)) and row[1] != "JavaScript":
            found.append((section, row[1], row[2]))
    return found


def exists(path: str, section: str) -> bool:
    holders = [SimpleNamespace(**NAMES), NAMES.get(section)]
    if section in ("AGServer", "Properties", "Options"):
        holders += [SERVER, SERVER.options]
    return any(has(holder, path) for holder in holders)


def has(holder: Any, path: str) -> bool:
    try:
        operator.attrgetter(path)(holder)
    except AttributeError:
        return False
    return True


@pytest.mark.parametrize(("section", "javascript", "python"), rows())
def test_python_name_exists(section: str, javascript: str, python: str) -> None:
    names = re.findall(r"`([^`]+)`", python)
    assert names, f"{javascript} leads nowhere"
    for name in names:
        if event := EVENT.fullmatch(name):
            kind: Any = getattr(socketcluster, event[1])
            fields = [field.name for field in dataclasses.fields(kind)]
            assert set(filter(None, event[2].split(", "))) <= set(fields)
        elif NAME.fullmatch(name):
            assert exists(name, section), f"there is no {name} ({section})"


def test_every_option_is_in_the_table() -> None:
    cells = " ".join(python for section, _, python in rows() if section == "Options")
    own = {  # Of this server alone.
        "last_words_timeout",
        "max_inbound_backlog_bytes",
        "max_buffered",
        "max_channel_backlog",
        "max_channel_backlog_bytes",
        "max_subscription_data",
        "max_batch_items",
        "max_channel_name_length",
        "max_inbound_backlog",
        "max_malformed_messages",
        "max_outbound_buffer",
        "max_pending_clients",
        "handshakes_per_turn",
        "max_connections",
        "droppable_channels",
        "drain_timeout",
        "nodes",
        "cluster_key",
        "cluster_previous_keys",
        "health_probes",
        "drain_code",
        "drain_delay",
        "drain_spread",
        "ready_without_broker",
        "metrics",
        "tracing",
        "limits",
        "asyncapi",
        "trusted_proxies",
        "identify",
        "history_memory",
        "recovery",
        "channels",
        "channels_default",
    }
    options = {field.name for field in dataclasses.fields(socketcluster.ServerOptions)}
    assert options - set(re.findall(r"\w+", cells)) == own


def test_every_event_is_in_the_table() -> None:
    cells = " ".join(python for section, _, python in rows() if section == "Events")
    events = {name for name in socketcluster.__all__ if name.endswith("Event")}
    own = {"BrokerAwayEvent", "BrokerGapEvent", "OccupiedEvent", "RecoverFailEvent", "VacatedEvent"}
    assert events - set(re.findall(r"\w+", cells)) == own
