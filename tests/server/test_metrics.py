"""What a server with metrics counts, over TCP and in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from recovering import history, place, publish, server_with, subscribe
from socketcluster import AGAction, AGRequest, AGServer, Limits, Metrics, Rate
from socketcluster.brokers.simple import SimpleBroker
from socketcluster.errors import BrokerError, InvalidRequestError
from socketcluster.middleware import MIDDLEWARE_INBOUND, MIDDLEWARE_OUTBOUND
from socketcluster.server.survey import SLICE, Survey
from support import AnswerError, connected, soon, until
from transports import Refused, dial

ON = Metrics(token=None)


def read(server: AGServer) -> dict[str, float]:
    """The samples, by name and label values: "calls_total/add/ok"."""
    assert server.metrics is not None
    return {
        "/".join([each.name.removeprefix("socketcluster_"), *each.labels.values()]): each.value
        for family in server.metrics.collector.collect()
        for each in family.samples
    }


def size(messages: list[str | bytes]) -> int:
    """The bytes of the frames of texts."""
    sizes = [len(each.encode() if isinstance(each, str) else each) for each in messages]
    return sum(each + (2 if each < 126 else 4) for each in sizes)


async def test_calls_are_counted_by_procedure_and_result(make_server: Any) -> None:
    server = AGServer(metrics=ON, drain_timeout=100)

    @server.procedure("add")
    def add(data: int) -> int:
        if data < 0:
            raise InvalidRequestError("negative")
        return data + 1

    @server.procedure("slow")
    async def slow(data: Any) -> Any:
        await asyncio.sleep(0)
        return object() if data == "unencodable" else data

    await make_server(server)
    async with connected(server) as client:
        assert await client.call("add", 1) == 2
        assert await client.call("slow", [1]) == [1]
        for name, data in [
            ("add", -1),
            ("add", "text"),
            ("add", "x" * 5000),  # Not on the direct path.
            ("slow", "unencodable"),
            ("made-up", 1),
            ("made-up-too", "x" * 5000),
        ]:
            with pytest.raises(AnswerError):
                await client.call(name, data)
    found = read(server)
    assert {name: value for name, value in found.items() if name.startswith("calls_total")} == {
        "calls_total/add/ok": 1,
        "calls_total/add/error": 1,
        "calls_total/add/invalid": 2,
        "calls_total/slow/ok": 1,
        "calls_total/slow/error": 1,
        "calls_total/slow/invalid": 0,
        "calls_total/_OTHER/ok": 0,
        "calls_total/_OTHER/error": 2,
    }
    assert found["call_duration_seconds_count/add"] == 2
    assert found["call_duration_seconds_bucket/slow/+Inf"] == 2
    assert not any("made-up" in name for name in found)


async def test_calls_of_loops_are_timed_from_their_arrival_to_their_answer(
    make_server: Any,
) -> None:
    server = await make_server(metrics=ON)
    answering = asyncio.Event()
    arrived: list[Any] = []

    async def handle(socket: Any) -> None:
        async for request in socket.procedure("loop"):
            arrived.append(request.data)
            await answering.wait()
            if request.data == "end":
                request.end(1)
            elif request.data == "error":
                request.error(InvalidRequestError("no"))
            del request

    listener = server.listener("connection").create_consumer()
    async with connected(server) as client:
        task = asyncio.create_task(handle((await soon(listener.next())).value.socket))
        calls = [asyncio.ensure_future(client.call("loop", x)) for x in ("end", "error", "drop")]
        await until(lambda: read(server)["calls_in_progress"] == 3)
        await asyncio.sleep(0.02)
        answering.set()
        assert await soon(calls[0]) == 1
        for call in calls[1:]:
            with pytest.raises(AnswerError):
                await soon(call)
        found = read(server)
        assert found["calls_in_progress"] == 0
        assert found["calls_total/_OTHER/ok"] == 1
        assert found["calls_total/_OTHER/error"] == 2
        assert found["call_duration_seconds_count/_OTHER"] == 2
        task.cancel()


async def test_a_cancelled_handler_counts_as_an_error(make_server: Any) -> None:
    server = AGServer(metrics=ON, drain_timeout=100)
    begun = asyncio.Event()

    @server.procedure("wait", cancel_on_disconnect=True)
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    await make_server(server)
    async with connected(server) as client:
        await client.send(client.packet("wait") | {"cid": 9})
        await soon(begun.wait())
        assert read(server)["calls_in_progress"] == 1
    await until(lambda: read(server)["calls_total/wait/error"] == 1)
    assert read(server)["calls_total/wait/ok"] == 0


async def test_messages_and_bytes_are_those_of_living_and_ended_sockets(make_server: Any) -> None:
    server = await make_server(metrics=ON, ping_timeout_disabled=True)
    sent = sent_bytes = received = 0
    for number in range(3):
        async with connected(server) as client:
            for _ in range(number):
                with pytest.raises(AnswerError):
                    await client.call("x", "ä")
            (socket,) = server.clients.values()
            received += socket.get_bytes_received()
            sent += len(client.messages)
            found = read(server)
            assert found["received_bytes_total"] == received
            assert found["messages_received_total"] == number * (number + 1) / 2 + number + 1
            assert found["messages_sent_total"] == sent
            sent_bytes += size(client.messages)
            assert found["sent_bytes_total"] == sent_bytes
        await until(lambda: not server.clients)
        assert read(server)["received_bytes_total"] == received
        assert read(server)["sent_bytes_total"] == sent_bytes
    found = read(server)
    assert found["connections_total/opened"] == 3
    assert found["disconnections_total/1000"] == 3


@pytest.mark.parametrize("outbound", [False, True])
@pytest.mark.parametrize("batched", [False, True])
async def test_deliveries_count_as_sent_once(
    make_server: Any, outbound: bool, batched: bool
) -> None:
    options = {"batch_on_handshake": True} if batched else {}
    server = await make_server(metrics=ON, ping_timeout_disabled=True, **options)
    if outbound:

        async def middleware(stream: Any) -> None:
            async for action in stream:
                if action.data == "blocked":
                    action.block()
                else:
                    action.allow()

        server.set_middleware(MIDDLEWARE_OUTBOUND, middleware)
    async with connected(server) as one, connected(server) as two:
        for client in (one, two):
            await client.call("#subscribe", {"channel": "news"})
        for _ in range(3):  # Before an answer of the same turn, too.
            await one.call("#publish", {"channel": "news", "data": "x"})
        await two.call("#publish", {"channel": "news", "data": "blocked"})
        await server.exchange.invoke_publish("news", 1)
        for client in (one, two):
            while (await client.event())["data"]["data"] != 1:
                pass
        found = read(server)
        assert found["messages_sent_total"] == len(one.messages) + len(two.messages)
        assert found["sent_bytes_total"] == size(one.messages) + size(two.messages)
    assert found["publishes_total/client"] == 4
    assert found["publishes_total/exchange"] == 1
    assert found["publishes_total/backend"] == 0
    assert found["deliveries_total"] == 10
    assert found["subscriptions"] == 2
    assert found["channels"] == 1
    assert found["blocked_actions_total/publishOut"] == (2 if outbound else 0)
    assert read(server)["subscriptions"] == 0


async def test_refusals_are_counted_by_their_kind(make_server: Any) -> None:
    server = AGServer(metrics=ON, drain_timeout=100)

    @server.channel("rooms/{name}")
    def rooms(name: str) -> bool:
        return name == "open"

    await make_server(server)

    async def middleware(stream: Any) -> None:
        async for action in stream:
            if action.type == AGAction.INVOKE:
                action.block()
            else:
                action.allow()

    server.set_middleware(MIDDLEWARE_INBOUND, middleware)
    async with connected(server) as client:
        for event, data in [
            ("add", 1),
            ("#subscribe", {"channel": "rooms/closed"}),
            ("#publish", {"channel": "rooms/closed", "data": 1}),
            ("#publish", {"channel": "rooms/shut", "data": 1}),
            ("#authenticate", "no token"),
        ]:
            try:
                await client.call(event, data)
            except AnswerError:
                continue
    found = read(server)
    assert found["blocked_actions_total/invoke"] == 1
    assert found["blocked_actions_total/subscribe"] == 1
    assert found["blocked_actions_total/publishIn"] == 2
    assert found["blocked_actions_total/handshakeWS"] == 0
    assert found["auth_failures_total/invalid"] == 1
    assert found["auth_failures_total/expired"] == 0
    assert found["calls_total/_OTHER/error"] == 0


async def test_codes_that_clients_make_up_are_counted_together(make_server: Any) -> None:
    server = await make_server(metrics=ON)
    for code in (4000, 4777, 4778):
        async with connected(server) as client:
            await client.ws.close(code)
        await until(lambda: not server.clients)
    found = read(server)
    assert found["disconnections_total/other"] == 2
    assert found["disconnections_total/4000"] == 1


async def test_connections_that_get_nowhere_are_counted(make_server: Any) -> None:
    server = await make_server(metrics=ON)
    async with connected(server, handshake=False):
        await until(lambda: read(server)["pending_clients"] == 1)
    await until(lambda: read(server)["connections_total/aborted"] == 1)
    assert read(server)["connections_total/opened"] == 0


async def test_pongs_and_late_ticks_are_timed(make_server: Any) -> None:
    server = await make_server(metrics=ON, ping_interval=20, ping_timeout=2000)
    async with connected(server) as client:
        await until(lambda: client.pings >= 2)
        await until(lambda: read(server)["pong_seconds_count"] >= 2)
        await client.send("")  # A pong that no ping asked for.
        await until(lambda: read(server)["loop_lag_seconds_count"] >= 2)
        found = read(server)
        assert found["pong_seconds_count"] <= client.pings
        assert 0 <= found["pong_seconds_sum"] < 2 * client.pings


async def test_the_largest_backlogs_are_found(make_server: Any) -> None:
    server = AGServer(metrics=ON, drain_timeout=100, max_inbound_backlog=4)
    go_on = asyncio.Event()

    @server.procedure("wait")
    async def wait() -> None:
        await go_on.wait()

    await make_server(server)
    async with connected(server) as client, connected(server):
        calls = [asyncio.ensure_future(client.call("wait")) for _ in range(6)]
        await until(lambda: read(server)["consumer_backpressure_max"] == 5)
        found = read(server)
        assert found["paused_sockets"] == 1
        assert found["clients"] == 2
        go_on.set()
        await soon(asyncio.gather(*calls))
    assert read(server)["paused_sockets"] == 0


async def test_publishes_that_are_dropped_for_slow_readers_are_counted(make_server: Any) -> None:
    server = await make_server(metrics=ON, droppable_channels=["fast"], max_outbound_buffer=50_000)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "fast"})
        for number in range(20):
            server.exchange.transmit_publish("fast", str(number) * 10_000)
        await until(lambda: read(server)["dropped_publishes_total"] > 0)


class MeasuredSimple(SimpleBroker):
    """A broker in the process that is measured like one with a backend."""

    def measure(self) -> tuple[int, float | None]:
        return 7, 0.25


async def test_the_broker_is_described(make_server: Any) -> None:
    server = await make_server(metrics=ON)
    found = read(server)
    assert found["broker_up"] == 1
    assert "broker_unconfirmed" not in found
    broker = MeasuredSimple()
    server = await make_server(metrics=ON, broker_engine=broker)
    listener: Any = broker._listener
    listener.backend_recovered(1500, BrokerError("away"))
    listener.backend_message_received("news", b"1")
    found = read(server)
    assert found["broker_unconfirmed"] == 7
    assert found["broker_round_trip_seconds"] == 0.25
    assert found["broker_gaps_total"] == 1
    assert found["broker_gap_seconds_total"] == 1.5
    assert found["publishes_total/backend"] == 1


async def test_a_look_at_many_sockets_lets_the_loop_turn(make_server: Any) -> None:
    server = await make_server(metrics=ON)
    async with connected(server):
        sockets = server.hub.sockets() * (3 * SLICE)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        survey = Survey()
        await survey.look_in_slices(sockets)
        counting.cancel()
    assert turns >= 3
    assert survey.received == 3 * SLICE


async def test_a_server_without_metrics_times_nothing(make_server: Any) -> None:
    server: AGServer = await make_server()

    @server.procedure("add")
    def add(data: int) -> int:
        return data

    assert server.handling.procedures["add"].call is add
    assert server.metrics is None
    async with connected(server) as client:
        assert await client.call("add", 1) == 1


async def test_own_requests_are_left_as_they_are(make_server: Any) -> None:
    server = await make_server(metrics=ON, request_creator=AGRequest)
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("x")
    assert read(server)["call_duration_seconds_count/_OTHER"] == 0


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
async def test_refusals_of_all_limits_are_counted(make_server: Any) -> None:
    limits = Limits(sockets_per_user=1, connections_per_ip=2, connect_per_ip=Rate(100))
    server = await make_server(
        metrics=ON,
        limits=limits,
        max_connections=1,
        identify=lambda socket: "ann",
    )
    async with connected(server):
        for _ in range(2):
            with pytest.raises(Refused):
                await dial(server)
    await until(lambda: not server.clients)
    found = read(server)
    assert found["connections_total/refused"] == 2
    kinds = {n.split("/")[1]: v for n, v in found.items() if n.startswith("rate_limited_total")}
    assert kinds == server.rate_limits.limited
    assert kinds["max_connections"] == 2
    assert {"sockets_per_user", "connections_per_ip", "connect_per_ip", "message"} <= set(kinds)


@pytest.mark.parametrize("make_server", ["picows", "memory"], indirect=True)
async def test_refused_connections_are_counted_by_their_limit(make_server: Any) -> None:
    server = await make_server(metrics=ON, max_connections=1)
    async with connected(server):
        with pytest.raises(Refused):
            await dial(server)
        found = read(server)
    assert found["max_connections"] == found["rate_limited_total/max_connections"] == 1
    assert found["rate_limited_total/connections_per_ip"] == 0
    assert found["connections_total/refused"] == 1
    assert "max_connections" not in read(await make_server(metrics=ON))


def test_messages_between_servers_are_counted() -> None:
    server = AGServer(broker_engine="redis://127.0.0.1:1", auth_key="secret", metrics=ON)
    nodes = server.node_messages
    assert nodes is not None
    nodes.sent, nodes.received, nodes.failed = 3, 2, 1
    nodes.dropped["signature"] = 4
    found = read(server)
    assert found["node_messages_total/sent"] == 3
    assert found["node_messages_total/received"] == 2
    assert found["node_messages_total/failed"] == 1
    assert found["node_messages_dropped_total/signature"] == 4


async def test_recoveries_are_counted_by_result(make_server: Any) -> None:
    server = await make_server(server_with(history(recover_limit=1), metrics=ON))
    async with connected(server) as client:
        first = await subscribe(client)
    for told, values in [
        (place(first), [1]),
        (place(first), [2]),
        (place(first) | {"since": ""}, []),
    ]:
        await publish(server, *values)
        async with connected(server) as client:
            await subscribe(client, told)
            await subscribe(client, None, channel="c/2")
    found = read(server)
    for result in ("recovered", "incomplete", "refused"):
        assert found[f"recoveries_total/{result}"] == 1
