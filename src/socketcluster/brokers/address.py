"""The URL of a broker: host, credentials and options."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from socketcluster.brokers.adapter import AWAY_POLICIES, BrokerOptions
from socketcluster.errors import InvalidOptionsError

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
TLS_PARAMETERS = (*_TLS_FILES, "ssl_verify")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A parsed broker URL.

    Attributes:
        scheme: in lower case.
        hosts: (host, port) of each server; the port is None if the URL has none.
        path: the part after the hosts, without its first slash.
        username, password: decoded; None if the URL has none.
        options: the broker's options, from the query.
        query: the other parameters of the query, which are the adapter's.
        internal: whether the broker carries messages between servers, in a name space of its own.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    username: str | None
    password: str | None
    options: BrokerOptions
    query: dict[str, str] = field(default_factory=dict)
    internal: bool = False

    def name_prefix(self, separator: str) -> str:
        """Return what precedes the name of each channel on the backend.

        `separator` ends the prefix of channels. That of internal names ends with "!", so that none
        of them is the name of a channel.
        """
        prefix = self.options.prefix
        return prefix and prefix + ("!" if self.internal else separator)

    def display_url(self, default_port: int) -> str:
        """Return the URL for logs and errors, without credentials and options."""
        hosts = ",".join(host_port(host, port or default_port) for host, port in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{quote(self.path)}" if self.path else "")

    def check_parameters(self, *allowed: str) -> None:
        """Refuse parameters that the adapter does not have.

        Raises:
            InvalidOptionsError: the URL has such a parameter.
        """
        for name in self.query:
            if name not in allowed:
                names = sorted({*allowed, *(f.name for f in fields(BrokerOptions))})
                raise url_error(
                    f"the URL of a {self.scheme} broker has no parameter {name!r}; "
                    f"it has {', '.join(names)}"
                )

    def tls_context(self) -> ssl.SSLContext:
        """Make a TLS context of `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` and `ssl_verify`.

        Raises:
            InvalidOptionsError: a file cannot be read.
        """
        query = self.query
        try:
            context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
            if "ssl_certfile" in query:
                context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"))
        except OSError as error:
            files = ", ".join(query[name] for name in _TLS_FILES if name in query)
            raise url_error(
                f"the TLS files of the URL cannot be used ({files}): {error}"
            ) from error
        if query.get("ssl_verify", "1") in ("0", "false"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_address(url: str, options: BrokerOptions | None = None) -> BrokerAddress:
    """Parse a broker's URL; its parameters override `options`.

    Raises:
        InvalidOptionsError: the URL is wrong; the message does not contain its credentials.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # Its text may have the password.
        raise url_error("the URL's host is malformed") from None
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    parameters = {f.name: query.pop(f.name) for f in fields(BrokerOptions) if f.name in query}
    return BrokerAddress(
        parts.scheme.lower(),
        tuple(_host(item) for item in hosts.split(",") if item),
        unquote(parts.path.removeprefix("/")),
        unquote(username) or None,
        unquote(password) or None,
        _with_parameters(options or BrokerOptions(), parameters),
        query,
    )


def _host(text: str) -> tuple[str, int | None]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        return text.strip("[]"), None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise url_error(f"{port!r} is no port (in the host {text!r} of the URL)")
    return host.strip("[]"), int(port)


def _with_parameters(options: BrokerOptions, parameters: dict[str, str]) -> BrokerOptions:
    for name, text in parameters.items():
        value: object = text
        default = getattr(options, name)
        try:
            if isinstance(default, bool):
                value = {"1": True, "true": True, "0": False, "false": False}[text.lower()]
            elif isinstance(default, int | float):
                value = size_of(text) if name == "max_buffered" else type(default)(text)
                if not 0 < value < 1e12:
                    raise ValueError
        except (KeyError, ValueError):
            expected = _expected(name, default)
            raise url_error(f"the parameter {name} must be {expected}, not {text!r}") from None
        options = replace(options, **{name: value})  # type: ignore[arg-type]
    if options.away not in AWAY_POLICIES:
        raise url_error(f"the parameter away must be 'local' or 'fail', not {options.away!r}")
    return options


def _expected(name: str, default: object) -> str:
    if isinstance(default, bool):
        return "true or false"
    return "a size like 64MiB" if name == "max_buffered" else "a number above 0"


def size_of(text: str) -> int:
    """Return a number of bytes: '1000', '64KiB', '64MiB' or '1GiB'.

    Raises:
        ValueError: the text has another form.
    """
    number, factor = text, 1
    for unit, bytes_of_unit in _UNITS.items():
        if text.endswith(unit):
            number, factor = text.removesuffix(unit), bytes_of_unit
    return int(number) * factor


def host_port(host: str, port: int) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_error(problem: str) -> InvalidOptionsError:
    """Return the error for a wrong broker URL."""
    return InvalidOptionsError(f"The broker_engine option: {problem}", "broker_engine")
