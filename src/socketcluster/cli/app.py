"""The commands and their options."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from socketcluster import __version__
from socketcluster.brokers.registry import BROKER_VARIABLE, REQUIRED_VARIABLE
from socketcluster.cli import client_commands, tokens
from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings
from socketcluster.cli.supervisor import run_workers

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


class LogLevel(StrEnum):
    """Levels of the standard library's logging."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"socketcluster {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """SocketCluster for Python: a server, a client for people and pipes, and tokens."""


@app.command()
def serve(
    target: Annotated[
        str | None,
        typer.Argument(help="module:attribute of an AGServer; the demo without it."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    uds: Annotated[str | None, typer.Option(help="Unix socket instead of host and port.")] = None,
    ssl_certfile: Annotated[str | None, typer.Option(help="TLS certificate, PEM.")] = None,
    ssl_keyfile: Annotated[str | None, typer.Option(help="Its private key, PEM.")] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Restart when a file changes.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    broker: Annotated[
        str | None,
        typer.Option(envvar=BROKER_VARIABLE, help="Engine between processes: redis://, nats://…"),
    ] = None,
    broker_required: Annotated[
        bool, typer.Option("--broker-required", help="Exit if the engine cannot be reached.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged.")] = LogLevel.info,
) -> None:
    """Serve an AGServer until Ctrl-C or SIGTERM, then let it drain."""
    if reload and workers > 1:
        raise typer.BadParameter("--reload takes one worker", param_hint="--workers")
    given = broker if broker != os.environ.get(BROKER_VARIABLE) else None
    if broker is not None:
        os.environ[BROKER_VARIABLE] = broker
    if broker_required:
        os.environ[REQUIRED_VARIABLE] = "1"
    settings = Settings(
        target, host, port, uds, ssl_certfile, ssl_keyfile, log_level.value, broker=given
    )
    if workers > 1:
        raise typer.Exit(run_workers(settings, workers))
    raise typer.Exit(run(settings, reload=reload))


client_commands.register(app)
app.add_typer(tokens.app, name="token")
