"""The page and the document over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from describe.sample import TABLES, FakeTables, channel, channels, handler
from socketcluster.describe.api import Api
from socketcluster.describe.options import AsyncAPI
from socketcluster.describe.site import DescriptionSite


def client_of(
    options: AsyncAPI, root_path: str = "", tables: FakeTables = TABLES, **more: Any
) -> httpx.AsyncClient:
    site = DescriptionSite(options, tables, "/socketcluster/")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if site.serves(scope):
            await site.answer(scope, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(app, root_path=root_path)
    return httpx.AsyncClient(transport=transport, **{"base_url": "http://chat.test:8000", **more})


async def test_the_files_use_no_other_origin() -> None:
    async with client_of(AsyncAPI()) as client:
        page = await client.get("/asyncapi")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert 'src="asyncapi.js"' in page.text
        assert 'href="asyncapi.css"' in page.text
        for suffix in ("", ".js", ".css", ".json"):
            answer = await client.get(f"/asyncapi{suffix}")
            assert answer.status_code == 200
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert "access-control-allow-origin" not in answer.headers
            if suffix != ".json":
                assert "http" not in answer.text
            head = await client.head(f"/asyncapi{suffix}")
            assert (head.content, head.headers) == (b"", answer.headers)


@pytest.mark.parametrize(("method", "path"), [("POST", ".json"), ("GET", "/"), ("GET", "x")])
async def test_other_requests_are_not_served(method: str, path: str) -> None:
    async with client_of(AsyncAPI()) as client:
        assert (await client.request(method, f"/asyncapi{path}")).status_code == 404
        assert (await client.get("/other.json")).status_code == 404


async def test_the_document_has_the_options() -> None:
    options = AsyncAPI(title="Chat", version="7", description="A chat.", path="/docs/api")
    async with client_of(options) as client:
        assert 'src="api.js"' in (await client.get("/docs/api")).text
        document = (await client.get("/docs/api.json")).json()
    assert (document["info"]["title"], document["info"]["version"]) == ("Chat", "7")
    assert document["info"]["description"] == "A chat."
    assert "call_add" in document["channels"]


@pytest.mark.parametrize(
    ("options", "base", "host", "expected"),
    [
        (AsyncAPI(), "http://chat.test:8000", None, "ws://chat.test:8000/socketcluster/"),
        (AsyncAPI(), "https://chat.test", None, "wss://chat.test/socketcluster/"),
        (AsyncAPI(), "http://chat.test", "[::1]:8000", "ws://[::1]:8000/socketcluster/"),
        (AsyncAPI(url="wss://a.example/x"), "http://chat.test", None, "wss://a.example/x"),
        (AsyncAPI(), "http://chat.test", '"><script>', None),
    ],
)
async def test_the_server_is_the_host_of_the_request(
    options: AsyncAPI, base: str, host: str | None, expected: str | None
) -> None:
    headers = {} if host is None else {"host": host}
    async with client_of(options, base_url=base) as client:
        document = (await client.get("/asyncapi.json", headers=headers)).json()
    found = document.get("servers", {}).get("main")
    assert (found and f"{found['protocol']}://{found['host']}{found['pathname']}") == expected


async def test_a_mounted_server_has_its_page_below_the_mount() -> None:
    async with client_of(AsyncAPI(), root_path="/chat") as client:
        assert (await client.get("/chat/asyncapi.json")).status_code == 200


async def test_a_token_protects_the_document_and_not_the_page() -> None:
    async with client_of(AsyncAPI(token="sésame")) as client:
        assert (await client.get("/asyncapi")).status_code == 200
        for value in ("", "Bearer sesame", "sésame"):
            refused = await client.get(
                "/asyncapi.json", headers=[(b"authorization", value.encode())]
            )
            assert (refused.status_code, refused.text) == (401, "Unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/asyncapi.json?token=sésame")).status_code == 401
        headers = [(b"authorization", "Bearer sésame".encode())]
        assert (await client.get("/asyncapi.json", headers=headers)).status_code == 200


async def test_handlers_that_are_added_later_are_described_too() -> None:
    tables = FakeTables()
    async with client_of(AsyncAPI(), tables=tables) as client:
        assert (await client.get("/asyncapi.json")).json()["channels"] == {}
        tables.procedures = {"add": handler(int)}
        assert list((await client.get("/asyncapi.json")).json()["channels"]) == ["call_add"]


async def test_no_publish_is_described_where_the_server_takes_none() -> None:
    tables = FakeTables(channels=channels(channel("news", str)))
    api = Api.of(tables, can_publish=False)
    assert [found.can_publish for found in api.channels] == [False]
