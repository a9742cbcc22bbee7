"""What a NATS server refuses, against a fake one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers.fakes import FakeNats, Reports, listening
from socketcluster import AGServer
from socketcluster.brokers.registry import create_broker
from socketcluster.errors import BrokerError, InvalidOptionsError
from support import self_signed, soon, until


@asynccontextmanager
async def started(server: FakeNats, url: str = "nats://{}") -> AsyncIterator[tuple[Any, Reports]]:
    """A broker of the server, and what it reports."""
    async with listening(server.serve) as port:
        broker = create_broker(url.format(f"127.0.0.1:{port}"))
        reports = Reports()
        broker.attach(reports)
        await soon(broker.start())
        try:
            yield broker, reports
        finally:
            await soon(broker.close())


async def test_refused_publishes_raise_and_the_others_do_not() -> None:
    async with started(FakeNats("sc.secret")) as (broker, reports):
        await soon(broker.subscribe("a"))
        publishes = [broker.publish(name, b"1") for name in ("secret", "a", "secret", "a")]
        results = await soon(asyncio.gather(*publishes, return_exceptions=True))
        assert [type(result) for result in results] == [BrokerError, type(None)] * 2
        assert "Permissions Violation for Publish" in str(results[0])
        await until(lambda: len(reports.received) == 2)
        await soon(broker.publish("a", b"2"))
        assert reports.failures == reports.lost == []


async def test_a_refused_subscription_raises_and_the_others_do_not() -> None:
    async with started(FakeNats("sc.secret")) as (broker, reports):
        changes = [broker.subscribe("a"), broker.subscribe("secret")]
        results = await soon(asyncio.gather(*changes, return_exceptions=True))
        assert results[0] is None
        assert isinstance(results[1], BrokerError)
        assert "Permissions Violation for Subscription" in str(results[1])
        await soon(broker.publish("a", b"1"))
        await until(lambda: reports.received == [("a", b"1")])
        await soon(broker.unsubscribe("secret"))
        assert broker.ready
        assert reports.lost == []


async def test_a_refusal_is_that_of_the_very_channel() -> None:
    """nats-py makes the server's errors lower case."""
    async with started(FakeNats("sc.Secret")) as (broker, reports):
        publishes = [broker.publish(name, b"1") for name in ("secret", "Secret", "secret")]
        results = await soon(asyncio.gather(*publishes, return_exceptions=True))
        assert [type(result) for result in results] == [type(None), BrokerError, type(None)]
        changes = [broker.subscribe("secret"), broker.subscribe("Secret")]
        results = await soon(asyncio.gather(*changes, return_exceptions=True))
        assert [type(result) for result in results] == [type(None), BrokerError]
        assert 'to "sc.Secret"' in str(results[1])
        assert reports.failures == reports.lost == []


async def test_a_publish_that_is_too_long_raises_and_the_next_does_not() -> None:
    async with started(FakeNats(max_payload=100)) as (broker, _):
        publishes = [broker.publish("a", bytes(size)) for size in (101, 100)]
        results = await soon(asyncio.gather(*publishes, return_exceptions=True))
        assert isinstance(results[0], BrokerError)
        assert "maximum payload exceeded" in str(results[0])
        assert results[1] is None


async def test_an_error_of_the_server_ends_the_link_and_the_broker_returns() -> None:
    server = FakeNats()
    async with started(server) as (_, reports):
        server.send("-ERR 'Maximum Connections Exceeded'")
        await soon(reports.recovered.wait())
        (lost,) = reports.lost
        assert lost.endswith("closed the connection: nats: maximum connections exceeded")


async def test_a_listener_that_raises_is_reported_and_gets_the_next_message() -> None:
    async with started(FakeNats()) as (broker, reports):
        await soon(broker.subscribe("a"))

        def fail(channel: str, payload: bytes) -> None:
            del reports.backend_message_received
            raise ValueError("It cannot be read")

        reports.backend_message_received = fail  # type: ignore[method-assign]
        await soon(broker.publish("a", b"1"))
        await soon(broker.publish("a", b"2"))
        await until(lambda: reports.received == [("a", b"2")])
        assert reports.failures == ["It cannot be read"]


