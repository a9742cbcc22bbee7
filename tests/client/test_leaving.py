"""Connecting and disconnecting in all orders, as the original's test suite does."""

from __future__ import annotations

import asyncio
from typing import Any

from socketcluster.errors import BadConnectionError, SocketProtocolError
from support import Running, names, record, soon, until


async def test_one_that_connects_is_aborted(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    found = record(client)
    client.disconnect()
    assert names(found) == ["connectAbort", "close"]
    await soon(client.wait_closed())
    assert names(found) == ["connectAbort", "close"]


async def test_one_that_is_open_is_disconnected(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    await client.listener("connect").once(4000)
    found = record(client)
    client.disconnect()
    assert names(found) == ["disconnect", "close"]
    assert (found[0][1].code, found[0][1].reason) == (1000, None)


async def test_reconnect_passes_on_code_and_reason(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    await client.listener("connect").once(4000)
    found = record(client)
    client.reconnect(1000, "About to reconnect")
    await client.listener("connect").once(4000)
    assert (found[0][1].code, found[0][1].reason) == (1000, "About to reconnect")
    assert names(found) == ["disconnect", "close", "connecting", "connect"]


async def test_connect_of_a_connected_one_does_nothing(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    await client.listener("connect").once(4000)
    found = record(client)
    client.connect()
    await asyncio.sleep(0)
    assert found == []


async def test_many_connects_and_disconnects_in_a_row(make_server: Any, make_client: Any) -> None:
    client = make_client(await make_server())
    found = record(client)
    client.disconnect(1000, "One")
    client.connect()
    client.disconnect(4444, "Two")
    connected = client.listener("connect").create_consumer()
    client.connect()
    await connected.next(4000)
    client.disconnect(4455, "Three")
    told = [
        (name, getattr(event, "code", None), getattr(event, "reason", None))
        for name, event in found
        if name not in ("error", "connecting", "connect")
    ]
    assert told == [
        ("connectAbort", 1000, "One"),
        ("close", 1000, "One"),
        ("connectAbort", 4444, "Two"),
        ("close", 4444, "Two"),
        ("disconnect", 4455, "Three"),
        ("close", 4455, "Three"),
    ]
    assert names(found).count("connecting") == 2
    assert names(found).count("connect") == 1


async def test_a_call_fails_before_disconnect_is_emitted(
    make_server: Any, make_client: Any
) -> None:
    client = make_client(await make_server())
    await client.listener("connect").once(4000)
    order: list[str] = []

    async def call() -> None:
        try:
            await client.invoke("never answered")
        except BadConnectionError:
            order.append(f"error, {client.state}")

    async def wait() -> None:
        await client.listener("disconnect").once(4000)
        order.append("disconnect")

    calling, waiting = asyncio.create_task(call()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    client.disconnect()
    await soon(asyncio.gather(calling, waiting))
    assert order == ["error, closed", "disconnect"]


async def test_channels_are_left_before_disconnect_is_emitted(
    make_server: Any, make_client: Any
) -> None:
    client = make_client(await make_server())
    await client.subscribe("foo").listener("subscribe").once(4000)
    found = record(client)
    client.disconnect()
    assert names(found).index("unsubscribe") < names(found).index("disconnect")


async def test_a_subscription_that_is_aborted_has_not_failed(
    make_server: Any, make_client: Any
) -> None:
    client = make_client(await make_server())
    await client.listener("connect").once(4000)
    found = record(client)
    client.subscribe("foo")
    client.disconnect()
    await soon(client.wait_closed())
    assert "subscribeFail" not in names(found)
    assert client.subscriptions(include_pending=True) == ["foo"]


async def test_an_event_sent_after_disconnect_connects_again(
    make_server: Any, make_client: Any, running: Running
) -> None:
    server = await make_server()
    received = running.collect(server.exchange.subscribe("room"))
    client = make_client(server)
    await client.listener("connect").once(4000)
    found = record(client)
    client.disconnect()
    client.transmit_publish("room", 123)
    await until(lambda: received == [123])
    assert names(found) == ["disconnect", "close", "connecting", "connect"]


async def test_silence_is_reported_as_a_ping_timeout(make_server: Any, make_client: Any) -> None:
    server = await make_server(ping_interval=60_000, ping_timeout=100)
    client = make_client(server, auto_reconnect=False)
    found = record(client)
    await client.listener("close").once(4000)
    events = dict(found)
    assert events["disconnect"].code in (4000, 4001)  # Whoever is the first to notice.
    assert isinstance(events["error"].error, SocketProtocolError)
    assert events["disconnect"].reason in ("Server ping timed out", "Client pong timed out")
