"""The face of AGClientSocket: its public names, and its repr."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from client.fakes import Peer, fake_server
from socketcluster import AGClientSocket, create

NAMES = Path(__file__).parents[2] / "docs" / "javascript-names.md"
OWN = {
    "batching",
    "streams",
    "wire",
    "channel_is_listened_to",
    "create_listener_consumer",
    "emit_tracked",
    "from_thread",
    "has_listener",
    "get_outbound_buffer_size",
    "handlers",
    "handling",
    "history",
    "include",
    "loop_binding",
    "on",
    "provide",
    "wait_closed",
}
"""Names that the original does not have: documented in docs/client.md, docs/threads.md and
docs/sockets.md, parts, or shared with other emitters and channel owners."""


def test_no_other_name_is_public() -> None:
    section, documented = "", set()
    for line in NAMES.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif section in ("AGClientSocket", "AsyncStreamEmitter"):
            documented.update(re.findall(r"\| `(\w+)` \|$", line))
    client = AGClientSocket(auto_connect=False)
    public = {name for name in dir(client) if not name.startswith("_")}
    assert public - documented - OWN == set()
    assert documented - public == set()


async def test_the_repr_says_where_and_how_it_is_connected(make_client: Any) -> None:
    async def handle(peer: Peer) -> None:
        await peer.handshake(id="abc")

    async with fake_server(handle) as port:
        client = make_client(port, auto_connect=False)
        address = f"ws://127.0.0.1:{port}/socketcluster/"
        assert repr(client) == f"<AGClientSocket {address} closed>"
        async with client:
            assert repr(client) == f"<AGClientSocket {address} open id='abc'>"


def test_the_repr_has_no_secrets() -> None:
    client = create(
        hostname="example.com",
        secure=True,
        auto_connect=False,
        query={"token": "secret"},
        ws_options={"headers": {"Authorization": "secret"}, "proxy": "http://u:secret@proxy:1"},
    )
    assert repr(client) == "<AGClientSocket wss://example.com/socketcluster/ closed>"
