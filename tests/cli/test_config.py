"""`serve` with a configuration file and environment variables."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.commands import Commands, Result, line_of, run_here
from socketcluster.cli.logging_setup import set_up_logging
from socketcluster.cli.serve_options import ServeOptions, serve_options
from socketcluster.cli.settings import Settings
from socketcluster.config.defaults import defaults
from socketcluster.config.environment import OTHER_VARIABLES
from socketcluster.errors import InvalidOptionsError
from socketcluster.logs import Process

SERVER = """
from socketcluster import AGServer
server = AGServer(ping_timeout=777)
print([server.options.ping_interval, server.options.ping_timeout, server.options.ack_timeout])
print(server.signature_key, type(server.exchange.broker).__name__, flush=True)
"""


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the variables, and the configuration of this process."""
    monkeypatch.setattr(defaults, "file", None)
    monkeypatch.setattr(defaults, "warns", False)
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("SOCKETCLUSTER_") or name == "PORT":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
async def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Commands]:
    """Return the commands, in a folder with a server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SERVER)
    (tmp_path / "fails.py").write_text("raise SystemExit('imported')")
    commands = Commands()
    commands.env.pop("PORT", None)
    yield commands
    await commands.stop()


Serve = Callable[..., Result]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A runner of `serve` in this process, in a folder with a server."""
    (tmp_path / "mine.py").write_text(SERVER)
    (tmp_path / "fails.py").write_text("raise SystemExit('imported')")
    return partial(run_here, "serve", folder=tmp_path)


FILE = """
ping_interval = 555
ping_timeout = 666
ack_timeout = "9s"
auth_key = "of the file, 32 bytes long or more"

[serve]
target = "mine:server"
port = 0
"""


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_code_the_environment_the_file(
    commands: Commands, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "app.toml").write_text(f"{FILE}workers = {workers}")
    env = {**commands.env, "SOCKETCLUSTER_ACK_TIMEOUT": "1234", "SOCKETCLUSTER_CONFIG": "app.toml"}
    process = await commands.start("serve", env=env)
    broker = "SimpleBroker" if workers == 1 else "RemoteBroker"
    for _ in range(workers):
        assert await line_of(process) == "[555, 777, 1234]\n"
        assert await line_of(process) == f"of the file, 32 bytes long or more {broker}\n"
    assert (await line_of(process)).startswith("SocketCluster is running on http://127.0.0.1:")
    process.terminate()
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


def test_arguments_win_over_variables_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.toml").write_text("[serve]\nhost = 'file'\nport = 99\nuds = 'file'")
    monkeypatch.setenv("SOCKETCLUSTER_UDS", "environment")
    monkeypatch.setenv("SOCKETCLUSTER_HOST", "environment")
    monkeypatch.setenv("SOCKETCLUSTER_PORT", "tcp://10.0.0.1:80")  # Of Kubernetes.
    options = serve_options({"host": "argument", "uds": None}, "app.toml")
    assert (options.host, options.uds, options.port) == ("argument", "environment", 99)
    monkeypatch.setenv("PORT", "80")
    assert serve_options({}, "app.toml").port == 80
    monkeypatch.setenv("SOCKETCLUSTER_PORT", "81")
    assert serve_options({}, "app.toml").port == 81
    monkeypatch.setenv("SOCKETCLUSTER_PORT", "no")
    assert serve_options({"port": 82}, "app.toml").port == 82


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "no")
    with pytest.raises(InvalidOptionsError, match="PORT: 'port' must be an integer, not 'no'"):
        serve_options({}, None)


ENGINE = (
    "The ws_engine option 'picow' is neither 'picows', 'asgi' nor an importable "
    "'module:attribute' path: it has no ':attribute'"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = 1\nb = 1", "app.toml:3: this is not TOML: Cannot overwrite a value"),
        (
            "\nping_timeout = '20 parsecs'",
            "app.toml:2: 'ping_timeout' must be a number or a duration such as '8s', not "
            "'20 parsecs'",
        ),
        (
            "[limits]\nexceeded = 'paus'",
            "app.toml:2: 'limits.exceeded' must be 'error', 'pause' or 'close', not 'paus'",
        ),
        ("\nws_engine = 'picow'", "app.toml:2: " + ENGINE),
        (
            "\n\n\n\n\n\nping_intervall = 1",
            "app.toml:7: unknown option 'ping_intervall' (nearest: 'ping_interval')",
        ),
        ("[serve]\nprot = 1", "app.toml:2: unknown option 'prot' (nearest: 'port')"),
        ("[serve]\nport = '1'", "app.toml:2: 'port' must be an integer, not '1'"),
        (
            "[serve]\n\nport = 99999",
            "app.toml:3: The port option must be an integer from 0 to 65535, not 99999",
        ),
        (
            "[serve]\nworkers = 0",
            "app.toml:2: The workers option must be an integer of at least 1, not 0",
        ),
        ("#\nport = 80", "app.toml:2: the option 'port' belongs into the table [serve]"),
        (
            "[serve]\nping_interval = 80",
            "app.toml:2: the option 'ping_interval' belongs above the table [serve]",
        ),
        ("serve = 1", "app.toml:1: 'serve' must be a table"),
        (
            "ack_timeout = -5",
            "app.toml:1: The ack_timeout option must be milliseconds of at least 0, or a "
            "timedelta, not -5",
        ),
    ],
)
def test_a_fault_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.toml").write_text(text)
    with pytest.raises(InvalidOptionsError) as raised:
        serve_options({"host": "localhost"}, "app.toml")
    assert str(raised.value) == message


