"""`token sign`, `token verify`, `token decode`: JSON Web Tokens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jwt
import typer

from socketcluster.auth import JWTAuthEngine, warn_of_short_key
from socketcluster.cli.connecting import read_secret
from socketcluster.cli.exit_status import (
    CommandError,
    first_of,
    from_environment,
    run,
    said,
    wrong_usage,
)
from socketcluster.cli.lines import text_lines, values
from socketcluster.cli.output import Counter, Output
from socketcluster.errors import (
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenNotBeforeError,
)
from socketcluster.server.server import AUTH_KEY_VARIABLE

app = typer.Typer(no_args_is_help=True, help="Sign, verify and decode JSON Web Tokens.")

DEFAULT_ALGORITHM = "HS256"
_ALGORITHMS = sorted(jwt.algorithms.get_default_algorithms().keys() - {"none"})
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Key = Annotated[
    str | None,
    typer.Option(
        help=f"The secret. Others on this machine can see it here: the variable "
        f"{AUTH_KEY_VARIABLE} and --key-file are safer."
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option(help="A file with the secret, or with the key as PEM.")
]
Token = Annotated[
    str | None,
    typer.Argument(help="Without it, or with '-', one token per line of standard input."),
]


@app.command()
def sign(
    claims: Annotated[
        str | None,
        typer.Argument(
            help="A JSON object; without it, or with '-', one per line of standard input."
        ),
    ] = None,
    key: Key = None,
    key_file: KeyFile = None,
    algorithm: Annotated[
        str, typer.Option(help=f"One of {', '.join(_ALGORITHMS)}.")
    ] = DEFAULT_ALGORITHM,
    expires_in: Annotated[
        str | None, typer.Option(help="When it expires: seconds, or like 15m, 12h, 30d.")
    ] = None,
    not_before: Annotated[
        str | None, typer.Option(help="When it begins to be good, likewise.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="The claim 'iss'.")] = None,
    audience: Annotated[str | None, typer.Option(help="The claim 'aud'.")] = None,
    subject: Annotated[str | None, typer.Option(help="The claim 'sub'.")] = None,
) -> None:
    """Sign claims, and print the token."""

    async def work() -> None:
        secret = _secret(key, key_file)
        options = {
            "algorithm": _known(algorithm),
            "expires_in": _seconds("--expires-in", expires_in),
            "not_before": _seconds("--not-before", not_before),
            "issuer": issuer,
            "audience": audience,
            "subject": subject,
        }
        engine = JWTAuthEngine()
        warn_of_short_key(secret, algorithm)

        def signed(value: Any) -> str:
            if not isinstance(value, dict):
                raise wrong_usage('CLAIMS must be a JSON object, like \'{"name": "ann"}\'')
            return engine.sign_token(value, secret, options)

        await _print_each(values(claims, None, "CLAIMS"), signed)

    raise typer.Exit(run(work()))


@app.command()
def verify(
    token: Token = None,
    key: Key = None,
    key_file: KeyFile = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One that is accepted, {DEFAULT_ALGORITHM} if none is given; it can be repeated."
        ),
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="What 'iss' must be.")] = None,
    audience: Annotated[str | None, typer.Option(help="What 'aud' must be or have.")] = None,
) -> None:
    """Print the claims of a token that is good; one that is not is status 1."""

    async def work() -> None:
        secret = _secret(key, key_file)
        algorithms = [_known(name) for name in algorithm or [DEFAULT_ALGORITHM]]
        options = {"algorithms": algorithms, "issuer": issuer, "audience": audience}
        engine = JWTAuthEngine()

        def verified(text: str) -> Any:
            try:
                return engine.verify_token(text, secret, options)
            except AuthTokenError as error:
                raise CommandError(_why_not(error)) from error

        await _print_each(_tokens(token), verified)

    raise typer.Exit(run(work()))


@app.command()
def decode(token: Token = None) -> None:
    """Print the header and the claims of a token, without verifying it."""

    def decoded(text: str) -> Any:
        try:
            whole = jwt.decode_complete(text, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise CommandError(f"This is no JSON Web Token: {said(error)}") from error
        return {"header": whole["header"], "claims": whole["payload"]}

    raise typer.Exit(run(_print_each(_tokens(token), decoded)))


async def _print_each(items: AsyncIterator[Any], make: Callable[[Any], Any]) -> None:
    output = Output(Counter())

    async def work() -> None:
        async for item in items:
            made = make(item)
            await (output.text(made) if isinstance(made, str) else output.line(made))

    await first_of(work(), output.gone())


async def _tokens(given: str | None) -> AsyncIterator[str]:
    if given is not None and given != "-":
        yield given.strip()
        return
    async for line in text_lines():
        if text := line.decode(errors="replace").strip():
            yield text


def _secret(key: str | None, path: Path | None) -> str:
    if key is not None and path is not None:
        raise wrong_usage("Give --key or --key-file, not both")
    secret = key or (read_secret("key", path) if path else from_environment(AUTH_KEY_VARIABLE))
    if not secret:
        raise wrong_usage(f"A key is needed: {AUTH_KEY_VARIABLE}, --key-file or --key")
    return secret


def _known(algorithm: str) -> str:
    if algorithm not in _ALGORITHMS:
        raise wrong_usage(
            f"The algorithm must be one of {', '.join(_ALGORITHMS)}, not {algorithm!r}"
        )
    return algorithm


def _seconds(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None:
        raise wrong_usage(f"{option} must be seconds, or like 15m, 12h or 30d, not {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def _why_not(error: AuthTokenError) -> str:
    moment: Any = None
    if isinstance(error, AuthTokenExpiredError):
        moment = error.expiry
    elif isinstance(error, AuthTokenNotBeforeError):
        moment = error.date
    when = moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else moment
    return said(error) if when is None else f"{said(error)}: {when}"
