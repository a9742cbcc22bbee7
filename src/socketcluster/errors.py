"""Every error of the package, the close codes, and how an error crosses the wire.

::

    SocketClusterError
     ├─ UsageError                     this program asked for what it may not have
     │   ├─ InvalidActionError
     │   ├─ InvalidArgumentsError
     │   │   └─ EncodeError
     │   ├─ InvalidOptionsError        (option)
     │   └─ BackpressureError          (channel, values, bytes, limit)
     ├─ PeerError                      the other side is at fault
     │   ├─ InvalidMessageError
     │   ├─ InvalidRequestError        on the wire an "InvalidActionError"
     │   ├─ UnknownProcedureError      (procedure)
     │   └─ RemoteError                sent by a peer under a name not listed here
     ├─ AuthError
     │   └─ AuthTokenError
     │       ├─ AuthTokenExpiredError  (expiry)
     │       ├─ AuthTokenInvalidError
     │       └─ AuthTokenNotBeforeError (date)
     ├─ BadConnectionError             (type, code, reason)
     ├─ SocketProtocolError            (code, reason, http_status)
     ├─ TimeoutError                   also a builtins.TimeoutError
     ├─ ResourceLimitError
     ├─ BrokerError
     ├─ MiddlewareError                (type)
     │   └─ SilentMiddlewareBlockedError
     ├─ InternalServerError            all a client learns of an unexpected exception
     └─ ServerProtocolError, HTTPServerError, ProcessExitError (code), UnknownError

Names, fields and messages are those of SocketCluster 20; in Python fields are in snake_case.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, cast

from socketcluster.close_codes import (
    SOCKET_PROTOCOL_ERROR_STATUSES as SOCKET_PROTOCOL_ERROR_STATUSES,
)
from socketcluster.close_codes import (
    SOCKET_PROTOCOL_IGNORE_STATUSES as SOCKET_PROTOCOL_IGNORE_STATUSES,
)
from socketcluster.error_text import text_of

MAX_REMOTE_NAME_LENGTH = 255
MAX_REMOTE_MESSAGE_LENGTH = 10_000
_MALFORMED = "Invalid error message format"


class SocketClusterError(Exception):
    """The root. A subclass names in `public_fields` what a client may see beside name and message.

    `name` is the wire name: the class name, unless the class or the instance sets another.
    `status_code` is the close code a blocked handshake ends with, `is_bad_token` tells to throw a
    token away, `silent` hides the error of a blocked action from the client; any exception may have
    the three. A peer's error has `is_remote`, and undeclared `fields`; neither is sent on.
    """

    name: str = "SocketClusterError"
    message: str = ""
    status_code: int | None = None
    is_bad_token: bool | None = None
    silent: bool = False
    is_remote: bool = False
    fields: Mapping[str, Any] = MappingProxyType({})
    public_fields: ClassVar[tuple[str, ...]] = ()
    public_message: str | None = None  # Sent in place of a `message` that is for the log only.

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class UsageError(SocketClusterError):
    """This program misused the library; the peer has nothing to do with it."""


class InvalidActionError(UsageError):
    """An action that the state of its object does not allow."""


class InvalidArgumentsError(UsageError):
    """An argument of a wrong type or value."""


class EncodeError(InvalidArgumentsError):
    """Data that the codec cannot put on the wire; the cause says why."""


class InvalidOptionsError(UsageError):
    """A wrong option; `option` is its name."""

    def __init__(self, message: str = "", option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class BackpressureError(UsageError):
    """A loop over a channel of the exchange was too slow, and was ended.

    `values` values of `bytes` payload bytes waited for it on `channel`: one of the two was more
    than `limit`, the option `max_channel_backlog` or `max_channel_backlog_bytes`.
    """

    def __init__(
        self,
        message: str = "",
        channel: str = "",
        values: int = 0,
        bytes: int = 0,
        limit: int = 0,
    ) -> None:
        super().__init__(message)
        self.channel = channel
        self.values = values
        self.bytes = bytes
        self.limit = limit


class PeerError(SocketClusterError):
    """The other side of the connection broke the protocol, or answered with an error."""


class InvalidMessageError(PeerError):
    """A message that the codec or the protocol does not understand."""


class InvalidRequestError(PeerError):
    """A peer's request that is malformed or not allowed. Its wire name is InvalidActionError."""

    name = "InvalidActionError"


