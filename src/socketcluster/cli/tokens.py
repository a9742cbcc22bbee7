"""The token commands, for JSON Web Tokens: `sign`, `verify` and `decode`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import jwt
import typer
from jwt.algorithms import get_default_algorithms

from socketcluster.auth import JWTAuthEngine, warn_of_short_key
from socketcluster.cli.credentials import from_environment, read_secret
from socketcluster.cli.exit_status import CommandError, run, usage_error
from socketcluster.cli.lines import input_lines, values
from socketcluster.cli.output import Counter, Output
from socketcluster.cli.reporting import describe
from socketcluster.cli.waiting import first_of
from socketcluster.errors import (
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenNotBeforeError,
)
from socketcluster.server.options import AUTH_KEY_VARIABLE

app: typer.Typer = typer.Typer(
    no_args_is_help=True, help="Sign, verify and decode JSON Web Tokens."
)

DEFAULT_ALGORITHM = "HS256"
_ALGORITHMS = sorted(get_default_algorithms().keys() - {"none"})
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Key = Annotated[
    str | None,
    typer.Option(
        help="The secret. Other users of this machine can see it here; the variable "
        f"{AUTH_KEY_VARIABLE} and --key-file are safer."
    ),
]
KeyFile = Annotated[Path | None, typer.Option(help="File with the secret, or with a key in PEM.")]
Token = Annotated[
    str | None,
    typer.Argument(help="Without it, or with '-', each line of standard input is a token."),
]


@app.command()
def sign(
    claims: Annotated[
        str | None,
        typer.Argument(
            help="JSON object. Without it, or with '-', each line of standard input is one."
        ),
    ] = None,
    key: Key = None,
    key_file: KeyFile = None,
    algorithm: Annotated[
        str, typer.Option(help=f"One of {', '.join(_ALGORITHMS)}.")
    ] = DEFAULT_ALGORITHM,
    expires_in: Annotated[
        str | None, typer.Option(help="Time until it expires: seconds, or like 15m, 12h, 30d.")
    ] = None,
    not_before: Annotated[
        str | None, typer.Option(help="Time until it becomes valid, in the same form.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="The claim 'iss'.")] = None,
    audience: Annotated[str | None, typer.Option(help="The claim 'aud'.")] = None,
    subject: Annotated[str | None, typer.Option(help="The claim 'sub'.")] = None,
) -> None:
    """Sign claims and print the token."""

    async def work() -> None:
        secret = _secret(key, key_file)
        options = {
            "algorithm": _checked_algorithm(algorithm),
            "expires_in": _seconds("--expires-in", expires_in),
            "not_before": _seconds("--not-before", not_before),
            "issuer": issuer,
            "audience": audience,
            "subject": subject,
        }
        engine = JWTAuthEngine()
        warn_of_short_key(secret, algorithm)

        def sign_value(value: Any) -> str:
            if not isinstance(value, dict):
                raise usage_error('CLAIMS must be a JSON object, like \'{"name": "ann"}\'')
            return engine.sign_token(cast("dict[str, Any]", value), secret, options)

        await _print_each(values(claims, None, "CLAIMS"), sign_value)

    raise typer.Exit(run(work()))


@app.command()
def verify(
    token: Token = None,
    key: Key = None,
    key_file: KeyFile = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Accepted algorithm; can be repeated. The default is {DEFAULT_ALGORITHM}."
        ),
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="Required value of 'iss'.")] = None,
    audience: Annotated[
        str | None, typer.Option(help="Required value of 'aud', or one that it must contain.")
    ] = None,
) -> None:
    """Verify a token and print its claims; a token that is not valid ends with status 1."""

    async def work() -> None:
        secret = _secret(key, key_file)
        algorithms = [_checked_algorithm(name) for name in algorithm or [DEFAULT_ALGORITHM]]
        options = {"algorithms": algorithms, "issuer": issuer, "audience": audience}
        engine = JWTAuthEngine()

        def verify_text(text: str) -> Any:
            try:
                return engine.verify_token(text, secret, options)
            except AuthTokenError as error:
                raise CommandError(_describe_token_error(error)) from error

        await _print_each(_tokens(token), verify_text)

    raise typer.Exit(run(work()))


@app.command()
def decode(token: Token = None) -> None:
    """Print the header and the claims of a token, without verifying it."""

    def decode_text(text: str) -> Any:
        try:
            whole = jwt.decode_complete(text, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise CommandError(f"Not a JSON Web Token: {describe(error)}") from error
        return {"header": whole["header"], "claims": whole["payload"]}

    raise typer.Exit(run(_print_each(_tokens(token), decode_text)))


async def _print_each(items: AsyncIterator[Any], convert: Callable[[Any], Any]) -> None:
    output = Output(Counter())

    async def print_all() -> None:
        async for item in items:
            result = convert(item)
            if isinstance(result, str):
                await output.write_text(result)
            else:
                await output.write_json(result)

    await first_of(print_all(), output.wait_for_broken_pipe())


async def _tokens(argument: str | None) -> AsyncIterator[str]:
    if argument is not None and argument != "-":
        yield argument.strip()
        return
    async for line in input_lines():
        if text := line.decode(errors="replace").strip():
            yield text


def _secret(key: str | None, path: Path | None) -> str:
    if key is not None and path is not None:
        raise usage_error("Give --key or --key-file, not both")
    secret = key or (read_secret("key", path) if path else from_environment(AUTH_KEY_VARIABLE))
    if not secret:
        raise usage_error(f"A key is needed: {AUTH_KEY_VARIABLE}, --key-file or --key")
    return secret


def _checked_algorithm(algorithm: str) -> str:
    if algorithm not in _ALGORITHMS:
        raise usage_error(
            f"The algorithm must be one of {', '.join(_ALGORITHMS)}, not {algorithm!r}"
        )
    return algorithm


def _seconds(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None:
        raise usage_error(f"{option} must be seconds, or like 15m, 12h or 30d, not {text!r}")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def _describe_token_error(error: AuthTokenError) -> str:
    time: Any = None
    if isinstance(error, AuthTokenExpiredError):
        time = error.expiry
    elif isinstance(error, AuthTokenNotBeforeError):
        time = error.date
    text = describe(error)
    if isinstance(time, datetime):
        time = time.isoformat(timespec="seconds")
    return text if time is None else f"{text}: {time}"
