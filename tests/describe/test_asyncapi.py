"""The AsyncAPI document."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from describe.sample import TABLES, FakeTables, channel, channels, handler
from socketcluster.describe.api import Api
from socketcluster.describe.asyncapi import asyncapi_document


def document_of(tables: FakeTables, **options: Any) -> dict[str, Any]:
    return asyncapi_document(Api.of(tables), title="Chat", version="1.0", **options)


def test_the_head() -> None:
    document = document_of(
        FakeTables(), description="A chat.", url="wss://chat.example.com:8443/socketcluster/"
    )
    assert document["asyncapi"] == "3.1.0"
    assert document["info"] | {"tags": []} == {
        "title": "Chat",
        "version": "1.0",
        "description": "A chat.",
        "tags": [],
    }
    server = document["servers"]["main"]
    assert (server["host"], server["protocol"], server["pathname"]) == (
        *("chat.example.com:8443", "wss", "/socketcluster/"),
    )
    assert server["security"] == [{"$ref": "#/components/securitySchemes/token"}]
    assert "servers" not in document_of(FakeTables())


def test_a_procedure_is_received_and_replied_to() -> None:
    document = document_of(TABLES)
    made = document["channels"]["call_add"]
    assert made["address"] == "add"
    assert made["messages"]["call"]["payload"] == {"$ref": "#/components/schemas/Add"}
    assert made["messages"]["answer"]["payload"] == {"type": "integer"}
    operation = document["operations"]["call_add"]
    assert operation["action"] == "receive"
    assert operation["summary"] == "Add two numbers."
    assert operation["description"] == "Add two numbers.\n\nBoth are integers."
    assert operation["reply"]["messages"] == [
        {"$ref": "#/channels/call_add/messages/answer"},
        {"$ref": "#/channels/call_add/messages/error"},
    ]
    ping = document["channels"]["call_ping"]["messages"]
    assert "payload" not in ping["call"]
    assert "payload" not in ping["answer"]


def test_an_event_is_received_only() -> None:
    document = document_of(TABLES)
    operation = document["operations"]["event_position"]
    assert (operation["action"], "reply" in operation) == ("receive", False)
    assert document["channels"]["event_add"]["address"] == "add"


def test_a_channel_is_sent_and_received_if_clients_may_publish() -> None:
    document = document_of(TABLES)
    operations = document["operations"]
    assert operations["message_room_room"]["action"] == "send"
    assert operations["publish_room_room"]["action"] == "receive"
    assert operations["message_news"]["action"] == "send"
    assert "publish_news" not in operations


def test_the_members_of_a_channel_are_a_channel_that_the_server_sends() -> None:
    document = document_of(TABLES)
    found = [made for made in document["channels"].values() if "$presence" in str(made["address"])]
    assert [made["address"] for made in found] == ["$presence/room/{room}"]
    assert list(found[0]["messages"]) == ["message"]


def test_a_channel_says_what_is_kept_of_its_publishes() -> None:
    operation = document_of(TABLES)["operations"]["message_log"]
    assert "The last 1,000 publishes are kept, for 60 seconds." in operation.values()


@pytest.mark.parametrize(
    ("pattern", "address", "parameters"),
    [
        ("news", "news", []),
        ("room/{room}", "room/{room}", ["room"]),
        ("files/{path:path}", "files/{path}", ["path"]),
        ("user/*/typing", "user/{segment}/typing", ["segment"]),
        ("größe/{größe}", "größe/{gr__e}", ["gr__e"]),
        ("*/*", "{segment}/{segment2}", ["segment", "segment2"]),
        ("log/**", "log/{rest}", ["rest"]),
    ],
)
def test_patterns_are_addresses(pattern: str, address: str, parameters: list[str]) -> None:
    (made,) = document_of(FakeTables(channels=channels(channel(pattern, int))))["channels"].values()
    assert (made["address"], list(made.get("parameters", {}))) == (address, parameters)


def test_messages_may_differ_from_publishes() -> None:
    messages = document_of(TABLES)["channels"]["channel_seats_row"]["messages"]
    assert messages["publish"]["payload"] == {"type": "integer"}
    assert messages["message"]["payload"] == {"$ref": "#/components/schemas/Row"}


def test_names_that_look_alike_get_a_number() -> None:
    tables = FakeTables(procedures={"a/b": handler(), "a.b": handler(), "ä": handler()})
    found = {n: c["address"] for n, c in document_of(tables)["channels"].items()}
    assert found == {"call_a_b": "a.b", "call_a_b_2": "a/b", "call": "ä"}


def test_a_document_takes_little_memory() -> None:
    api = Api.of(TABLES)
    tracemalloc.start()
    try:
        asyncapi_document(api, title="Chat", version="1.0")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


def test_the_order_of_handlers_does_not_matter() -> None:
    turned = FakeTables(
        dict(reversed(list(TABLES.procedures.items()))),
        dict(reversed(list(TABLES.receivers.items()))),
        dict(reversed(list(TABLES.channels.items()))),
    )
    assert document_of(turned) == document_of(TABLES)
