"""What a Redis server refuses, against a fake one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from brokers.fakes import FakeRedis, Reports, bulk, listening, push
from socketcluster.brokers import remote
from socketcluster.brokers.redis_connection import RedisAccount, connect
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError, InvalidOptionsError
from support import soon, until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again without a delay that matters."""
    monkeypatch.setattr(remote, "MIN_BACK_OFF_SECONDS", 0.001)


@asynccontextmanager
async def started(server: FakeRedis, query: str = "") -> AsyncIterator[tuple[Any, Reports]]:
    """A broker of the server, and what it reports."""
    async with listening(server.serve) as port:
        broker = create_broker(f"redis://127.0.0.1:{port}?{query}")
        reports = Reports()
        broker.attach(reports)
        await soon(broker.start())
        try:
            yield broker, reports
        finally:
            await soon(broker.close())


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"HELLO": b"-NOPROTO unsupported protocol version\r\n"}, "is too old: Redis 6 or newer"),
        ({"HELLO": b"-ERR unknown command 'HELLO'\r\n"}, "is too old: Redis 6 or newer"),
        ({"HELLO": b"-WRONGPASS invalid username-password pair\r\n"}, "refused: WRONGPASS invalid"),
        ({"HELLO": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, "does not speak the Redis protocol"),
        ({"HELLO": b"%1\r\n+id\r\n:1\r\n:2\r\n"}, "a reply to no command"),
        ({"SUBSCRIBE": b"-NOPERM no permissions\r\n"}, "NOPERM no permissions"),
        ({"PUBLISH": b"-READONLY it is a replica\r\n"}, "READONLY it is a replica"),
    ],
)
async def test_a_server_that_cannot_be_used(answers: dict[str, bytes], problem: str) -> None:
    async with listening(FakeRedis(answers).serve) as port:
        with pytest.raises(BrokerError, match=problem):
            await soon(create_broker(f"redis://127.0.0.1:{port}?required=true").start())


@pytest.mark.parametrize(
    ("credentials", "hello"),
    [
        ("me:secret@", ["AUTH", "me", "secret"]),
        (":secret@", ["AUTH", "default", "secret"]),
        ("me@", []),
    ],
)
async def test_the_account(credentials: str, hello: list[str]) -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        broker = create_broker(f"redis://{credentials}127.0.0.1:{port}?required=true")
        await soon(broker.start())
        await soon(broker.close())
    assert server.commands[0] == ["HELLO", "3", *hello, "SETNAME", "socketcluster"]


async def test_a_refused_subscription_raises_and_the_others_do_not() -> None:
    async with started(FakeRedis({"SUBSCRIBE sc:secret": b"-NOPERM not you\r\n"})) as (
        broker,
        reports,
    ):
        changes = [broker.subscribe("a"), broker.subscribe("secret")]
        results = await soon(asyncio.gather(*changes, return_exceptions=True))
        assert results[0] is None
        assert isinstance(results[1], BrokerError)
        await soon(broker.publish("a", b"1"))
        await until(lambda: reports.received == [("a", b"1")])
        assert reports.lost == []


@pytest.mark.parametrize("command", ["SUBSCRIBE", "UNSUBSCRIBE"])
async def test_any_other_error_ends_the_link_and_the_next_has_all_channels(command: str) -> None:
    """The state of the subscriptions is unknown."""
    server = FakeRedis({f"{command} sc:a": b"-ERR out of memory\r\n"})
    async with started(server) as (broker, reports):
        if command == "UNSUBSCRIBE":
            await soon(broker.subscribe("a"))
            await soon(broker.unsubscribe("a"))
        else:
            await soon(broker.subscribe("a"))
        server.answers.clear()
        await soon(reports.recovered.wait())
        assert reports.lost == ["ERR out of memory"]
        await soon(broker.subscribe("b"))
        await soon(broker.publish("b", b"1"))
        await until(lambda: reports.received == [("b", b"1")])


async def test_a_refused_publish_raises_and_the_others_do_not() -> None:
    async with started(FakeRedis({"PUBLISH sc:secret": b"-NOPERM not you\r\n"})) as (broker, _):
        publishes = [broker.publish(name, b"1") for name in ("secret", "a")]
        results = await soon(asyncio.gather(*publishes, return_exceptions=True))
        assert str(results[0]).startswith("NOPERM not you (the ACL of the broker's Redis user")
        assert results[1] is None


