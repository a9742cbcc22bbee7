"""Foreign publishers, malformed messages, wrong credentials, wrong URLs: one clear event each."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker_servers import redis_cli, running_backend
from socketcluster import AGServer
from socketcluster.brokers.registry import create_broker
from socketcluster.brokers.session import Session
from socketcluster.errors import BrokerError, InvalidOptionsError
from support import Running, connected, soon, until

BAD = (b"hello", b"", b'{"a":', b'"\xff"', b"1 2", b"NaN", b"[" * 100_000, b"\x80\x04K\x01.")


def redis_publish(port: int, channel: str, payload: bytes) -> None:
    subprocess.run(
        ["redis-cli", "-p", str(port), "-x", "PUBLISH", channel],
        input=payload,
        check=True,
        capture_output=True,
    )


def nats_publish(port: int, subject: str, payload: bytes, reply: str = "") -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        stream = client.makefile("rwb")
        stream.readline()
        head = f"PUB {subject} {reply} {len(payload)}\r\n".encode()
        stream.write(b'CONNECT {"verbose":false}\r\n' + head + payload + b"\r\nPING\r\n")
        stream.flush()
        assert stream.readline() == b"PONG\r\n"


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_foreign_publishers_reach_clients(
    kind: str, make_server: Any, running: Running
) -> None:
    with running_backend(kind) as servers:
        port = servers.nodes[0].port
        server: AGServer = await make_server(broker_engine=servers.url)
        warnings = running.collect(server.listener("warning"))
        errors = running.collect(server.exchange.listener("error"))
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "news"})

            def publish(payload: bytes) -> None:
                if kind == "redis":
                    redis_publish(port, "sc:news", payload)
                else:
                    nats_publish(port, "sc.news", payload, "sc.$link.x.y")

            await asyncio.to_thread(publish, b' {"n": [1, "\xc3\xa9"]}\n')
            assert (await client.event())["data"]["data"] == {"n": [1, "é"]}
            for number, payload in enumerate(BAD, 1):
                await asyncio.to_thread(publish, payload)
                await until(lambda number=number: len(warnings) == number)  # type: ignore[misc]
            assert len(errors) == len(BAD)
            for event in warnings:
                assert isinstance(event.warning, BrokerError)
                assert str(event.warning).startswith(
                    "A message on the channel 'news' of the backend"
                )
            await asyncio.to_thread(publish, b'"on"')
            assert (await client.event())["data"]["data"] == "on"
        assert server.exchange.broker.ready


async def test_redis_cli_reaches_clients(make_server: Any) -> None:
    with running_backend("redis") as servers:
        server: AGServer = await make_server(broker_engine=servers.url + "?prefix=")
        async with connected(server) as client:
            await client.call("#subscribe", {"channel": "news"})
            redis_cli(servers.nodes[0].port, "PUBLISH", "news", '{"n":1}')
            assert (await client.event())["data"]["data"] == {"n": 1}


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_credentials(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Session] = []
    open_session = Session.open

    def counting(session: Session, *arguments: Any) -> Any:
        tries.append(session)
        return open_session(session, *arguments)

    monkeypatch.setattr(Session, "open", counting)
    options = (
        ["--requirepass", "s3cret"] if kind == "redis" else ["--user", "u", "--pass", "s3cret"]
    )
    with running_backend(kind, options) as servers:
        user = "" if kind == "redis" else "u"
        good = servers.url.replace("://", f"://{user}:s3cret@")
        broker = create_broker(good)
        await soon(broker.start())
        await soon(broker.check())
        await broker.close()
        for bad in (servers.url, servers.url.replace("://", "://u:wr0ng@")):
            required = create_broker(bad + "?required=1")
            with pytest.raises(BrokerError, match="Cannot reach") as caught:
                await soon(required.start())
            assert "wr0ng" not in str(caught.value)
            caplog.clear()
            tries.clear()
            waiting = create_broker(bad)
            with caplog.at_level(logging.WARNING):
                await soon(waiting.start())
                await until(lambda: len(tries) > 2)  # Which are reported once.
            assert not waiting.ready
            await waiting.close()
            (record,) = caplog.records
            assert "is away, trying again" in record.message
            assert "wr0ng" not in record.message


async def test_a_channel_that_redis_does_not_allow(make_server: Any) -> None:
    user = ["on", ">pw", "+@all", "resetchannels", "&sc:$inbox.*", "&sc:open"]
    with running_backend("redis") as servers:
        redis_cli(servers.nodes[0].port, "ACL", "SETUSER", "app", *user)
        broker = create_broker(servers.url.replace("://", "://app:pw@"))
        await soon(broker.start())
        for operation in (broker.subscribe("open"), broker.publish("open", b"1")):
            assert operation is not None
            await soon(operation)
        for operation in (broker.subscribe("shut"), broker.publish("shut", b"1")):
            assert operation is not None
            with pytest.raises(BrokerError, match="NOPERM"):
                await soon(operation)
        await soon(broker.check())
        await broker.close()


async def test_a_subject_that_nats_does_not_allow(tmp_path: Path) -> None:
    allowed = '["sc.$inbox.>", "sc.open"]'
    config = tmp_path / "nats.conf"
    config.write_text(
        "authorization { users = [{user: app, password: pw, permissions: "
        f"{{publish: {allowed}, subscribe: {allowed}}}}}] }}"
    )
    with running_backend("nats", ["-c", str(config)]) as servers:
        broker = create_broker(servers.url.replace("://", "://app:pw@"))
        await soon(broker.start())
        for operation in (broker.subscribe("open"), broker.publish("open", b"1")):
            assert operation is not None
            await soon(operation)
        for operation in (broker.subscribe("shut"), broker.publish("shut", b"1")):
            assert operation is not None
            with pytest.raises(BrokerError, match=r"(?i)permissions violation"):
                await soon(operation)
        too_large = broker.publish("open", bytes(2_000_000))
        assert too_large is not None
        with pytest.raises(BrokerError, match=r"(?i)payload"):
            await soon(too_large)
        await soon(broker.check())
        await broker.close()


def certificate(folder: Path) -> None:
    """Make cert.pem and key.pem for this host."""
    openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"{openssl} {names} -keyout key.pem -out cert.pem".split()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["rediss", "tls"])
async def test_tls(kind: str, tmp_path: Path) -> None:
    certificate(tmp_path)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    if kind == "rediss":
        options = ["--tls-port", "PORT", "--tls-cert-file", cert, "--tls-key-file", key]
        options += ["--tls-auth-clients", "no", "--port", "0"]
        backend = "redis"
    else:
        options = ["--tls", "--tlscert", cert, "--tlskey", key]
        backend = "nats"
    with running_backend(backend, options) as servers:
        port = servers.nodes[0].port
        broker = create_broker(f"{kind}://127.0.0.1:{port}?ssl_ca_certs={cert}")
        await soon(broker.start())
        await soon(broker.check())
        await broker.close()
        distrusting = create_broker(f"{kind}://127.0.0.1:{port}?required=1")
        with pytest.raises(BrokerError, match=r"(?i)certificate"):
            await soon(distrusting.start())


async def test_what_is_no_redis_at_all() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker = create_broker(f"redis://127.0.0.1:{port}?required=1")
        with pytest.raises(BrokerError, match="does not speak the Redis protocol"):
            await soon(broker.start())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kafka://a", "there is no broker for 'kafka'"),
        ("redis", "there is no broker for 'redis'"),
        ("redis://a:99999", "'99999' is no port"),
        ("redis://a:b", "'b' is no port"),
        ("redis://a,b", "names one host"),
        ("redis://", "names one host"),
        ("redis+sentinel://a", "ends with the name of the master"),
        ("redis+cluster://", "at least one host"),
        ("nats://", "at least one host"),
        ("redis://a?color=red", "has no parameter 'color'"),
        ("redis://a?away=never", "away must be 'local' or 'fail'"),
        ("redis://a?heartbeat_interval=no", "heartbeat_interval must be a number above 0"),
        ("redis://a?required=maybe", "required must be true or false"),
        ("rediss://a?ssl_ca_certs=/none", "cannot be used"),
        ("ipc://host/path", "names an absolute path"),
        ("ipc://", "names an absolute path"),
        ("ipc:///" + "a" * 200, "has at most 100 bytes"),
    ],
)
def test_a_wrong_url(url: str, message: str) -> None:
    with pytest.raises(InvalidOptionsError, match=r"^The broker_engine option: ") as caught:
        AGServer(broker_engine=url)
    assert message in str(caught.value)
    assert caught.value.option == "broker_engine"


@pytest.mark.parametrize(
    ("scheme", "module"), [("redis", "hiredis"), ("nats", "nats"), ("ipc", "zmq")]
)
def test_a_missing_extra(scheme: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in list(sys.modules):
        if name.split(".")[0] == module or name.startswith("socketcluster.brokers."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"ipc": "zeromq"}.get(scheme, scheme)
    with pytest.raises(InvalidOptionsError, match=rf"pip install 'socketcluster\[{extra}\]'"):
        create_broker(f"{scheme}:///x" if scheme == "ipc" else f"{scheme}://a")
