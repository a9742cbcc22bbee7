"""The files under deploy/, and what the tests of all of them ask."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from socketcluster.cli.app import app

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def assert_understood(arguments: list[str]) -> None:
    """Check that the command line takes these arguments; --help ends it before it serves."""
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    for name in arguments:
        assert not name.startswith("--") or name in result.output, name


def assert_options(variables: list[str]) -> None:
    """Check that environment variables name options of the server, or the command line's own."""
    from socketcluster.server.option_types import ServerOptionsDict

    known = {f"SOCKETCLUSTER_{name.upper()}" for name in ServerOptionsDict.__annotations__}
    for name in variables:
        assert name in known | {"SOCKETCLUSTER_BROKER"}, name
