"""`sub`, `pub`, `invoke`, `transmit`, `listen`: a client for people and pipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from socketcluster.cli.connecting import DEFAULT_SECONDS, TOKEN_VARIABLE, CodecName, Target
from socketcluster.cli.exit_status import run
from socketcluster.cli.receiving import Wanted, listen, subscribe
from socketcluster.cli.sending import Outgoing, invoke, publish, transmit

DEFAULT_URL = "ws://localhost:8000/socketcluster/"

Url = Annotated[
    str, typer.Option("--url", envvar="SOCKETCLUSTER_URL", help="The server: ws, wss, http, https.")
]
Token = Annotated[
    str | None,
    typer.Option(
        help=f"A signed token to show. Others on this machine can see it here: the variable "
        f"{TOKEN_VARIABLE} and --token-file are safer."
    ),
]
TokenFile = Annotated[Path | None, typer.Option(help="A file with the signed token.")]
Codec = Annotated[CodecName, typer.Option(help="The codec of the server.")]
Protocol = Annotated[
    int, typer.Option(min=1, max=2, help="1 for servers up to version 14 of SocketCluster.")
]
Seconds = Annotated[
    float,
    typer.Option("--timeout", min=0.001, help="Seconds to wait for a connection and each answer."),
]
TotalSeconds = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Give up after so many seconds.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")]
Times = Annotated[
    int | None,
    typer.Option(min=1, help="Send DATA so many times, or so many lines of standard input."),
]
Names = Annotated[
    bool | None,
    typer.Option(
        "--names/--no-names",
        help="Print each message with the name it came under, or without; with it if there are "
        "several names.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Argument(help="JSON; without it, or with '-', one JSON per line of standard input."),
]
_JSON = CodecName.json


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (sub, pub, invoke_command, transmit_command, listen_command):
        app.command(command.__name__.removesuffix("_command"))(command)


def sub(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: Limit = None,
    timeout: TotalSeconds = None,
    names: Names = None,
) -> None:
    """Print what is published to channels, one JSON per line."""
    target = Target(url, token, token_file, codec, protocol_version)
    wanted = _wanted(channels, "channel", count, timeout, names)
    raise typer.Exit(run(subscribe(target, wanted)))


def listen_command(
    receivers: Annotated[list[str], typer.Argument(metavar="RECEIVER")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: Limit = None,
    timeout: TotalSeconds = None,
    names: Names = None,
) -> None:
    """Print the events that the server transmits, one JSON per line."""
    target = Target(url, token, token_file, codec, protocol_version)
    wanted = _wanted(receivers, "receiver", count, timeout, names)
    raise typer.Exit(run(listen(target, wanted)))


def pub(
    channel: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: Times = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Publish to a channel, and wait until the server has accepted it."""
    target = Target(url, token, token_file, codec, protocol_version, timeout)
    raise typer.Exit(run(publish(target, Outgoing(channel, data, count))))


def invoke_command(
    procedure: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: Times = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Call a procedure of the server, and print its answer as one line of JSON."""
    target = Target(url, token, token_file, codec, protocol_version, timeout)
    raise typer.Exit(run(invoke(target, Outgoing(procedure, data, count))))


def transmit_command(
    receiver: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: Times = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Send an event to the server, which does not answer."""
    target = Target(url, token, token_file, codec, protocol_version, timeout)
    raise typer.Exit(run(transmit(target, Outgoing(receiver, data, count))))


def _wanted(
    names: list[str], label: str, count: int | None, seconds: float | None, shows: bool | None
) -> Wanted:
    unique = list(dict.fromkeys(names))
    return Wanted(unique, label, count, seconds, len(unique) > 1 if shows is None else shows)
