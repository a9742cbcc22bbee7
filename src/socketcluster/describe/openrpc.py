"""An OpenRPC document of a server's procedures.

Each takes its data as one parameter, "data". The packets are those of SocketCluster, not of
JSON-RPC.

Source: OpenRPC specification 1.3.2.
"""

from __future__ import annotations

from typing import Any

from socketcluster.describe.api import Api, Procedure
from socketcluster.describe.schemas import Schema

_NOTHING: Schema = {"type": "null"}


def openrpc_document(
    api: Api, *, title: str, version: str, description: str = "", url: str | None = None
) -> dict[str, Any]:
    """Make the document; `url` is the address that clients connect to."""
    info = {"title": title, "version": version}
    if description:
        info["description"] = description
    return {
        "openrpc": "1.3.2",
        "info": info,
        "servers": [{"name": "main", "url": url}] if url is not None else [],
        "methods": [_method(procedure) for procedure in api.procedures],
        "components": {"schemas": api.schemas},
    }


def _method(procedure: Procedure) -> dict[str, Any]:
    method: dict[str, Any] = {"name": procedure.name}
    if procedure.doc:
        method |= {"summary": procedure.doc.splitlines()[0], "description": procedure.doc}
    method["params"] = []
    if procedure.data is not None:
        required = not procedure.is_optional
        method["params"] = [{"name": "data", "required": required, "schema": procedure.data}]
    schema = procedure.returns if procedure.returns is not None else _NOTHING
    return {**method, "result": {"name": "answer", "schema": schema}}
