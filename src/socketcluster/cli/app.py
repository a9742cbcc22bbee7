"""The commands and their options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from socketcluster import __version__
from socketcluster.cli.serve import Settings, run

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)


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
    """SocketCluster for Python."""


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
    log_level: Annotated[LogLevel, typer.Option(help="What is logged.")] = LogLevel.info,
) -> None:
    """Serve an AGServer until Ctrl-C or SIGTERM, then let it drain."""
    settings = Settings(target, host, port, uds, ssl_certfile, ssl_keyfile, log_level.value)
    raise typer.Exit(run(settings, reload=reload))
