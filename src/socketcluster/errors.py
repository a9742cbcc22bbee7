"""Every error of the package, the close codes, and how an error crosses the wire.

::

    SocketClusterError
     ├─ UsageError                     local misuse of the API
     │   ├─ InvalidActionError
     │   ├─ InvalidArgumentsError
     │   │   └─ EncodeError
     │   ├─ InvalidOptionsError        (option)
     │   └─ BackpressureError          (channel, values, bytes, limit)
     ├─ PeerError                      a fault of the peer
     │   ├─ InvalidMessageError
     │   ├─ InvalidRequestError        on the wire an "InvalidActionError"
     │   ├─ InvalidDataError           (path) on the wire an "InvalidArgumentsError"
     │   ├─ UnknownProcedureError      (procedure)
     │   ├─ RateLimitError             (retry_after)
     │   └─ RemoteError                sent by a peer under any other name
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
     ├─ InternalServerError            stands for an unexpected exception at a client
     ├─ HTTPServerError                the HTTP server or the application behind it failed
     └─ ServerProtocolError, ProcessExitError (code), UnknownError
                                       sent by other SocketCluster servers only

Names, fields and messages are those of SocketCluster 20; in Python fields are in snake_case.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, cast

from socketcluster import close_codes
from socketcluster.error_fields import camel_case, has_type_of, wire_value
from socketcluster.error_text import text_of, wire_name

SOCKET_PROTOCOL_ERROR_STATUSES = close_codes.SOCKET_PROTOCOL_ERROR_STATUSES
SOCKET_PROTOCOL_IGNORE_STATUSES = close_codes.SOCKET_PROTOCOL_IGNORE_STATUSES
MAX_REMOTE_NAME_LENGTH = 255
MAX_REMOTE_MESSAGE_LENGTH = 10_000
_MALFORMED = "Invalid error message format"


class SocketClusterError(Exception):
    """Base class of all errors of the package.

    A subclass lists in `public_fields` the fields that a client receives beside name and message.

    Attributes:
        name: the name on the wire: the class name, unless the class or the instance sets another.
        status_code: the close code of a handshake that the error blocks (any exception).
        is_bad_token: whether the client should drop its token (any exception).
        silent: whether the client of a blocked action receives no reason (any exception).
        is_remote: whether a peer sent the error.
        fields: the undeclared fields of a peer's error; they are not sent on.
        public_message: sent to clients in place of `message`, which is for the log then.
    """

    name: str = "SocketClusterError"
    message: str = ""
    status_code: int | None = None
    is_bad_token: bool | None = None
    silent: bool = False
    is_remote: bool = False
    fields: Mapping[str, Any] = MappingProxyType({})
    public_fields: ClassVar[tuple[str, ...]] = ()
    public_message: str | None = None

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
    """Local misuse of the API, without a fault of the peer."""


class InvalidActionError(UsageError):
    """An action that is not possible in the object's state."""


class InvalidArgumentsError(UsageError):
    """An invalid argument."""


class EncodeError(InvalidArgumentsError):
    """Data that the codec cannot encode; the cause says why."""


