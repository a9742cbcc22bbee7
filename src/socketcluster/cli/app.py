"""The Typer application: `serve` and its options, and the other commands."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

from socketcluster import __version__
from socketcluster.cli import client_commands, description, tokens
from socketcluster.cli.exit_status import FAILED, CommandError, usage_error
from socketcluster.cli.listening_options import inherited_sockets
from socketcluster.cli.logging_setup import set_up_logging
from socketcluster.cli.reporting import report
from socketcluster.cli.serve import check, run
from socketcluster.cli.serve_options import ServeOptions, serve_options
from socketcluster.cli.settings import Settings
from socketcluster.cli.workers.supervisor import WorkerOptions, run_workers
from socketcluster.errors import InvalidOptionsError
from socketcluster.server.configured import log_unknown_variables

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


class LogFormat(StrEnum):
    """The formats of log lines."""

    text = "text"
    json = "json"


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
Config = Annotated[
    str | None,
    typer.Option(
        envvar="SOCKETCLUSTER_CONFIG", help="TOML file with options of the server and of serve."
    ),
]
CheckConfig = Annotated[
    bool, typer.Option("--check-config", help="Check the file and the variables, and exit.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; 0 selects a free one.", show_default="8000")
]
Uds = Annotated[
    str | None, typer.Option(help="Unix socket to listen on, instead of a host and port.")
]
SslCertfile = Annotated[str | None, typer.Option(help="TLS certificate, as a PEM file.")]
SslKeyfile = Annotated[
    str | None, typer.Option(help="The certificate's private key, as a PEM file.")
]
Reload = Annotated[bool, typer.Option("--reload", help="Restart when a Python file changes.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes that share the port.", show_default="1"),
]
Broker = Annotated[
    str | None,
    typer.Option(help="URL of the broker that connects processes, such as redis:// or nats://."),
]
BrokerRequired = Annotated[
    bool | None,
    typer.Option("--broker-required", help="Exit if the broker cannot be reached at start."),
]
Level = Annotated[
    LogLevel | None, typer.Option(help="Lowest level of messages to log.", show_default="info")
]


Rolling = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Workers to replace at a time at SIGHUP, which needs less memory; all by default.",
    ),
]
WatchdogSeconds = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds that a worker's event loop may be blocked before the worker is killed and "
        "replaced; 0 for any time.",
        show_default="30",
    ),
]
ReusePort = Annotated[
    bool | None,
    typer.Option(
        "--reuse-port", help="Share the port with other processes that use this option, too."
    ),
]
Fd = Annotated[
    int | None,
    typer.Option(min=0, help="Descriptor of an inherited listening socket, instead of an address."),
]


Format = Annotated[
    LogFormat | None,
    typer.Option(help="Lines of text, or of JSON with fields.", show_default="text"),
]
LogConfig = Annotated[
    str | None,
    typer.Option(help="File for logging.config.dictConfig: .json, .toml or .yaml."),
]
MetricsPort = Annotated[
    str | None,
    typer.Option(
        metavar="[HOST:]PORT",
        help="Port for the metrics of all workers, which Prometheus reads at /metrics.",
    ),
]


@app.command()
def serve(
    context: typer.Context,
    target: Target = None,
    config: Config = None,
    check_config: CheckConfig = False,
    host: Host = None,
    port: Port = None,
    uds: Uds = None,
    ssl_certfile: SslCertfile = None,
    ssl_keyfile: SslKeyfile = None,
    reload: Reload = False,
    workers: Workers = None,
    rolling: Rolling = None,
    watchdog: WatchdogSeconds = None,
    reuse_port: ReusePort = None,
    fd: Fd = None,
    broker: Broker = None,
    broker_required: BrokerRequired = None,
    metrics_port: MetricsPort = None,
    log_level: Level = None,
    log_format: Format = None,
    log_config: LogConfig = None,
) -> None:
    """Serve an AGServer until Ctrl-C or SIGTERM, then answer calls under way and exit.

    The variable SOCKETCLUSTER_PORT sets --port, and so on. A file sets them in its table `serve`.
    SIGHUP restarts workers without an outage. systemd can pass listening sockets.
    """
    try:
        options = serve_options(context.params, config)
    except InvalidOptionsError as error:
        report(str(error))
        raise typer.Exit(FAILED) from None
    fds = _inherited_sockets(context, options)
    if reload and options.workers > 1:
        raise typer.BadParameter("--reload takes one worker", param_hint="--workers")
    # A configured broker is a default, which a server with a broker of its own may ignore. The
    # argument is an instruction, so `serve` refuses such a server.
    settings = Settings.of(options, broker=broker, config=config, fds=fds)
    _set_up_logging(settings)
    if check_config:
        raise typer.Exit(check(settings))
    if options.workers > 1:
        supervision = WorkerOptions(options.workers, options.rolling, options.watchdog)
        raise typer.Exit(run_workers(settings, supervision))
    raise typer.Exit(run(settings, reload=reload))


def _set_up_logging(settings: Settings) -> None:
    try:
        set_up_logging(settings)
    except InvalidOptionsError as error:
        report(str(error))
        raise typer.Exit(FAILED) from None
    log_unknown_variables()


def _inherited_sockets(context: typer.Context, options: ServeOptions) -> tuple[int, ...]:
    used = {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    try:
        if "workers" not in used and options.workers == 1:
            for name in sorted({"rolling", "watchdog"} & used):
                raise usage_error(f"--{name} needs --workers N: one process has no supervisor")
        if 0 < options.watchdog < 1:
            raise usage_error(
                f"--watchdog must be 0 or at least 1 second, not {options.watchdog:g}"
            )
        return inherited_sockets(options.fd, used, os.environ)
    except CommandError as error:
        report(f"{error} (see {context.command_path} --help)")
        raise typer.Exit(error.status) from None


client_commands.register(app)
description.register(app)
app.add_typer(tokens.app, name="token")
