"""Brokers with the permissions that docs/scaling.md shows, at real servers that grant no others."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from broker_servers import BackendServers, redis_cli, running_backend
from conformance.test_brokers import NAMES, Made, done, reaches
from conformance.test_storing import Made as StoringMade
from conformance.test_storing import payloads_of
from socketcluster import AGServer
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.storing import Position, Retention
from socketcluster.errors import BrokerError
from socketcluster.nodes import messages as node_messages
from support import AnswerError, connected, soon, until

SCALING = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()
REDIS = ("redis", "redis-sentinel", "redis-cluster")
KINDS = (*REDIS, "nats")
PARAMETERS = "heartbeat_interval=0.1&heartbeat_timeout=0.5"


def documented_acl(number: int) -> list[str]:
    """The rules of an `ACL SETUSER` of the page: of a server, a cluster, a Sentinel, histories."""
    found = re.findall(r"^    ACL SETUSER \w+ (.*)", SCALING, re.MULTILINE)
    return str(found[number]).replace("PASSWORD", "secret").split()


def with_account(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://socketcluster:secret@{rest}"


@pytest.fixture(scope="module", params=KINDS)
def kind(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backend(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServers]:
    """A backend whose user "socketcluster" has the documented permissions, and no others."""
    options: list[str] = []
    if kind == "nats":
        found = re.search(r"```conf\n(authorization.*?)```", SCALING, re.DOTALL)
        assert found is not None
        file = tmp_path_factory.mktemp("nats") / "nats.conf"
        narrow = '["sc.mine", "sc.$inbox.*"]'
        account = f"  {{user: narrow, password: secret, permissions: {{publish: {narrow}, "
        account += f"subscribe: {narrow}}}}}"
        text = found[1].replace("PASSWORD", "secret")
        file.write_text(text.replace("\n  ]", f"\n  {account}\n  ]"))
        options = ["-c", str(file)]
    with running_backend(kind, options) as servers:
        if kind.startswith("redis"):
            for node in servers.nodes:
                is_sentinel = kind == "redis-sentinel" and node is servers.nodes[-1]
                rules = documented_acl(2 if is_sentinel else int(kind == "redis-cluster"))
                granted_narrowly = [rule for rule in rules if not rule.startswith("&")]
                granted_narrowly += [] if is_sentinel else ["&sc:mine", "&sc:$inbox.*"]
                users = [("socketcluster", rules), ("narrow", granted_narrowly)]
                if not is_sentinel:
                    stored = documented_acl(3)
                    users.append(("storing", [*rules, *stored]))
                    users.append(("storing-narrow", [*granted_narrowly, *stored]))
                for user, granted in users:
                    assert redis_cli(node.port, "ACL", "SETUSER", user, *granted) == "OK\n"
        yield servers


@pytest.fixture
def url(backend: BackendServers, kind: str) -> str:
    url = f"{with_account(backend.url)}?{PARAMETERS}"
    if kind == "redis-sentinel":
        url += "&sentinel_username=socketcluster&sentinel_password=secret"
    return url


async def started(url: str) -> Made:
    made = Made(create_broker(url + "&required=true"))
    await soon(made.broker.start())
    return made


async def test_all_operations_work(url: str) -> None:
    a, b = await started(url), await started(url)
    tag = secrets.token_hex(4)
    for name in NAMES:
        await b.subscribe(f"{tag}{name}")
        await reaches(a, b, f"{tag}{name}")
    await soon(a.broker.check())
    await done(b.broker.unsubscribe(f"{tag}a"))
    await a.publish(f"{tag}a", b"1")
    await a.publish(f"{tag}ab", b"2")
    await until(lambda: b.received == [(f"{tag}ab", b"2")])
    for made in (a, b):
        assert made.listener.lost == made.listener.failures == []
        await made.broker.close()


async def test_a_lost_link_is_replaced(url: str, kind: str) -> None:
    """That takes further commands: with Redis, the former connection is killed."""
    a = await started(url)
    await a.subscribe("again")
    brokers = [*getattr(a.broker, "_servers", {}).values()] or [a.broker]
    for broker in brokers:
        broker._session.link_lost(BrokerError("lost"))
    await until(lambda: len(a.listener.gaps) == len(brokers) and a.broker.ready)
    await reaches(a, a, "again")
    assert a.listener.failures == []
    await a.broker.close()


async def test_servers_know_each_other(
    url: str, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_messages, "ALIVE_SECONDS", 0.1)
    servers = [await make_server(broker_engine=url, auth_key="secret") for _ in range(2)]
    await until(lambda: all(server.nodes for server in servers))


async def test_without_permissions_for_internal_names_all_else_works(
    url: str, make_server: Any, caplog: Any
) -> None:
    url = url.replace("//socketcluster:", "//narrow:") + "&required=true"
    server: AGServer = await make_server(broker_engine=url, auth_key="secret")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "mine"})
        await client.call("#publish", {"channel": "mine", "data": 1})
        assert (await client.event())["data"]["data"] == 1
    await until(lambda: "see Permissions in docs/scaling.md" in caplog.text)
    assert server.nodes == []


async def test_another_prefix_is_refused(url: str, kind: str) -> None:
    with pytest.raises(BrokerError, match=r"docs/scaling.md") as refused:
        await started(f"{url}&prefix=other")
    assert "NATS user" in str(refused.value) if kind == "nats" else "NOPERM" in str(refused.value)


async def test_a_refused_channel_is_logged_with_the_way_to_allow_it(
    url: str, kind: str, make_server: Any, caplog: Any
) -> None:
    """A user that may use some channels of the prefix only."""
    url = url.replace("//socketcluster:", "//narrow:")
    server: AGServer = await make_server(broker_engine=url + "&required=true")
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "mine"})
        with pytest.raises(AnswerError):
            await client.call("#subscribe", {"channel": "secret"})
        with pytest.raises(AnswerError):
            await client.call("#publish", {"channel": "secret", "data": 1})
        server.exchange.transmit_publish("secret 2", 1)
        await asyncio.sleep(0)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    hint = "NATS user" if kind == "nats" else "Redis user"
    for text in (
        "A subscription failed (channel 'secret'):",
        "A publish failed (channel 'secret'):",
    ):
        (line,) = [line for line in lines if line.startswith(text)]
        assert f"{hint} has to allow it" in line or f"{hint} have to allow it" in line
        assert "docs/scaling.md" in line


HISTORY = Retention(10, 60.0)


@pytest.mark.parametrize("kind", REDIS, indirect=True)
async def test_all_operations_of_a_history_work(url: str) -> None:
    a, b = [await started(url.replace("//socketcluster:", "//storing:")) for _ in range(2)]
    storing: Any = a.broker
    name = secrets.token_hex(4)
    await b.subscribe(name)
    for payload, id in ((b"1", "1"), (b"1", "1"), (b"2", None)):
        await soon(storing.publish_stored(name, payload, HISTORY, id))
    await until(lambda: len(b.received) == 2)
    for reverse in (False, True):
        page = await soon(storing.history(name, HISTORY, reverse=reverse))
        assert sorted(m.payload for m in page.messages) == [b"1", b"2"]
    renewed = await soon(storing.renew_epoch(name, HISTORY, page.top._replace(offset=9)))
    assert renewed.epoch != page.top.epoch
    await soon(storing.keep({name: b"1"}, 60))
    assert await soon(storing.take(name)) == b"1"
    for made in (a, b):
        assert made.listener.lost == made.listener.failures == []
        await made.broker.close()


@pytest.mark.parametrize("kind", REDIS, indirect=True)
async def test_the_position_goes_above_the_entries_of_another_program(
    url: str, backend: BackendServers
) -> None:
    made = await started(url.replace("//socketcluster:", "//storing:"))
    storing: Any = made.broker
    name = secrets.token_hex(4)
    await soon(storing.publish_stored(name, b"1", HISTORY))
    for node in backend.nodes:  # Those that do not own the key refuse.
        redis_cli(node.port, "XADD", f"sc:history:{{sc:{name}}}", "50-0", "other", "1")
    await soon(storing.publish_stored(name, b"2", HISTORY))
    await soon(storing.publish_stored(name, b"3", HISTORY))
    page = await soon(storing.history(name, HISTORY))
    assert [m[:2] for m in page.messages] == [(1, 0), (51, 1), (52, 51)]
    await made.broker.close()


@pytest.mark.parametrize("kind", REDIS, indirect=True)
async def test_a_publish_to_a_refused_channel_is_not_stored(url: str) -> None:
    made = await started(url.replace("//socketcluster:", "//storing-narrow:"))
    allowed = await started(url.replace("//socketcluster:", "//storing:"))
    narrow: Any = made.broker
    for id in (None, "1"):
        stored = [narrow.publish_stored(name, b"1", HISTORY, id) for name in ("secret", "mine")]
        results = await soon(asyncio.gather(*stored, return_exceptions=True))
        assert results[1] is None
        assert isinstance(results[0], BrokerError)
        assert "Redis user has to allow it" in str(results[0])
        assert "docs/scaling.md" in str(results[0])
    storing: Any = allowed.broker
    assert (await soon(storing.history("secret", HISTORY))).messages == []
    await soon(storing.publish_stored("secret", b"2", HISTORY, "1"))
    page = await soon(storing.history("secret", HISTORY))
    assert [m.payload for m in page.messages] == [b"2"]
    assert page.complete
    assert len((await soon(storing.history("mine", HISTORY))).messages) == 2
    for item in (made, allowed):
        assert item.listener.lost == []
        await item.broker.close()


@pytest.mark.parametrize("kind", REDIS, indirect=True)
async def test_a_history_without_its_permissions_is_refused_with_the_way_to_allow_it(
    url: str,
) -> None:
    made = await started(url)
    plain: Any = made.broker
    for refused in (
        plain.publish_stored("a", b"1", HISTORY),
        plain.history("a", HISTORY),
        plain.renew_epoch("a", HISTORY, Position("x", 1)),
        plain.keep({"a": b"1"}, 1),
        plain.take("a"),
    ):
        with pytest.raises(BrokerError, match=r"see Permissions in docs/scaling.md"):
            await soon(refused)
    await made.publish("a", b"1")
    assert made.listener.lost == []
    await made.broker.close()


DOCUMENTED = Retention(100, 300)


@pytest.fixture(scope="module", params=["may make streams", "may not"])
def jetstream(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendServers]:
    """JetStream with the documented permissions, or with the documented streams beside less."""
    found = re.search(r"```conf\n(authorization[^`]*sc!history.*?)```", SCALING, re.DOTALL)
    assert found is not None
    text = found[1].replace("PASSWORD", "secret")
    text = text.replace("\n  ]\n}", "\n    {user: admin, password: secret}\n  ]\n}")
    if request.param == "may not":
        text, count = re.subn(r'"\$JS\.API\.STREAM\.(CREATE|UPDATE)\.\w[\w-]*",', "", text)
        assert count == 4
    file = tmp_path_factory.mktemp("nats") / "nats.conf"
    file.write_text(text)
    with running_backend("nats", ["-js", "-c", str(file)]) as servers:
        if request.param == "may not":
            asyncio.run(make_documented_streams(servers.url))
        yield servers


async def make_documented_streams(url: str) -> None:
    client = await nats.connect(url, user="admin", password="secret")
    for block in re.findall(r"```json\n(.*?)```", SCALING, re.DOTALL):
        subject = f"$JS.API.STREAM.CREATE.{json.loads(block)['name']}"
        answer = await client.request(subject, block.encode())
        assert "error" not in json.loads(answer.data), answer.data
    await client.close()


async def storing_with(url: str) -> StoringMade:
    made = StoringMade(create_broker(f"{with_account(url)}?{PARAMETERS}&required=true"))
    await soon(made.broker.start())
    return made


async def test_history_in_nats(jetstream: BackendServers) -> None:
    made = await storing_with(jetstream.url)
    await made.subscribe("a")
    start = (await made.history("a", retention=DOCUMENTED)).top
    await made.store("a", b"1", b"2", retention=DOCUMENTED, id="one")
    await made.store("a", b"3", retention=DOCUMENTED)
    page = await made.history("a", since=start, retention=DOCUMENTED)
    assert payloads_of(page) == [b"1", b"3"]
    assert page.complete
    await until(lambda: made.delivered("a") == [b"1", b"3"])
    ahead = Position(page.top.epoch, page.top.offset + 10)
    renewed = await soon(made.storing.renew_epoch("a", DOCUMENTED, ahead))
    assert renewed.epoch != page.top.epoch
    await soon(made.storing.keep({"k": b"1"}, 60))
    await soon(made.storing.keep({"l": b"1"}, 120))
    assert await soon(made.storing.take("k")) == b"1"
    assert await soon(made.storing.take("k")) is None
    await made.broker.close()


async def test_another_rule_than_those_allowed(jetstream: BackendServers) -> None:
    made = await storing_with(jetstream.url)
    expected = r"Permissions .*sc_history_5-300s.*see Permissions in docs/scaling.md"
    other = Retention(5, 300)
    with pytest.raises(BrokerError, match=expected):
        await made.history("a", retention=other)
    with pytest.raises(BrokerError, match=expected):
        await made.store("a", b"1", retention=other)
    await made.store("a", b"1", retention=DOCUMENTED)
    await made.broker.close()


@pytest.mark.parametrize("kind", ["nats"], indirect=True, scope="module")
async def test_permissions_without_history(url: str) -> None:
    """The error says where those for it are."""
    made = StoringMade(create_broker(url + "&required=true"))
    await soon(made.broker.start())
    for _ in range(2):
        with pytest.raises(BrokerError, match=r"see Permissions in docs/scaling.md"):
            await made.history("a")
        with pytest.raises(BrokerError, match=r"see Permissions in docs/scaling.md"):
            await made.store("a", b"1")
    await done(made.broker.publish("a", b"1"))
    await made.broker.close()
