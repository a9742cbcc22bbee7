"""Histories in Redis over failovers and moving slots."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from broker_servers import redis_cli, running_backend
from conformance.test_storing import KEEP_ALL, Made, payloads_of
from socketcluster.brokers import redis_cluster
from socketcluster.brokers.redis_keys import slot_of
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError
from support import soon, until

PARAMETERS = "heartbeat_interval=0.1&heartbeat_timeout=0.5"


async def started(url: str) -> Made:
    made = Made(create_broker(f"{url}?{PARAMETERS}&required=true"))
    await soon(made.broker.start())
    return made


def says(port: int, text: str, *command: str) -> None:
    """Wait until a server's answer contains a text."""
    deadline = time.monotonic() + 30
    while text not in redis_cli(port, *command):
        assert time.monotonic() < deadline, redis_cli(port, *command)
        time.sleep(0.02)


async def test_a_failover_that_loses_the_tail_is_found_by_renewing() -> None:
    with running_backend("redis-sentinel") as servers:
        master, replica, sentinel = (node.port for node in servers.nodes)
        await asyncio.to_thread(says, sentinel, str(replica), "SENTINEL", "REPLICAS", "main")
        await asyncio.to_thread(says, replica, "master_link_status:up", "INFO")
        a = await started(servers.url)
        await a.subscribe("a")
        await a.store("a", b"1", b"2")
        await asyncio.to_thread(says, master, "1", "WAIT", "1", "1000")
        # The replica cannot come back: it does not know the password.
        redis_cli(master, "CONFIG", "SET", "requirepass", "secret")
        redis_cli(master, "-a", "secret", "CLIENT", "KILL", "TYPE", "replica")
        await asyncio.to_thread(says, replica, "master_link_status:down", "INFO")
        await a.store("a", b"tail")
        seen = await a.top("a")
        assert seen.offset == 3
        servers.nodes[0].kill()
        await until(lambda: a.listener.gaps > 0)
        assert await a.top("a") == seen._replace(offset=2)
        page = await a.history("a", since=seen)
        assert (page.messages, page.complete) == ([], False)
        renewed = await soon(a.storing.renew_epoch("a", KEEP_ALL, seen))
        assert renewed.epoch != seen.epoch
        await a.store("a", b"3")
        await until(lambda: a.delivered("a")[-1] == b"3")
        assert a.listener.stored["a"][-1] == (renewed.epoch, 3, 2, b"3")
        assert payloads_of(await a.history("a")) == [b"1", b"2", b"3"]
        await a.broker.close()


async def test_a_history_moves_with_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cluster, "REFRESH_SECONDS", 0.05)
    with running_backend("redis-cluster") as servers:
        target, source, third = (node.port for node in servers.nodes)
        slot = slot_of("{1}")
        assert 5461 <= slot <= 10922  # The second server's.
        a = await started(servers.url)
        other = next(f"c{n}" for n in range(1000) if 5461 <= slot_of(f"sc:c{n}") <= 10922)
        await a.subscribe("{1}")
        await a.store("{1}", b"1", b"2")
        top = await a.top("{1}")
        ids = {port: redis_cli(port, "CLUSTER", "MYID").strip() for port in (source, target)}
        redis_cli(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", ids[source])
        redis_cli(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", ids[target])
        await a.store("{1}", b"3")
        keys = redis_cli(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "100").split()
        assert len(keys) == 2
        redis_cli(source, "MIGRATE", "127.0.0.1", str(target), "", "0", "5000", "KEYS", *keys)
        # Between the servers it can be neither stored nor read; all else can.
        results: Any = await asyncio.gather(
            a.store("{1}", b"refused"),
            a.history("{1}"),
            a.store(other, b"1"),
            return_exceptions=True,
        )
        assert results[2] is None
        for error in results[:2]:
            assert "history of the channel '{1}' is moving to another server" in str(error)
        assert a.broker.ready
        for port in (target, source, third):
            redis_cli(port, "CLUSTER", "SETSLOT", str(slot), "NODE", ids[target])

        async def store(payload: bytes) -> None:
            while True:
                try:
                    await a.store("{1}", payload)
                    return
                except BrokerError:
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(store(b"4"), 30)
        await until(lambda: a.delivered("{1}") == [b"1", b"2", b"3", b"4"])
        page = await a.history("{1}", since=top)
        assert (payloads_of(page), page.complete) == ([b"3", b"4"], True)
        assert page.top == top._replace(offset=4)
        await a.broker.close()
