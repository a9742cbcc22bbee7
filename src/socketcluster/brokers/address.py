"""The URL of a broker: where its backend is, who one is there, and the options of the broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from socketcluster.brokers.adapter import AWAY_POLICIES, BrokerOptions
from socketcluster.errors import InvalidOptionsError

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_PARAMETERS = (*_TLS_FILES, "ssl_verify")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker's URL, taken apart.

    Attributes:
        scheme: in lower case.
        hosts: (host, port) of each server named; the port is None if the URL has none.
        path: what follows the hosts, without its first slash.
        username, password: decoded; None if the URL has none.
        options: of the broker, from the query.
        query: what else the query has, for the adapter.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    username: str | None
    password: str | None
    options: BrokerOptions
    query: dict[str, str] = field(default_factory=dict)

    def where(self, default_port: int) -> str:
        """The URL for people: without credentials and options."""
        hosts = ",".join(host_port(host, port or default_port) for host, port in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{quote(self.path)}" if self.path else "")

    def only(self, *allowed: str) -> None:
        """Refuse parameters that the adapter does not know.

        Raises:
            InvalidOptionsError: there is one.
        """
        for name in self.query:
            if name not in allowed:
                known = sorted({*allowed, *(f.name for f in fields(BrokerOptions))})
                raise wrong(
                    f"the URL of a {self.scheme} broker has no parameter {name!r}; "
                    f"it has {', '.join(known)}"
                )

    def tls(self) -> ssl.SSLContext:
        """The context that `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_verify` describe.

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
            raise wrong(f"the TLS files of the URL cannot be used ({files}): {error}") from error
        if query.get("ssl_verify", "1") in ("0", "false"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_address(url: str, options: BrokerOptions | None = None) -> BrokerAddress:
    """Take a broker's URL apart; `options` are overridden by the URL's own.

    Raises:
        InvalidOptionsError: it cannot be understood; the message has no credentials.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    given = {f.name: query.pop(f.name) for f in fields(BrokerOptions) if f.name in query}
    return BrokerAddress(
        parts.scheme.lower(),
        tuple(_host(item) for item in hosts.split(",") if item),
        unquote(parts.path.removeprefix("/")),
        unquote(username) or None,
        unquote(password) or None,
        _options(options or BrokerOptions(), given),
        query,
    )


def _host(text: str) -> tuple[str, int | None]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        return text.strip("[]"), None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise wrong(f"{port!r} is no port (in the host {text!r} of the URL)")
    return host.strip("[]"), int(port)


def _options(options: BrokerOptions, given: dict[str, str]) -> BrokerOptions:
    for name, text in given.items():
        value: object = text
        default = getattr(options, name)
        try:
            if isinstance(default, bool):
                value = {"1": True, "true": True, "0": False, "false": False}[text.lower()]
            elif isinstance(default, int | float):
                value = type(default)(text)
                if not 0 < value < 1e9:
                    raise ValueError
        except (KeyError, ValueError):
            expected = "true or false" if isinstance(default, bool) else "a number above 0"
            raise wrong(f"the parameter {name} must be {expected}, not {text!r}") from None
        options = replace(options, **{name: value})  # type: ignore[arg-type]
    if options.away not in AWAY_POLICIES:
        raise wrong(f"the parameter away must be 'local' or 'fail', not {options.away!r}")
    return options


def host_port(host: str, port: int) -> str:
    """Host and port in one; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def wrong(problem: str) -> InvalidOptionsError:
    """What is wrong with the option that names a broker."""
    return InvalidOptionsError(f"The broker_engine option: {problem}", "broker_engine")