@pytest.mark.parametrize("answers", [b"-NOPERM not you\r\n", bulk(b"name=x")])
async def test_a_server_that_does_not_tell_the_address_of_a_connection(answers: bytes) -> None:
    """A lost link is not killed, because its id alone may be another's by then."""
    server = FakeRedis({"CLIENT INFO": answers})
    async with started(server) as (_, reports):
        assert server.writer is not None
        server.writer.close()
        await soon(reports.recovered.wait())
        assert ["CLIENT", "KILL"] not in [command[:2] for command in server.commands]


async def test_a_lost_link_that_cannot_be_killed_is_reported() -> None:
    server = FakeRedis({"CLIENT KILL": b"-NOPERM not you\r\n"})
    async with started(server) as (broker, reports):
        assert server.writer is not None
        server.writer.close()
        await soon(reports.recovered.wait())
        assert reports.failures[0].startswith("Cannot end the connection before: NOPERM not you (")
        assert len(reports.failures) == 1
        await soon(broker.check())


async def test_a_subscription_that_the_server_dropped_ends_the_link() -> None:
    server = FakeRedis()
    async with started(server) as (broker, _):
        await soon(broker.subscribe("a"))
        server.subscribed.popitem()
        with pytest.raises(BrokerError, match="has 1 subscriptions of this process, not 2"):
            await soon(broker.check())


async def test_a_push_of_another_kind_is_ignored() -> None:
    server = FakeRedis()
    async with started(server) as (broker, reports):
        assert server.writer is not None
        server.writer.write(push(bulk(b"invalidate"), b"*0\r\n"))
        await soon(broker.check())
        assert broker.ready
        assert reports.received == []
        assert reports.failures == []


async def test_a_lost_connection_sends_nothing() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        connection = await soon(connect("127.0.0.1", port, RedisAccount()))
        lost: list[BrokerError] = []
        connection.on_lost = lost.append
        connection.close()
        await until(lambda: bool(lost))
        with pytest.raises(BrokerError, match="closed the connection"):
            await soon(connection.call("PING"))


async def test_a_call_that_was_cancelled_leaves_the_replies_of_others_in_place() -> None:
    server = FakeRedis({"ONE": b"", "TWO": b"+1\r\n+2\r\n"})
    async with listening(server.serve) as port:
        connection = await soon(connect("127.0.0.1", port, RedisAccount()))
        calls = [asyncio.create_task(connection.call(name)) for name in ("ONE", "TWO")]
        await asyncio.sleep(0)
        calls[0].cancel()
        assert await soon(calls[1]) == b"2"
        connection.close()


# Sentinels


@asynccontextmanager
async def sentinels(*answers: bytes | None) -> AsyncIterator[str]:
    """The hosts of Sentinels; one is not there if its answer is None."""
    if not answers:
        yield ""
        return
    answer, *others = answers
    async with sentinels(*others) as rest:
        if answer is None:
            yield f"127.0.0.1:1,{rest}"
            return
        server = FakeRedis({"SENTINEL GET-MASTER-ADDR-BY-NAME": answer})
        async with listening(server.serve) as port:
            yield f"127.0.0.1:{port},{rest}"


async def test_sentinels_that_do_not_know_the_master() -> None:
    async with sentinels(None, b"_\r\n", b"-NOPERM not you\r\n") as hosts:
        broker = create_broker(f"redis+sentinel://{hosts}/main?required=true")
        with pytest.raises(BrokerError, match="No Sentinel names the master") as raised:
            await soon(broker.start())
    problems = str(raised.value)
    assert "Cannot connect to 127.0.0.1:1: Connection refused" in problems
    assert "knows no master 'main'" in problems
    assert "NOPERM not you" in problems


