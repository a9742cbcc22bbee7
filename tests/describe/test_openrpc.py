"""The OpenRPC document."""

from __future__ import annotations

from describe.sample import TABLES
from socketcluster.describe.api import Api
from socketcluster.describe.openrpc import openrpc_document


def test_procedures_are_methods() -> None:
    api = Api.of(TABLES)
    url = "ws://localhost/socketcluster/"
    document = openrpc_document(api, title="Chat", version="1", description="A chat.", url=url)
    assert document["info"] == {"title": "Chat", "version": "1", "description": "A chat."}
    assert document["servers"] == [{"name": "main", "url": url}]
    methods = {method["name"]: method for method in document["methods"]}
    assert list(methods) == sorted(TABLES.procedures)
    assert methods["add"] == {
        "name": "add",
        "summary": "Add two numbers.",
        "description": "Add two numbers.\n\nBoth are integers.",
        "params": [
            {"name": "data", "required": True, "schema": {"$ref": "#/components/schemas/Add"}}
        ],
        "result": {"name": "answer", "schema": {"type": "integer"}},
    }
    assert methods["ping"]["params"] == []
    assert methods["ping"]["result"]["schema"] == {"type": "null"}
    assert methods["history"]["params"][0]["required"] is False
    assert document["components"]["schemas"] is api.schemas
    assert openrpc_document(api, title="Chat", version="1")["servers"] == []