class UnknownProcedureError(PeerError):
    """A call to a procedure that nobody handles."""

    def __init__(self, message: str = "", procedure: str | None = None) -> None:
        super().__init__(message)
        self.procedure = procedure


class RemoteError(PeerError):
    """An error a peer sent under a name unknown here, with its `name`, `message`, `fields`."""

    def __init__(
        self, message: str = "", name: str = "Error", fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.fields = dict(fields or {})
        self.is_remote = True


class AuthError(SocketClusterError):
    """An authentication problem that is not the token's."""


class AuthTokenError(AuthError):
    """A token problem of any other kind than the three below. Bad, unless it is only early."""

    is_bad_token = True


class AuthTokenExpiredError(AuthTokenError):
    """The token is past its `expiry`: a datetime, or what the peer sent (ISO text or seconds)."""

    public_fields = ("expiry",)

    def __init__(
        self, message: str = "", expiry: datetime | str | float | int | None = None
    ) -> None:
        super().__init__(message)
        self.expiry = expiry


class AuthTokenInvalidError(AuthTokenError):
    """The token is malformed, or not signed by the key and algorithms configured."""


class AuthTokenNotBeforeError(AuthTokenError):
    """The token is good but not active before `date`: a datetime, or what the peer sent."""

    public_fields = ("date",)

    def __init__(self, message: str = "", date: datetime | str | float | int | None = None) -> None:
        super().__init__(message)
        self.date = date
        self.is_bad_token = False


class BadConnectionError(SocketClusterError):
    """A call on a connection that is or was closed. `type` is 'disconnect' or 'connectAbort'."""

    public_fields = ("type", "code", "reason")

    def __init__(
        self,
        message: str = "",
        type: str = "disconnect",
        code: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.code = code or 1001
        self.reason = reason or SOCKET_PROTOCOL_IGNORE_STATUSES.get(self.code, "")


class SocketProtocolError(SocketClusterError):
    """The connection was closed with `code`, one of SOCKET_PROTOCOL_ERROR_STATUSES or another.

    `reason` says why, where that is known; `http_status` is what a refused upgrade was answered."""

    public_fields = ("code",)
    reason: str | None = None
    http_status: int | None = None

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class TimeoutError(SocketClusterError, builtins.TimeoutError):
    """An answer or a value did not come in time."""


class ResourceLimitError(SocketClusterError):
    """A limit of this process was reached."""


class BrokerError(SocketClusterError):
    """The broker refused or failed an operation. Its message may name hosts: it is for the log."""

    public_message: str | None = "The message broker failed"


class MiddlewareError(SocketClusterError):
    """A middleware function failed; `type` is its line, the cause what it raised.

    It is silent: the client learns that the action was blocked, and not why.
    """

    silent = True
    public_fields = ("type",)
    public_message: str | None = "The action was blocked by middleware"

    def __init__(self, message: str = "", type: str | None = None) -> None:
        super().__init__(message)
        self.type = type


class SilentMiddlewareBlockedError(MiddlewareError):
    """Middleware of line `type` blocked an action without giving a reason."""

    silent = False
    public_message: str | None = None


class InternalServerError(SocketClusterError):
    """An unexpected exception, as a client sees it."""


class ServerProtocolError(SocketClusterError):
    """A protocol problem of the server itself."""


class HTTPServerError(SocketClusterError):
    """A problem of the HTTP server."""


class ProcessExitError(SocketClusterError):
    """A process ended with exit status `code`."""

    public_fields = ("code",)

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnknownError(SocketClusterError):
    """Anything else."""


def _family(root: type[SocketClusterError]) -> dict[str, type[SocketClusterError]]:
    unsent = (UsageError, PeerError, RemoteError, InvalidRequestError)
    found = {} if root in unsent else {root.__name__: root}
    for kind in root.__subclasses__():
        found |= _family(kind)
    return found


_KNOWN = _family(SocketClusterError)
# What a field of a peer's error may be; anything else goes to `fields` as it came.
_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "code": (int,),
    "status_code": (int,),
    "is_bad_token": (bool,),
    "type": (str,),
    "reason": (str,),
    "expiry": (str, int, float),
    "date": (str, int, float),
}
_OTHER_NAME = (ImportError, AttributeError, NameError)  # Whose `name` is of something else.


def internal_error() -> InternalServerError:
    """What a client gets for an exception nobody meant it to see."""
    return InternalServerError("Internal server error")


def dehydrate_error(error: BaseException | str | None) -> dict[str, Any] | str | None:
    """The wire form of an error: name, message, and the fields that its class declares public.

    For an exception of another family: its `name` if that is a string, or its class name, its text,
    and `status_code` and `is_bad_token` if set. A string or None stays as it is; anything else
    raises InvalidArgumentsError. Fields get camelCase names, datetimes are ISO 8601 in UTC.
    """
    if error is None or isinstance(error, str):
        return error
    if not isinstance(cast(object, error), BaseException):
        raise InvalidArgumentsError(
            f"An error must be an exception or a string, not {type(error).__name__}"
        )
    wire: dict[str, Any] = {"message": text_of(error), "name": _wire_name(error)}
    if isinstance(error, SocketClusterError):
        if error.public_message is not None:
            wire["message"] = error.public_message
        for field in error.public_fields:
            value = getattr(error, field, None)
            if value is not None:
                wire[_camel_case(field)] = _iso(value) if isinstance(value, datetime) else value
    for field in ("status_code", "is_bad_token"):
        value = getattr(error, field, None)
        if _is_a(value, _FIELD_TYPES[field]):
            wire[_camel_case(field)] = value
    return wire


def hydrate_error(obj: object) -> SocketClusterError:
    """The error a peer sent, as an exception of the class that its name stands for.

    An unknown name gives a RemoteError. Nothing a peer sends makes this raise: what has a wrong
    type is left in `fields`, a missing name or message is replaced, an overlong one cut.
    """
    if isinstance(obj, str):
        return RemoteError(obj[:MAX_REMOTE_MESSAGE_LENGTH])
    if not isinstance(obj, dict):
        return RemoteError(_MALFORMED, fields={} if obj is None else {"value": obj})
    rest: dict[Any, Any] = dict(obj)
    name, message = rest.pop("name", None), rest.pop("message", None)
    message = message[:MAX_REMOTE_MESSAGE_LENGTH] if isinstance(message, str) else _MALFORMED
    name = name[:MAX_REMOTE_NAME_LENGTH] if isinstance(name, str) and name else "Error"
    known = _KNOWN.get(name)
    error = RemoteError(message, name) if known is None else known(message)
    for field in (*error.public_fields, "status_code", "is_bad_token"):
        key = _camel_case(field)
        if key in rest and _is_a(rest[key], _FIELD_TYPES[field]):
            setattr(error, field, rest.pop(key))
    error.fields = rest
    error.is_remote = True
    return error


def describe_error(error: BaseException) -> str:
    """An error as "Name: message"."""
    return f"{_wire_name(error)}: {text_of(error)}"


def _wire_name(error: BaseException) -> str:
    name = None if isinstance(error, _OTHER_NAME) else getattr(error, "name", None)
    return name if isinstance(name, str) and name else type(error).__name__


def _camel_case(field: str) -> str:
    head, *tail = field.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _iso(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_a(value: object, types: tuple[type, ...]) -> bool:  # True and False are integers, too.
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
