"""The description of a server's handlers over HTTP, with each engine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from socketcluster import AGServer, AsyncAPI
from socketcluster.demo import create_demo_server

pytestmark = pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)


async def test_it_is_served_beside_the_application(make_server: Any) -> None:
    server: AGServer = await make_server(
        asyncapi=AsyncAPI(title="Chat"), allow_client_publish=False
    )

    @server.procedure("add")
    def add(data: int) -> int:
        return data

    @server.channel("news", publish=str)
    def news() -> bool:
        return True

    assert add(1) == 1
    assert news()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        assert (await http.get("/asyncapi")).status_code == 200
        document = (await http.get("/asyncapi.json")).json()
        assert (await http.get("/other")).status_code == 404
    assert list(document["operations"]) == ["call_add", "message_news"]
    host = f"127.0.0.1:{server.source_port}"
    assert (document["servers"]["main"]["protocol"], document["servers"]["main"]["host"]) == (
        *("ws", host),
    )


async def test_it_is_off_by_default(make_server: Any) -> None:
    server = await make_server()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        for path in ("/asyncapi", "/asyncapi.json"):
            assert (await http.get(path)).status_code == 404


async def test_it_is_on_in_the_demo(make_server: Any) -> None:
    server = await make_server(create_demo_server(drain_timeout=100))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.source_port}") as http:
        assert (await http.get("/asyncapi.json")).json()["info"]["title"] == "SocketCluster demo"
