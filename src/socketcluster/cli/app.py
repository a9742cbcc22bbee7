"""The Typer application: `serve` and its options, and the other commands."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from socketcluster import __version__
from socketcluster.brokers.registry import BROKER_VARIABLE, REQUIRED_VARIABLE
from socketcluster.cli import client_commands, description, tokens
from socketcluster.cli.exit_status import CommandError, usage_error
from socketcluster.cli.listening_options import inherited_sockets
from socketcluster.cli.reporting import report
from socketcluster.cli.serve import run
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.supervisor import WorkerOptions, run_workers

app: typer.Typer = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)


class LogLevel(StrEnum):
    """The levels of the standard library's logging."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"socketcluster {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """SocketCluster for Python: a server, client commands for scripts, and tokens."""


Target = Annotated[
    str | None,
    typer.Argument(
        help="The server, as module:attribute: an AGServer, or a function that returns one. "
        "Without it the demo is served."
    ),
]
Uds = Annotated[
    str | None, typer.Option(help="Unix socket to listen on, instead of a host and port.")
]
Broker = Annotated[
    str | None,
    typer.Option(
        envvar=BROKER_VARIABLE,
        help="URL of the broker that connects processes, such as redis:// or nats://.",
    ),
]
BrokerRequired = Annotated[
    bool, typer.Option("--broker-required", help="Exit if the broker cannot be reached at start.")
]


Rolling = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Workers to replace at a time at SIGHUP, which needs less memory; all by default.",
    ),
]
WatchdogSeconds = Annotated[
    float,
    typer.Option(
        min=0,
        help="Seconds that a worker's event loop may be blocked before the worker is killed and "
        "replaced; 0 for any time.",
    ),
]
ReusePort = Annotated[
    bool,
    typer.Option(
        "--reuse-port", help="Share the port with other processes that use this option, too."
    ),
]
Fd = Annotated[
    int | None,
    typer.Option(min=0, help="Descriptor of an inherited listening socket, instead of an address."),
]


@app.command()
def serve(
    context: typer.Context,
    target: Target = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 selects a free one.")] = 8000,
    uds: Uds = None,
    ssl_certfile: Annotated[
        str | None, typer.Option(help="TLS certificate, as a PEM file.")
    ] = None,
    ssl_keyfile: Annotated[
        str | None, typer.Option(help="The certificate's private key, as a PEM file.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when a Python file changes.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes that share the port.")
    ] = 1,
    rolling: Rolling = None,
    watchdog: WatchdogSeconds = 30.0,
    reuse_port: ReusePort = False,
    fd: Fd = None,
    broker: Broker = None,
    broker_required: BrokerRequired = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="Lowest level of messages to log.")
    ] = LogLevel.info,
) -> None:
    """Serve an AGServer until Ctrl-C or SIGTERM, then answer calls under way and exit.

    SIGHUP restarts workers without an outage. systemd can pass listening sockets.
    """
    fds = _inherited_sockets(context, fd)
    if reload and workers > 1:
        raise typer.BadParameter("--reload takes one worker", param_hint="--workers")
    # The variable is a default, which a server with a broker of its own may ignore. The option
    # is an instruction, so `serve` refuses such a server.
    broker_option = broker if broker != os.environ.get(BROKER_VARIABLE) else None
    if broker is not None:
        os.environ[BROKER_VARIABLE] = broker
    if broker_required:
        os.environ[REQUIRED_VARIABLE] = "1"
    settings = Settings(
        *(target, host, port, uds, ssl_certfile, ssl_keyfile, log_level.value),
        broker=broker_option,
        fds=fds,
        reuse_port=reuse_port,
    )
    if workers > 1:
        options = WorkerOptions(workers, rolling, watchdog)
        raise typer.Exit(run_workers(settings, options))
    raise typer.Exit(run(settings, reload=reload))


def _inherited_sockets(context: typer.Context, fd: int | None) -> tuple[int, ...]:
    used = {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    try:
        if "workers" not in used:
            for name in sorted({"rolling", "watchdog"} & used):
                raise usage_error(f"--{name} needs --workers N: one process has no supervisor")
        return inherited_sockets(fd, used, os.environ)
    except CommandError as error:
        report(f"{error} (see {context.command_path} --help)")
        raise typer.Exit(error.status) from None


client_commands.register(app)
description.register(app)
app.add_typer(tokens.app, name="token")