def test_a_fault_is_one_line_before_the_target_is_imported(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text("\nping_intervall = 1")
    result = serve("fails:server", "--config", "app.toml")
    message = "app.toml:2: unknown option 'ping_intervall' (nearest: 'ping_interval')"
    assert (result.status, result.out, result.err) == (1, "", f"socketcluster: {message}\n")


def test_check_config(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text(FILE)
    result = serve("fails:server", "--config", "app.toml", "--check-config")
    assert (result.status, result.out, result.err) == (0, "app.toml: no fault found\n", "")
    result = serve("--check-config", env={"SOCKETCLUSTER_PING_INTERVALL": "5"})
    assert (result.status, result.out) == (0, "The environment: no fault found\n")
    assert "SOCKETCLUSTER_PING_INTERVALL is no option (nearest: " in result.err


def test_files_that_serve_needs_are_checked(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.toml").write_text("[serve]\nssl_certfile = 'none.pem'\n")
    result = serve("--config", "app.toml", "--check-config")
    text = "Cannot read the certificate 'none.pem': No such file or directory"
    assert (result.status, result.err) == (1, f"socketcluster: {text}\n")


async def test_a_broker_of_the_file_connects_workers(commands: Commands, tmp_path: Path) -> None:
    """The supervisor starts no broker of its own."""
    (tmp_path / "app.toml").write_text(f"broker_engine = 'wrong://a'\n{FILE}workers = 2\n")
    result = await commands("serve", "--config", "app.toml")
    text = "socketcluster: app.toml:1: The broker_engine option: there is no broker for 'wrong'"
    assert result.err.startswith(text)
    assert (result.status, result.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("check", [[], ["--check-config"]])
async def test_a_wrong_broker_of_a_variable_or_an_argument(
    commands: Commands, check: list[str]
) -> None:
    result = await commands("serve", *check, SOCKETCLUSTER_BROKER="wrong://a")
    text = "SOCKETCLUSTER_BROKER: The broker_engine option: there is no broker for 'wrong'"
    assert result.err.startswith(f"socketcluster: {text}")
    assert (result.status, result.err.count("\n")) == (1, 1)
    result = await commands("serve", "--broker", "wrong://a", *check)
    assert result.err.startswith("socketcluster: The broker_engine option: there is no broker for")
    assert (result.status, result.err.count("\n")) == (1, 1)


def test_the_format_of_the_log(serve: Serve) -> None:
    env = {"SOCKETCLUSTER_PING_INTERVALL": "5", "SOCKETCLUSTER_LOG_FORMAT": "json"}
    result = serve("--check-config", env=env)
    found = json.loads(result.err)
    assert (found["level"], found["logger"]) == ("WARNING", "socketcluster")
    assert found["message"].startswith("The environment variable SOCKETCLUSTER_PING_INTERVALL")


CONFIG = {
    "version": 1,
    "formatters": {"mine": {"()": "socketcluster.logs.JSONFormatter"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "log", "formatter": "mine"}},
    "root": {"handlers": ["file"], "level": "WARNING"},
}
TOML = """
version = 1
root = {handlers = ["file"], level = "WARNING"}
[formatters.mine]
"()" = "socketcluster.logs.JSONFormatter"
[handlers.file]
class = "logging.FileHandler"
filename = "log"
formatter = "mine"
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", json.dumps(CONFIG)), ("a.yaml", json.dumps(CONFIG)), ("a.toml", TOML)],
)
def test_a_logging_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    root, logger = logging.getLogger(), logging.getLogger("socketcluster.of_this_test")
    before = root.handlers[:], root.level
    try:
        set_up_logging(Settings(None, log_config=name, worker=2))
        logger.warning("kept")
        found = json.loads((tmp_path / "log").read_text())
        assert (found["message"], found["worker"]) == ("kept", 2)
    finally:
        monkeypatch.setattr(Process, "worker", None)
        for handler in root.handlers:
            handler.close()
        root.handlers[:], root.level = before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.json", None, "none.json: No such file or directory"),
        ("a.ini", "", "a.ini: its name must end with .json, .toml or .yaml"),
        ("a.json", "{", "a.json: Expecting property name"),
        ("a.json", "[]", "a.json: it must have the keys of logging.config.dictConfig"),
        ("a.yaml", "a: [", "a.yaml: while parsing"),
        ("a.toml", "a = ", "a.toml: Invalid value"),
        ("a.json", '{"version": 2}', "a.json: Unsupported version: 2"),
        ("a.json", '{"version": 1, "root": {"handlers": ["x"]}}', "a.json: Unable to"),
    ],
)
def test_a_wrong_logging_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    root = logging.getLogger()
    handlers = root.handlers[:]
    try:
        with pytest.raises(InvalidOptionsError) as raised:
            set_up_logging(Settings(None, log_config=name))
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_the_names_of_other_variables() -> None:
    """So that a misspelled variable is found, and one of the command line is none."""
    others = {"collect_metrics", "config", "demo_client", "token", "url"}
    names = {field.name for field in dataclasses.fields(ServeOptions)}
    assert names | others == OTHER_VARIABLES
