"""The client commands: `sub`, `pub`, `invoke`, `transmit`, `listen` and others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from socketcluster.cli.client_settings import (
    DEFAULT_SECONDS,
    TOKEN_VARIABLE,
    ClientSettings,
    CodecName,
)
from socketcluster.cli.exit_status import run
from socketcluster.cli.history import HistoryOptions, position_of, show_history
from socketcluster.cli.presence import list_channels, show_members
from socketcluster.cli.receiving import ReceiveOptions, listen, subscribe
from socketcluster.cli.sending import SendOptions, invoke, publish, transmit

DEFAULT_URL = "ws://localhost:8000/socketcluster/"

Url = Annotated[str, typer.Option("--url", envvar="SOCKETCLUSTER_URL", help="URL of the server.")]
Token = Annotated[
    str | None,
    typer.Option(
        help="Signed token to authenticate with. Other users of this machine can see it here; "
        f"the variable {TOKEN_VARIABLE} and --token-file are safer."
    ),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the signed token.")]
Origin = Annotated[
    str | None,
    typer.Option(help="Origin header, for a server that has the option origins: https://host."),
]
Codec = Annotated[CodecName, typer.Option(help="Codec that the server uses.")]
Protocol = Annotated[
    int, typer.Option(min=1, max=2, help="1 for SocketCluster servers up to version 14.")
]
Seconds = Annotated[
    float,
    typer.Option("--timeout", min=0.001, help="Time limit for connecting and each answer, in s."),
]
TotalSeconds = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Fail after this many seconds.")
]
ReceiveCount = Annotated[int | None, typer.Option(min=1, help="Stop after this many messages.")]
SendCount = Annotated[
    int | None,
    typer.Option(min=1, help="Send DATA this many times, or this many lines of standard input."),
]
Names = Annotated[
    bool | None,
    typer.Option(
        "--names/--no-names",
        help="Print each message with its channel or receiver. The default is to do so if there "
        "is more than one.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Argument(help="JSON value. Without it, or with '-', each line of standard input is one."),
]
_JSON = CodecName.json


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    sending = (pub, invoke_command, transmit_command)
    for command in (sub, *sending, listen_command, history, presence, channels):
        app.command(command.__name__.removesuffix("_command"))(command)


def sub(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: ReceiveCount = None,
    timeout: TotalSeconds = None,
    names: Names = None,
) -> None:
    """Print the messages that are published to channels, one JSON value per line."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version)
    options = _receive_options(channels, "channel", count, timeout, names)
    raise typer.Exit(run(subscribe(settings, options)))


def listen_command(
    receivers: Annotated[list[str], typer.Argument(metavar="RECEIVER")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: ReceiveCount = None,
    timeout: TotalSeconds = None,
    names: Names = None,
) -> None:
    """Print the events that the server transmits, one JSON value per line."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version)
    options = _receive_options(receivers, "receiver", count, timeout, names)
    raise typer.Exit(run(listen(settings, options)))


def pub(
    channel: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: SendCount = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Publish to a channel, and wait until the server has accepted the message."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version, timeout)
    raise typer.Exit(run(publish(settings, SendOptions(channel, data, count))))


def invoke_command(
    procedure: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: SendCount = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Call a procedure of the server, and print the answer as one line of JSON."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version, timeout)
    raise typer.Exit(run(invoke(settings, SendOptions(procedure, data, count))))


def transmit_command(
    receiver: str,
    data: Data = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: SendCount = None,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Send an event, which the server does not answer."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version, timeout)
    raise typer.Exit(run(transmit(settings, SendOptions(receiver, data, count))))


def history(
    channel: str,
    limit: Annotated[int, typer.Option(min=1, help="The most publishes to print.")] = 100,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="EPOCH:OFFSET",
            help="Print the publishes after this position, which --json prints; with --reverse "
            "those before it.",
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Begin with the newest.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one object with the publishes and the position."),
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Print the stored publishes of a channel, one JSON value per line.

    It subscribes first. A server shows the publishes from before that only if the channel's rule
    has before_subscribing=True.
    """
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version, timeout)

    async def show() -> None:
        options = HistoryOptions(channel, limit, position_of(since), reverse, as_json)
        await show_history(settings, options)

    raise typer.Exit(run(show()))


def presence(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    count: ReceiveCount = None,
    timeout: TotalSeconds = None,
    names: Names = None,
) -> None:
    """Print the members of channels, then who joins and leaves, one JSON value per line."""
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version)
    options = _receive_options(channels, "channel", count, timeout, names)
    raise typer.Exit(run(show_members(settings, options)))


def channels(
    pattern: Annotated[str, typer.Argument(help="Such as 'room/*'; by default all.")] = "**",
    url: Url = DEFAULT_URL,
    token: Token = None,
    token_file: TokenFile = None,
    origin: Origin = None,
    codec: Codec = _JSON,
    protocol_version: Protocol = 2,
    timeout: Seconds = DEFAULT_SECONDS,
) -> None:
    """Print the channels that clients are subscribed to; the server has to allow it.

    It calls the procedure '$channels', which the application declares for those who may see the
    names: see docs/presence.md.
    """
    settings = ClientSettings(url, token, token_file, origin, codec, protocol_version, timeout)
    raise typer.Exit(run(list_channels(settings, pattern)))


def _receive_options(
    names: list[str], label: str, count: int | None, seconds: float | None, shows_names: bool | None
) -> ReceiveOptions:
    unique = list(dict.fromkeys(names))
    if shows_names is None:
        shows_names = len(unique) > 1
    return ReceiveOptions(unique, label, count, seconds, shows_names)