class InvalidOptionsError(UsageError):
    """An invalid option; `option` is its name."""

    def __init__(self, message: str = "", option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class BackpressureError(UsageError):
    """The end of a loop over a channel of the exchange that was too slow.

    It had not taken `values` values of `bytes` payload bytes yet: one of the two exceeded `limit`,
    the option `max_channel_backlog` or `max_channel_backlog_bytes`.
    """

    def __init__(
        self, message: str = "", channel: str = "", values: int = 0, bytes: int = 0, limit: int = 0
    ) -> None:
        super().__init__(message)
        self.channel = channel
        self.values = values
        self.bytes = bytes
        self.limit = limit


class PeerError(SocketClusterError):
    """A fault of the peer: it violated the protocol, or answered with an error."""


class InvalidMessageError(PeerError):
    """A message that is not valid in the codec or the protocol."""


class InvalidRequestError(PeerError):
    """A peer's request that is malformed or not allowed. On the wire: InvalidActionError."""

    name = "InvalidActionError"


class InvalidDataError(PeerError):
    """A peer's data that is not of the declared type. On the wire: InvalidArgumentsError.

    `path` is the place in the data, such as `$.items[0].name`; `$` is the whole of it.
    """

    name = "InvalidArgumentsError"
    public_fields: ClassVar[tuple[str, ...]] = ("path",)

    def __init__(self, message: str = "", path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class UnknownProcedureError(PeerError):
    """A call of a procedure without a handler."""

    def __init__(self, message: str = "", procedure: str | None = None) -> None:
        super().__init__(message)
        self.procedure = procedure


class RateLimitError(PeerError):
    """A message that a rate limit refused; after `retry_after` milliseconds there is room again."""

    public_fields: ClassVar[tuple[str, ...]] = ("retry_after",)

    def __init__(self, message: str = "", retry_after: int | float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RemoteError(PeerError):
    """An error that a peer sent under an unknown name, with its `name`, `message` and `fields`."""

    def __init__(
        self, message: str = "", name: str = "Error", fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.fields: Mapping[str, Any] = dict(fields or {})
        self.is_remote = True


class AuthError(SocketClusterError):
    """An authentication error that is not about the token."""


class AuthTokenError(AuthError):
    """Any other token error. `is_bad_token` is true except for a token that is not yet valid."""

    is_bad_token: bool | None = True


class AuthTokenExpiredError(AuthTokenError):
    """A token past its `expiry`: a datetime, or a peer's ISO text or seconds."""

    public_fields: ClassVar[tuple[str, ...]] = ("expiry",)

    def __init__(
        self, message: str = "", expiry: datetime | str | float | int | None = None
    ) -> None:
        super().__init__(message)
        self.expiry = expiry


class AuthTokenInvalidError(AuthTokenError):
    """A token that is malformed, or not signed with the configured key and algorithms."""


class AuthTokenNotBeforeError(AuthTokenError):
    """A token that is valid from `date` on: a datetime, or a peer's ISO text or seconds."""

    public_fields: ClassVar[tuple[str, ...]] = ("date",)

    def __init__(self, message: str = "", date: datetime | str | float | int | None = None) -> None:
        super().__init__(message)
        self.date = date
        self.is_bad_token: bool | None = False


class BadConnectionError(SocketClusterError):
    """A call on a connection that is closed or was lost, with the close's `code` and `reason`.

    `type` is 'disconnect', or 'connectAbort' before the handshake was complete.
    """

    public_fields: ClassVar[tuple[str, ...]] = ("type", "code", "reason")

    def __init__(
        self,
        message: str = "",
        type: str = "disconnect",
        code: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.type = type
        self.code: int = code or 1001
        self.reason: str = reason or SOCKET_PROTOCOL_IGNORE_STATUSES.get(self.code, "")


class SocketProtocolError(SocketClusterError):
    """A connection that was closed with an error `code`, such as SOCKET_PROTOCOL_ERROR_STATUSES.

    `reason` is None if it is unknown; `http_status` is that of a response that refused the upgrade.
    """

    public_fields: ClassVar[tuple[str, ...]] = ("code",)
    reason: str | None = None
    http_status: int | None = None

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class TimeoutError(SocketClusterError, builtins.TimeoutError):
    """An answer or a value that did not arrive in time."""


class ResourceLimitError(SocketClusterError):
    """A limit of this process that was reached."""


class BrokerError(SocketClusterError):
    """A failure of the broker. Its message may name hosts: clients receive `public_message`."""

    public_message: str | None = "The message broker failed"


class MiddlewareError(SocketClusterError):
    """A middleware function that failed; `type` is its line, the cause the error it raised.

    It is silent: the client learns that the action was blocked, and not why.
    """

    silent = True
    public_fields: ClassVar[tuple[str, ...]] = ("type",)
    public_message: str | None = "The action was blocked by middleware"

    def __init__(self, message: str = "", type: str | None = None) -> None:
        super().__init__(message)
        self.type = type


class SilentMiddlewareBlockedError(MiddlewareError):
    """An action that middleware of line `type` blocked without a reason."""

    silent = False
    public_message: str | None = None


class InternalServerError(SocketClusterError):
    """An unexpected exception of the server, as a client receives it."""


class ServerProtocolError(SocketClusterError):
    """A protocol error of the server. Only other SocketCluster servers send it."""


class HTTPServerError(SocketClusterError):
    """An error of the HTTP server, as when the application behind it fails to start."""


class ProcessExitError(SocketClusterError):
    """The exit of a process with status `code`. Only other SocketCluster servers send it."""

    public_fields: ClassVar[tuple[str, ...]] = ("code",)

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class UnknownError(SocketClusterError):
    """An error of unknown kind. Only other SocketCluster servers send it."""


def _classes_by_name(root: type[SocketClusterError]) -> dict[str, type[SocketClusterError]]:
    unsent = (UsageError, PeerError, RemoteError, InvalidRequestError, InvalidDataError)
    found = {} if root in unsent else {root.__name__: root}
    for kind in root.__subclasses__():
        found |= _classes_by_name(kind)
    return found


_BY_NAME = _classes_by_name(SocketClusterError)


def internal_error() -> InternalServerError:
    """Create the error that a client receives for an unexpected exception."""
    return InternalServerError("Internal server error")


def dehydrate_error(error: BaseException | str | None) -> dict[str, Any] | str | None:
    """Turn an error into its wire form: name, message and public fields.

    An exception of another library is sent with its `name` if that is a string, or its class name,
    its text, and `status_code` and `is_bad_token` if set. A string or None stays as it is. Fields
    have camelCase names, datetimes are ISO 8601 in UTC.

    Raises:
        InvalidArgumentsError: `error` is neither an exception, a string nor None.
    """
    if error is None or isinstance(error, str):
        return error
    if not isinstance(cast("object", error), BaseException):
        raise InvalidArgumentsError(
            f"An error must be an exception or a string, not {type(error).__name__}"
        )
    wire: dict[str, Any] = {"message": text_of(error), "name": wire_name(error)}
    if isinstance(error, SocketClusterError):
        if error.public_message is not None:
            wire["message"] = error.public_message
        for field in error.public_fields:
            value = getattr(error, field, None)
            if value is not None:
                wire[camel_case(field)] = wire_value(value)
    for field in ("status_code", "is_bad_token"):
        value = getattr(error, field, None)
        if has_type_of(field, value):
            wire[camel_case(field)] = value
    return wire


def hydrate_error(obj: object) -> SocketClusterError:
    """Turn a peer's error into an exception of the class with its name, else a RemoteError.

    It never raises: a field of a wrong type stays in `fields`, a missing name or message is
    replaced, a long one cut.
    """
    if isinstance(obj, str):
        return RemoteError(obj[:MAX_REMOTE_MESSAGE_LENGTH])
    if not isinstance(obj, dict):
        return RemoteError(_MALFORMED, fields={} if obj is None else {"value": obj})
    rest: dict[Any, Any] = dict(obj)
    name, message = rest.pop("name", None), rest.pop("message", None)
    message = message[:MAX_REMOTE_MESSAGE_LENGTH] if isinstance(message, str) else _MALFORMED
    name = name[:MAX_REMOTE_NAME_LENGTH] if isinstance(name, str) and name else "Error"
    kind = _BY_NAME.get(name)
    error = RemoteError(message, name) if kind is None else kind(message)
    for field in (*error.public_fields, "status_code", "is_bad_token"):
        key = camel_case(field)
        if key in rest and has_type_of(field, rest[key]):
            setattr(error, field, rest.pop(key))
    error.fields = rest
    error.is_remote = True
    return error
