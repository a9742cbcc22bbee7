"""The HTTP request that opened a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from socketcluster.engines.asgi_types import ASGIScope
from socketcluster.engines.proxies import NO_PROXIES, TrustedProxies


class Seat(Protocol):
    """The place of one connection among those of its address."""

    def release(self) -> None:
        """Give the place back; a second call has no effect."""


class UpgradeRequest:
    """The HTTP request that opened a WebSocket; `socket.request` and `action.request`.

    The properties read its ASGI scope when they are used, for most sockets never use them.

    Args:
        scope: the ASGI scope.
        scope_again: makes the same scope once more, from less memory than it takes.

    Attributes:
        seat: the connection's place among those of its address, if they are limited.

    Source: ASGI specification, HTTP & WebSocket.
    """

    __slots__ = (
        "_client",
        "_client_address",
        "_headers",
        "_proxies",
        "_scope",
        "_scope_again",
        "_state",
        "seat",
    )

    def __init__(
        self, scope: ASGIScope, scope_again: Callable[[], ASGIScope] | None = None
    ) -> None:
        self._scope: ASGIScope | None = scope
        self._scope_again = scope_again
        self._client: tuple[str | None, int | None] = scope.get("client") or (None, None)
        self._client_address: str | None = None
        self._headers: dict[str, str] | None = None
        self._proxies = NO_PROXIES
        self._state: dict[str, Any] | None = None
        self.seat: Seat | None = None

    def leave(self) -> None:
        """Give the seat back, if there is one."""
        if self.seat is not None:
            self.seat.release()

    @property
    def scope(self) -> ASGIScope:
        """The ASGI scope (built by the picows engine too)."""
        self._scope = self._read()
        self._scope_again = None  # The caller may change the scope, so it has to be kept.
        return self._scope

    def condense(self) -> None:
        """Drop the scope, if it can be made again and was never handed out."""
        if self._scope_again is not None:
            self._scope = self._headers = None

    def _read(self) -> ASGIScope:
        if self._scope is not None:
            return self._scope
        assert self._scope_again is not None
        return self._scope_again()

    @property
    def url(self) -> str:
        """The path as the client sent it, with the query string."""
        scope = self._read()
        raw_path = scope.get("raw_path")
        target = raw_path.decode("latin-1") if raw_path else scope["path"]
        query = scope.get("query_string", b"").decode("latin-1")
        return f"{target}?{query}" if query else target

    @property
    def path(self) -> str:
        """The path, decoded."""
        path: str = self._read()["path"]
        return path

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case name.

        Several values of a header are joined by ", ", those of "cookie" by "; ".
        """
        if self._headers is None:
            headers: dict[str, str] = {}
            for raw_name, raw_value in self._read()["headers"]:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                if name in headers:
                    value = headers[name] + _separator(name) + value
                headers[name] = value
            self._headers = headers
        return self._headers

    def header(self, name: str) -> str | None:
        """Return one header by its lower-case name, as `headers` has it, or None."""
        if self._headers is not None:
            return self._headers.get(name)
        raw = name.encode("latin-1")
        values = [v.decode("latin-1") for n, v in self._read()["headers"] if n.lower() == raw]
        return _separator(name).join(values) if values else None

    @property
    def state(self) -> dict[str, Any]:
        """A dict for middleware, to keep values from HANDSHAKE_WS for later actions."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def remote_address(self) -> str | None:
        """The IP address of the connection's other end; None on a Unix socket."""
        return self._client[0]

    @property
    def remote_port(self) -> int | None:
        """The port of the connection's other end; None on a Unix socket."""
        return self._client[1]

    @property
    def remote_family(self) -> str:
        """The kind of the connection's address: "IPv4", "IPv6" or "unix"."""
        address = self.remote_address
        if not address:
            return "unix"
        return "IPv6" if ":" in address else "IPv4"

    @property
    def client_address(self) -> str | None:
        """The client's IP address, if need be from X-Forwarded-For.

        It is the connection's address, or the one in X-Forwarded-For if trusted proxies wrote it;
        None on a Unix socket whose peers are not trusted.

        An IPv4 address in IPv6 form is returned as IPv4. Under an ASGI server of your own the
        connection's address is `scope["client"]`.

        Source: the `trusted_proxies` option.
        """
        if self._client_address is None:
            self._client_address = self._proxies.client_address(
                self._client[0], lambda: self.header("x-forwarded-for") or ""
            )
        return self._client_address

    def trust(self, proxies: TrustedProxies) -> None:
        """Let `client_address` believe these proxies."""
        self._proxies = proxies
        self._client_address = None

    @property
    def forwarded_for_address(self) -> str | None:
        """The first address of X-Forwarded-For, or None.

        A client can forge it: see `client_address`.
        """
        forwarded = (self.header("x-forwarded-for") or "").split(",")[0].strip()
        return forwarded or None

    @property
    def subprotocols(self) -> Sequence[str]:
        """The sub-protocols that the client offers."""
        return list(self._read().get("subprotocols") or ())


def _separator(name: str) -> str:
    """The separator between several values of a header. Source: RFC 6265, section 5.4 (cookies)."""
    return "; " if name == "cookie" else ", "
