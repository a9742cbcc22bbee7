"""The options that all client commands share, and the client made from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Unpack, cast

from socketcluster import (
    AGClientSocket,
    ClientOptionsDict,
    MemoryTokenStore,
    ReconnectOptions,
    create,
)
from socketcluster.cli.credentials import from_environment, read_secret
from socketcluster.cli.exit_status import usage_error
from socketcluster.client.options import url_options
from socketcluster.codecs.json import JSONCodec
from socketcluster.codecs.minbin import MinBinCodec

DEFAULT_SECONDS = 10.0
TOKEN_VARIABLE = "SOCKETCLUSTER_TOKEN"
# Shorter delays than the defaults, which keep thousands of clients from reconnecting at once.
_RECONNECT_OPTIONS = ReconnectOptions(initial_delay=500, randomness=500, max_delay=10_000)


class CodecName(StrEnum):
    """The codecs that a server may use."""

    json = "json"
    min_bin = "min-bin"


_CODECS: dict[CodecName, Any] = {CodecName.json: JSONCodec, CodecName.min_bin: MinBinCodec}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """The options of a client command.

    Attributes:
        seconds: the time limit for the connection and for each answer.
    """

    url: str
    token: str | None = None
    token_file: Path | None = None
    origin: str | None = None
    codec: CodecName = CodecName.json
    protocol_version: int = 2
    seconds: float = DEFAULT_SECONDS

    def create_socket(self, **options: Unpack[ClientOptionsDict]) -> AGClientSocket:
        """Create a client that does not connect yet.

        Raises:
            InvalidOptionsError: the URL is not valid.
            CommandError: the token cannot be read.
        """
        store = MemoryTokenStore()
        token = self._token()
        if token is not None:
            store.save_token("token", token, {})
        chosen: ClientOptionsDict = {
            **url_options(self.url),
            "auto_connect": False,
            "auto_reconnect_options": _RECONNECT_OPTIONS,
            "auth_engine": store,
            "auth_token_name": "token",
            "codec_engine": _CODECS[self.codec](),
            "protocol_version": cast("Literal[1, 2]", self.protocol_version),
            "connect_timeout": self.seconds * 1000,
            "ack_timeout": self.seconds * 1000,
            "ws_options": {"headers": {"Origin": self.origin}} if self.origin else {},
            **options,
        }
        return create(**chosen)

    def _token(self) -> str | None:
        if self.token is not None and self.token_file is not None:
            raise usage_error("Give --token or --token-file, not both")
        if self.token_file is not None:
            return read_secret("token", self.token_file)
        return self.token or from_environment(TOKEN_VARIABLE)
