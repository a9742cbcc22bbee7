"""The authentication state that sockets of both sides show."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from socketcluster.literals import AuthenticationState


class AuthState(Protocol):
    """The token of one side of a socket, and whether it counts."""

    @property
    def state(self) -> AuthenticationState:
        """'authenticated' or 'unauthenticated'."""
        ...

    @property
    def token(self) -> Any:
        """The claims of the token; None when unauthenticated."""
        ...

    @property
    def signed_token(self) -> str | None:
        """The token itself; None when unauthenticated."""
        ...


AuthT = TypeVar("AuthT", bound=AuthState)
ClaimsT = TypeVar("ClaimsT")


class AuthStateMixin(Generic[AuthT, ClaimsT]):
    """The state of a socket's authentication.

    Source: SocketCluster documentation, AGServerSocket and AGClientSocket.
    """

    __slots__ = ()

    auth: AuthT

    @property
    def auth_state(self) -> AuthenticationState:
        """'authenticated' or 'unauthenticated'."""
        return self.auth.state

    @property
    def auth_token(self) -> ClaimsT:
        """The claims of the token; None when unauthenticated."""
        return self.auth.token  # type: ignore[no-any-return]

    @property
    def signed_auth_token(self) -> str | None:
        """The token itself; None when unauthenticated."""
        return self.auth.signed_token

    def get_auth_token(self) -> ClaimsT:
        """Return `auth_token`."""
        return self.auth.token  # type: ignore[no-any-return]
