"""The methods of a server that concern tokens: its auth engine, keys and their options."""

from __future__ import annotations

from typing import Any

from socketcluster.auth import AuthEngine
from socketcluster.runtime.loop_binding import LoopBinding
from socketcluster.server.parts.tokens import Tokens


class TokensMixin:
    """The auth engine of a server, and the keys it uses. Source: AGServer specification."""

    __slots__ = ()

    loop_binding: LoopBinding
    tokens: Tokens

    @property
    def auth(self) -> AuthEngine:
        """The auth engine, which signs and verifies tokens."""
        return self.tokens.engine

    @auth.setter
    def auth(self, auth_engine: AuthEngine) -> None:
        self.tokens.engine = auth_engine

    def set_auth_engine(self, auth_engine: AuthEngine) -> None:
        """Sign and verify tokens with another engine from now on."""
        self.loop_binding.check()
        self.tokens.engine = auth_engine

    @property
    def signature_key(self) -> str | bytes:
        """The key that signs tokens."""
        return self.tokens.signature_key

    @signature_key.setter
    def signature_key(self, key: str | bytes) -> None:
        self.tokens.signature_key = key

    @property
    def verification_key(self) -> str | bytes:
        """The key that verifies tokens."""
        return self.tokens.verification_key

    @verification_key.setter
    def verification_key(self, key: str | bytes) -> None:
        self.tokens.verification_key = key

    @property
    def default_signature_options(self) -> dict[str, Any]:
        """The options that the auth engine signs tokens with."""
        return self.tokens.signature_options

    @default_signature_options.setter
    def default_signature_options(self, options: dict[str, Any]) -> None:
        self.tokens.signature_options = options

    @property
    def default_verification_options(self) -> dict[str, Any]:
        """The options that the auth engine verifies tokens with."""
        return self.tokens.verification_options

    @default_verification_options.setter
    def default_verification_options(self, options: dict[str, Any]) -> None:
        self.tokens.verification_options = options
