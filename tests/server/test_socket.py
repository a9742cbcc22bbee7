"""The faces of AGServerSocket and AGServer: their public names, and their reprs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from socketcluster import AGServer, testing
from support import connected

DOCS = Path(__file__).parents[2] / "docs"

EMITTER = {
    "create_listener_consumer",  # For `create_consumer` of an event's stream.
    "emit_tracked",  # For the set-up barrier.
    "has_listener",  # For it, and for errors that are logged without a listener.
    "loop_binding",
}
"""Names that every emitter of the package has, beside those of npm's."""

SOCKET_PARTS = {
    "auth",
    "batching",
    "closing",
    "connection",
    "context",
    "handling",
    "inbound",
    "life",
    "messaging",
    "middleware",
    "outbound",
    "rates",
    "setup",
    "streams",
    "subscribed",
}
SOCKET_OWN = {"client_address", "get_inbound_buffer_size", "get_outbound_buffer_size"}
"""Names that npm's AGServerSocket does not have; docs/sockets.md explains them."""

SERVER_PARTS = {
    "asgi",
    "channel_policy",
    "channel_rules",
    "endpoint",
    "engine",
    "handling",
    "hub",
    "keepalive",
    "lifecycle",
    "middleware_functions",
    "metrics",
    "node_messages",
    "presence",
    "reporter",
    "reports",
    "ticker",
    "users",
    "tokens",
    "wire",
}
SERVER_OWN = {
    "allowed_origins",
    "app",
    "background",
    "channel",
    "emit_warning",
    "from_config",
    "from_thread",
    "handlers",
    "identify",
    "include",
    "listen",
    "middleware",
    "nodes",
    "on",
    "path",
    "procedure",
    "provide",
    "rate_limits",
    "receiver",
    "run",
    "serve_forever",
    "spawn",
    "start",
    "user_sockets",
}
"""Names that npm's AGServer does not have; docs/server.md explains them."""


def in_table(owner: str) -> set[str]:
    """The Python names of a class, and of all emitters, in the table of JavaScript names."""
    section = ""
    found: set[str] = set()
    for line in (DOCS / "javascript-names.md").read_text().splitlines():
        cell = line.rpartition(" | ")[2]
        if line.startswith("## "):
            section = line[3:]
        elif section in (owner, "AsyncStreamEmitter"):
            found.update(name for name in re.findall(r"`(\w+)`", cell) if name[:2] != "AG")
        elif section == "Properties":
            found.update(re.findall(rf"`{owner}\.(\w+)`", cell))
    return found


def public(instance: object) -> set[str]:
    return {name for name in dir(instance) if not name.startswith("_")}


def undocumented(page: str, names: set[str]) -> set[str]:
    """The names that the text of a page does not have."""
    text = re.sub(r"```.*?```", "", (DOCS / page).read_text(), flags=re.DOTALL)
    code = " ".join(re.findall(r"`([^`]+)`", text))
    return names - set(re.findall(r"\w+", code))


async def test_a_socket_has_the_documented_names_and_its_parts() -> None:
    async with testing.clock(auto=True), AGServer() as server, connected(server):
        (socket,) = server.clients.values()
        names = public(socket)
    assert names == in_table("AGServerSocket") | SOCKET_OWN | SOCKET_PARTS | EMITTER
    assert undocumented("sockets.md", SOCKET_OWN | SOCKET_PARTS) == set()


def test_a_server_has_the_documented_names_and_its_parts() -> None:
    documented = in_table("AGServer") | SERVER_OWN | SERVER_PARTS | EMITTER
    assert public(AGServer()) == documented
    assert undocumented("server.md", SERVER_OWN | SERVER_PARTS) == set()


async def test_the_repr_of_a_socket_says_its_id_its_state_and_its_address(
    make_server: Any,
) -> None:
    server = await make_server()
    async with connected(server):
        (socket,) = server.clients.values()
        assert repr(socket) == f"<AGServerSocket {socket.id} open from 127.0.0.1>"
        socket.disconnect()
        assert repr(socket) == f"<AGServerSocket {socket.id} closed from 127.0.0.1>"


async def test_the_repr_of_a_server_says_its_state_its_address_and_how_many_clients_it_has() -> (
    None
):
    server = AGServer(drain_timeout=100)
    assert repr(server) == "<AGServer not ready clients=0>"
    await server.listen(0)
    where = f"on 127.0.0.1:{server.source_port}"
    assert repr(server) == f"<AGServer ready {where} clients=0>"
    async with connected(server):
        assert repr(server) == f"<AGServer ready {where} clients=1>"
    await server.close()
    assert repr(server) == "<AGServer not ready clients=0>"
