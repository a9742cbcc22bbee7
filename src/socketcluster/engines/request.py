"""The upgrade request, from an ASGI scope. Source: ASGI specification, HTTP & WebSocket."""

from __future__ import annotations

from socketcluster.engines.base import ASGIScope, UpgradeRequest


def upgrade_request(scope: ASGIScope) -> UpgradeRequest:
    """The request that a WebSocket scope describes."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    client = scope.get("client") or (None, None)
    query = scope.get("query_string", b"")
    raw_path = scope.get("raw_path")
    target = raw_path.decode("latin-1") if raw_path else scope["path"]
    forwarded = headers.get("x-forwarded-for", "").split(",")[0].strip()
    return UpgradeRequest(
        url=f"{target}?{query.decode('latin-1')}" if query else target,
        path=scope["path"],
        headers=headers,
        scope=scope,
        remote_address=client[0],
        remote_port=client[1],
        remote_family=_family(client[0]),
        forwarded_for_address=forwarded or None,
        subprotocols=list(scope.get("subprotocols") or ()),
    )


def _family(address: str | None) -> str:
    if not address:
        return "unix"
    return "IPv6" if ":" in address else "IPv4"
