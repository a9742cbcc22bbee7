"""Tests of handlers: the result of a call has the handler's type."""

from __future__ import annotations

from typing import assert_type

import msgspec

from socketcluster import AGClientSocket, AGServer, Router, testing


class Add(msgspec.Struct):
    a: int
    b: int


class User(msgspec.Struct):
    name: str


server = AGServer()


@server.procedure("add")
def add(data: Add) -> int:
    return data.a + data.b


@server.procedure("name")
async def name(me: User) -> str:
    return me.name


async def results(client: AGClientSocket, router: Router) -> None:
    assert_type(await testing.call(add, Add(1, 2)), int)
    assert_type(await testing.call(name, provided={User: User("ann")}), str)
    assert_type(await testing.call(name, providers_of=router), str)
    await testing.call(name, me=User("ann"), providers_of=client)
    await testing.call(name, providers_of=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    with testing.override(server, {User: lambda: User("ann")}), testing.override(client, {}):
        pass
    testing.override(router, {})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
