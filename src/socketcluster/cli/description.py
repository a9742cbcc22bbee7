"""The commands that print files for clients: `asyncapi`, `openrpc`, `types` and `recovering`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from socketcluster.cli.exit_status import CommandError, run, usage_error
from socketcluster.cli.loading import TargetError, load_server, print_target_traceback
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.waiting import first_of

if TYPE_CHECKING:
    from socketcluster import AGServer
    from socketcluster.describe.api import Api

Target = Annotated[
    str | None,
    typer.Argument(
        help="The server, as module:attribute: an AGServer, or a function that returns one. "
        "Without it the demo is described."
    ),
]
Title = Annotated[
    str | None, typer.Option(help="Title of the API; default: that of the server's option.")
]
APIVersion = Annotated[
    str | None, typer.Option(help="Version of the API; default: that of the server's option.")
]
Description = Annotated[
    str | None, typer.Option(help="Description of the API; default: that of the server's option.")
]
URL = Annotated[
    str | None,
    typer.Option(
        help="URL that clients connect to, such as wss://chat.example.com/socketcluster/."
    ),
]

Document = Callable[..., dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command()(asyncapi)
    app.command()(openrpc)
    app.command()(types)
    app.command()(recovering)


def asyncapi(
    target: Target = None,
    title: Title = None,
    api_version: APIVersion = None,
    description: Description = None,
    url: URL = None,
) -> None:
    """Print the AsyncAPI document of a server's handlers, without serving them."""
    from socketcluster.describe.asyncapi import asyncapi_document

    changes = {"title": title, "version": api_version, "description": description, "url": url}
    _print_document(target, asyncapi_document, changes)


def openrpc(
    target: Target = None,
    title: Title = None,
    api_version: APIVersion = None,
    description: Description = None,
    url: URL = None,
) -> None:
    """Print the OpenRPC document of a server's procedures, without serving them."""
    from socketcluster.describe.openrpc import openrpc_document

    changes = {"title": title, "version": api_version, "description": description, "url": url}
    _print_document(target, openrpc_document, changes)


def types(
    target: Target = None,
    wrapper: Annotated[
        bool,
        typer.Option(
            "--wrapper", help="Print the JavaScript module that the types describe instead."
        ),
    ] = False,
) -> None:
    """Print the TypeScript types of a server's handlers, for the official JavaScript client."""
    from socketcluster.describe import declarations

    async def text() -> str:
        if not wrapper:
            return declarations.declarations(_describe(await _load(target)))
        if target is not None:
            raise usage_error("The wrapper is the same for every server: give no TARGET")
        return declarations.wrapper()

    raise typer.Exit(run(_print(text)))


def recovering(
    classic: Annotated[
        bool,
        typer.Option("--classic", help="Print a script for <script src> and require instead."),
    ] = False,
    types: Annotated[
        bool, typer.Option("--types", help="Print the TypeScript types of the module instead.")
    ] = False,
) -> None:
    """Print recovering.js, with which the official JavaScript client misses no publish.

    It is for channels with history, and for the versions 14 to 20 of the client.
    """
    from socketcluster.history import javascript

    async def text() -> str:
        if classic and types:
            raise usage_error("The options --classic and --types exclude each other")
        if types:
            return javascript.types()
        return javascript.classic() if classic else javascript.module()

    raise typer.Exit(run(_print(text)))


def _print_document(target: str | None, make: Document, changes: dict[str, str | None]) -> None:
    from socketcluster.describe.options import AsyncAPI

    async def text() -> str:
        server = await _load(target)
        options = server.options.asyncapi or AsyncAPI()
        values = {name: value for name, value in changes.items() if value is not None}
        options = replace(options, **values)
        document = make(
            _describe(server),
            title=options.title,
            version=options.version,
            description=options.description,
            url=options.url,
        )
        return msgspec.json.format(msgspec.json.encode(document)).decode()

    raise typer.Exit(run(_print(text)))


async def _load(target: str | None) -> AGServer:
    try:
        return await load_server(target)
    except TargetError as error:
        if error.__cause__ is not None:
            print_target_traceback(error.__cause__)
        raise CommandError(str(error)) from error


def _describe(server: AGServer) -> Api:
    from socketcluster.describe.api import Api

    return Api.of(server.handlers, can_publish=server.options.allow_client_publish)


async def _print(make: Callable[[], Awaitable[str]]) -> None:
    output = Output(Counter())
    text = await make()
    await first_of(output.write_text(text.rstrip("\n")), output.wait_for_broken_pipe())
