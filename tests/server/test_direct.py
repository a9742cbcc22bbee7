"""The direct path, from the bytes of a call to its answer: it must be like the ordinary path."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from socketcluster import AGServer
from socketcluster.server.packets import direct
from support import AnswerError, Client, connected, soon


class Strict(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a == 2:
            raise KeyError(self.a)


async def call(client: Client, name: str, data: str | None) -> Any:
    """Call as clients of JavaScript do, without spaces."""
    packet = client.packet(name)
    answer = client.answer(packet)
    text = "" if data is None else f'"data":{data},'
    await client.send(f'{{"event":"{name}",{text}"cid":{packet["cid"]}}}')
    return await soon(answer)


@pytest.fixture(params=["direct", "ordinary"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both paths, for the same tests."""
    kind: str = request.param
    if kind == "ordinary":
        monkeypatch.setattr("socketcluster.server.handling.direct_table", lambda handling: {})
    return kind


async def test_a_default_takes_the_place_of_null_and_of_nothing(make_server: Any) -> None:
    server = AGServer()

    @server.procedure("anything")
    def anything(data: Any = 5) -> Any:
        return data

    @server.procedure("number")
    def number(data: int = 5) -> int:
        return data

    @server.procedure("perhaps")
    async def perhaps(data: int | None = 5) -> int | None:
        return data

    @server.procedure("nothing")
    def nothing(data: int | None = None) -> int | None:
        return data

    await make_server(server)
    async with connected(server) as client:
        for name in ("anything", "number", "perhaps"):
            assert [await call(client, name, data) for data in (None, "null", "1")] == [5, 5, 1]
        assert [await call(client, "nothing", data) for data in (None, "null", "1")] == [
            None,
            None,
            1,
        ]


@pytest.mark.parametrize("waits", [False, True])
async def test_code_of_a_type_that_fails_is_answered(make_server: Any, waits: bool) -> None:
    server = AGServer()

    def plain(data: Strict) -> int:
        return data.a

    async def waiting(data: Strict) -> int:
        return data.a

    server.procedure("p")(waiting if waits else plain)
    await make_server(server)
    async with connected(server) as client:
        with pytest.raises(AnswerError) as failed:
            await call(client, "p", '{"a":2}')
        assert failed.value.wire["name"] == "InternalServerError"
        assert await call(client, "p", '{"a":1}') == 1


async def test_cancelled_work_inside_a_plain_handler_is_answered(
    make_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = AGServer()

    @server.procedure("p")
    def cancelled() -> None:
        raise asyncio.CancelledError

    @server.receiver("r")
    def received() -> None:
        raise asyncio.CancelledError

    await make_server(server)
    async with connected(server) as client:
        await client.transmit("r")
        for _ in range(2):
            with pytest.raises(AnswerError) as failed:
                await call(client, "p", None)
            assert failed.value.wire["name"] == "InternalServerError"
    assert "cancelled" in caplog.text


async def test_the_direct_path_is_taken(
    make_server: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    make = direct._direct

    def watched(runner: Any) -> Any:
        carry_out = make(runner)

        def watch(socket: Any, message: bytes) -> bool:
            taken.append(carry_out(socket, message))
            return taken[-1]

        return watch

    monkeypatch.setattr(direct, "_direct", watched)
    server = AGServer()

    @server.procedure("add")
    def add(data: list[int]) -> int:
        return sum(data)

    await make_server(server)
    async with connected(server) as client:
        assert await call(client, "add", "[1,2]") == 3
        assert await call(client, "add", "[1, 2]") == 3
        with pytest.raises(AnswerError, match="Expected `int`"):
            await call(client, "add", '["1"]')
    assert taken == ([True, True, False] if path == "direct" else [])
