"""Options: those that exist, and the errors for those that do not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Unpack, assert_type

import socketcluster
from socketcluster import (
    AGClientSocket,
    AGServer,
    AGServerSocket,
    CleanupMode,
    ClientOptions,
    ClientOptionsDict,
    ReconnectOptions,
    ReconnectOptionsDict,
    ServerOptions,
    ServerOptionsDict,
    testing,
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""


async def servers() -> None:
    AGServer(app=app, auth_key="secret", ping_interval=timedelta(seconds=8), origins=["a.com:443"])
    AGServer(socket_stream_cleanup_mode="close", per_message_deflate={"threshold": 512, "level": 1})
    assert_type(await socketcluster.listen(0, app=app, path="/"), AGServer)
    assert_type(socketcluster.attach(app, max_payload=1000), AGServer)
    assert_type(ServerOptions.of(broker_engine="redis://localhost"), ServerOptions)

    AGServer(ping_intervall=8000)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AGServer(ping_interval="8s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGServer(protocol_version=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGServer(socket_stream_cleanup_mode="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGServer(per_message_deflate={"treshold": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGServer(codec_engine=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await socketcluster.listen(pth="/")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    socketcluster.attach(app, max_payload="1 MiB")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ServerOptions.of(brocker_engine="")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def clients(server: AGServer) -> None:
    AGClientSocket(hostname="localhost", port=8000, ws_options={"headers": {"X": "1"}})
    AGClientSocket(protocol_scheme="wss", auto_reconnect_options=ReconnectOptions(randomness=0))
    delays: ReconnectOptionsDict = {"initial_delay": 500}
    client = socketcluster.create(auto_reconnect_options=delays, auto_connect=False)
    assert_type(client, AGClientSocket)
    client.connect(ack_timeout=100)
    assert_type(ClientOptions.of(path="/"), ClientOptions)
    async with testing.connect(server, ack_timeout=100) as connected:
        assert_type(connected, AGClientSocket)

    socketcluster.create(hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AGClientSocket(port="80")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGClientSocket(protocol_scheme="http")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AGClientSocket(ws_options={"header": {}})  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportArgumentType]
    client.connect(hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ClientOptions.of(hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.create(server, hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    testing.connect(server, hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def tokens(socket: AGServerSocket) -> None:
    await socket.set_auth_token({"name": "Ada"}, expires_in=timedelta(hours=1), audience=["a"])
    of_the_engine: dict[str, Any] = {"device": "phone"}
    await socket.set_auth_token({}, **of_the_engine)
    await socket.deauthenticate(reject_on_failed_delivery=True)

    await socket.set_auth_token({}, expire_in=60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await socket.set_auth_token({}, expires_in="1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await socket.deauthenticate(reject=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def subscriptions(client: AGClientSocket) -> None:
    client.subscribe("news", wait_for_auth=True, priority=1, data={"since": 5})
    client.channel("news").subscribe(wait_for_auth=True)

    client.subscribe("news", wait_for_authentication=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.channel("news").subscribe(prio=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# In a program's own functions.


def make_server(mode: CleanupMode = "kill", **options: Unpack[ServerOptionsDict]) -> AGServer:
    options.setdefault("ping_interval", 1000)
    return AGServer(socket_stream_cleanup_mode=mode, path=options.get("path", "/"))


def make_client(**options: Unpack[ClientOptionsDict]) -> AGClientSocket:
    return AGClientSocket(**options)


def own_functions() -> None:
    make_server("none", path="/")
    make_client(hostname="localhost")

    make_server(pth="/")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    make_server("drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    make_client(hostnam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