async def test_a_message_of_a_lost_link_is_not_delivered() -> None:
    """Its sender has published over a later link since."""
    server = FakeNats()
    async with started(server) as (broker, reports):
        await soon(broker.subscribe("a"))
        (number,) = [n for s, n in server.subscriptions.items() if s == b"sc.a"]
        for epoch in ("2", "1", "x", "2"):
            server.send(f"MSG sc.a {number.decode()} sc.$link.other.{epoch} 1\r\n{epoch}")
        server.send(f"MSG sc.a {number.decode()} elsewhere 1\r\n0")
        await until(lambda: len(reports.received) == 4)
        assert [payload for _, payload in reports.received] == [b"2", b"x", b"2", b"0"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nats://me:secret@{}", {"user": "me", "pass": "secret"}),
        ("nats://:secret@{}", {"user": "", "pass": "secret"}),
        ("nats://token@{}", {"auth_token": "token"}),
        ("nats://{}", {}),
    ],
)
async def test_the_account(url: str, options: dict[str, str]) -> None:
    server = FakeNats(auth_required=True)
    async with started(server, url):
        account = {"user", "pass", "auth_token"}
        assert {n: v for n, v in server.options.items() if n in account} == options


SEED = "SUAB" + "A" * 54
CREDENTIALS = f"""-----BEGIN NATS USER JWT-----
token
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


@pytest.mark.parametrize(
    ("parameter", "text", "problem"),
    [
        ("creds", None, "No such file"),
        ("nkey", None, "No such file"),
        ("nkey", "", "no seed of a user"),
        ("nkey", "x", "no seed of a user"),
        ("nkey", "é", "no text of ASCII"),
        ("creds", "x", "no block 'BEGIN NATS USER JWT'"),
        ("creds", CREDENTIALS.partition("-----BEGIN USER")[0], "no block 'BEGIN USER NKEY SEED'"),
        ("creds", CREDENTIALS.replace(SEED, "x"), "no seed of a user"),
        ("creds", CREDENTIALS.partition(SEED)[0], "no block 'BEGIN USER NKEY SEED'"),
    ],
)
def test_credentials_that_cannot_be_used(
    parameter: str, text: str | None, problem: str, tmp_path: Path
) -> None:
    """A server is not made then, rather than in an outage for ever."""
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidOptionsError, match=problem) as raised:
        AGServer(broker_engine=f"nats://127.0.0.1?{parameter}={file}")
    assert parameter in str(raised.value)
    assert str(file) in str(raised.value)
    assert text is None or not text.strip() or text.strip() not in str(raised.value).split(": ")


@pytest.mark.parametrize(("parameter", "text"), [("creds", CREDENTIALS), ("nkey", f"{SEED}\n")])
async def test_credentials_in_files(parameter: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    server = FakeNats(auth_required=True, nonce="n")
    async with started(server, f"nats://{{}}?{parameter}={file}") as (broker, reports):
        assert server.options["sig"]
        assert server.options.get("jwt") == ("token" if parameter == "creds" else None)
        # They may be renewed: they are read for each connection.
        file.unlink()
        server.send("-ERR 'Stale Connection'")
        await until(lambda: bool(reports.lost))
        await until(
            lambda: broker.outage is not None and "No such file" in str(broker.outage.error)
        )
        file.write_text(text.replace("token", "renewed"))
        await soon(reports.recovered.wait())
        assert server.options.get("jwt") == ("renewed" if parameter == "creds" else None)


async def test_credentials_are_not_sent_to_a_server_without_tls() -> None:
    """One that shall use TLS does not fall back to plain text."""
    server = FakeNats(auth_required=True)
    async with listening(server.serve) as port:
        broker = create_broker(f"tls://me:secret@127.0.0.1:{port}?required=true")
        with pytest.raises(BrokerError, match="Cannot connect: secure connection required"):
            await soon(broker.start())
    assert server.options == {}


@pytest.mark.parametrize("offer", ["tls_required", "tls_available"])
async def test_tls_is_used_when_the_server_offers_it(offer: str, tmp_path: Path) -> None:
    server = FakeNats(auth_required=True, **{offer: True})
    certfile, keyfile = self_signed(tmp_path)
    server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.tls.load_cert_chain(certfile, keyfile)
    async with listening(server.serve) as port:
        url = f"tls://me:secret@localhost:{port}?required=true&ssl_ca_certs={certfile}"
        broker = create_broker(url)
        await soon(broker.start())
        assert server.options["user"] == "me"
        assert server.writer is not None
        assert server.writer.get_extra_info("ssl_object") is not None
        await soon(broker.close())


def test_a_url_names_a_host() -> None:
    with pytest.raises(InvalidOptionsError, match="a nats:// URL names at least one host"):
        create_broker("nats://")