async def test_the_first_sentinel_that_knows_the_master_is_believed() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        master = b"*2\r\n" + bulk(b"127.0.0.1") + bulk(b"%d" % port)
        async with sentinels(b"_\r\n", master) as hosts:
            broker = create_broker(f"redis+sentinel://{hosts}/main?required=true")
            await soon(broker.start())
            await soon(broker.close())
    assert server.connections == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://", "a redis:// URL names one host"),
        ("redis://a,b", "a redis:// URL names one host"),
        ("redis+sentinel://", "names one host"),
        ("redis+sentinel://a", "ends with the name of the master"),
        ("redis+cluster://", "a cluster URL names at least one host"),
        ("redis+cluster://a?prefix={app}", "the prefix of a cluster has no braces"),
        ("rediss://a?ssl_ca_certs=/none", "TLS files of the URL cannot be used"),
    ],
)
def test_a_wrong_url(url: str, problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem):
        create_broker(url)


# A cluster


def slots(*owners: tuple[int, int, int]) -> bytes:
    """An answer to CLUSTER SLOTS of (first, last, port). The host is that which was asked."""
    ranges = [
        b"*3\r\n:%d\r\n:%d\r\n*3\r\n$-1\r\n:%d\r\n" % (first, last, port) + bulk(b"id")
        for first, last, port in owners
    ]
    return b"*%d\r\n" % len(ranges) + b"".join(ranges)


async def test_a_slot_without_an_owner_fails_its_publishes_and_checks() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = slots((0, 8191, port))
        broker = create_broker(f"redis+cluster://127.0.0.1:1,127.0.0.1:{port}")
        reports = Reports()
        broker.attach(reports)
        await soon(broker.start())
        assert not broker.ready
        with pytest.raises(BrokerError, match="some slots have no server"):
            await soon(broker.check())
        results = []
        for channel in "abcdefgh":
            try:
                publish = broker.publish(channel, b"1")
                assert publish is not None
                await soon(publish)
                results.append(True)
            except BrokerError:
                results.append(False)
        assert set(results) == {True, False}
        await soon(broker.close())


async def test_a_required_cluster_that_is_incomplete_does_not_start() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = slots((0, 8191, port))
        broker = create_broker(f"redis+cluster://127.0.0.1:{port}?required=true")
        with pytest.raises(BrokerError, match="some slots have no server"):
            await soon(broker.start())


async def test_a_required_cluster_with_a_server_that_is_away_does_not_start() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = slots((0, 8191, port), (8192, 16383, 1))
        broker = create_broker(f"redis+cluster://127.0.0.1:{port}?required=true")
        with pytest.raises(BrokerError, match=r"Cannot connect to 127\.0\.0\.1:1"):
            await soon(broker.start())


async def test_a_cluster_server_that_is_silent_is_passed_over() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = FakeRedis()
    async with listening(silent) as hung, listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = slots((0, 16383, port))
        hosts = f"127.0.0.1:{hung},127.0.0.1:{port}"
        broker = create_broker(f"redis+cluster://{hosts}?required=true&heartbeat_timeout=0.5")
        await soon(broker.start())
        assert broker.ready
        await soon(broker.close())


async def test_a_cluster_that_starts_later_ends_the_outage() -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = b"-CLUSTERDOWN not yet\r\n"
        broker = create_broker(f"redis+cluster://127.0.0.1:{port}")
        reports = Reports()
        broker.attach(reports)
        await soon(broker.start())
        (lost,) = reports.lost
        assert "CLUSTERDOWN not yet" in lost
        server.answers["CLUSTER SLOTS"] = slots((0, 16383, port))
        await soon(reports.recovered.wait())
        assert broker.ready
        await soon(broker.close())


@pytest.mark.parametrize("way", ["push", "publish"])
async def test_a_server_that_hands_over_channels_is_left(way: str) -> None:
    server = FakeRedis()
    async with listening(server.serve) as port:
        server.answers["CLUSTER SLOTS"] = slots((0, 16383, port))
        broker = create_broker(f"redis+cluster://127.0.0.1:{port}")
        reports = Reports()
        broker.attach(reports)
        await soon(broker.start())
        if way == "push":
            assert server.writer is not None
            server.writer.write(push(bulk(b"sunsubscribe"), bulk(b"sc:a"), b":1\r\n"))
        else:
            server.answers["SPUBLISH sc:a"] = b"-MOVED 1 127.0.0.1:1\r\n"
            publish = broker.publish("a", b"1")
            assert publish is not None
            with pytest.raises(BrokerError, match="MOVED"):
                await soon(publish)
        await soon(reports.recovered.wait())
        assert reports.lost == ["The server handed channels over to another"]
        await soon(broker.close())
