"""The error tree, and errors on the wire."""

from __future__ import annotations

import builtins
import copy
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from socketcluster import errors
from socketcluster.errors import (
    MAX_REMOTE_MESSAGE_LENGTH,
    MAX_REMOTE_NAME_LENGTH,
    SOCKET_PROTOCOL_ERROR_STATUSES,
    SOCKET_PROTOCOL_IGNORE_STATUSES,
    AuthTokenError,
    AuthTokenExpiredError,
    AuthTokenInvalidError,
    AuthTokenNotBeforeError,
    BadConnectionError,
    BrokerError,
    InvalidActionError,
    InvalidArgumentsError,
    InvalidOptionsError,
    InvalidRequestError,
    MiddlewareError,
    PeerError,
    RemoteError,
    SilentMiddlewareBlockedError,
    SocketClusterError,
    SocketProtocolError,
    UsageError,
    dehydrate_error,
    hydrate_error,
    internal_error,
)

# The names that npm sc-errors 3 exports.
JS_NAMES = [
    "AuthTokenExpiredError",
    "AuthTokenInvalidError",
    "AuthTokenNotBeforeError",
    "AuthTokenError",
    "AuthError",
    "SilentMiddlewareBlockedError",
    "InvalidActionError",
    "InvalidArgumentsError",
    "InvalidOptionsError",
    "InvalidMessageError",
    "SocketProtocolError",
    "ServerProtocolError",
    "HTTPServerError",
    "ResourceLimitError",
    "TimeoutError",
    "BadConnectionError",
    "BrokerError",
    "ProcessExitError",
    "UnknownError",
]


class DetailedError(SocketClusterError):
    public_fields = ("retry_after",)

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.retry_after = 5
        self.password = "secret"


def classes(root: type[SocketClusterError]) -> set[type[SocketClusterError]]:
    return {root}.union(*(classes(kind) for kind in root.__subclasses__()))


@pytest.mark.parametrize("name", JS_NAMES)
def test_every_error_of_the_original_exists_and_crosses_the_wire(name: str) -> None:
    kind: type[SocketClusterError] = getattr(errors, name)
    error = kind("why")
    assert (error.name, error.message, str(error)) == (name, "why", "why")
    arrived = hydrate_error(dehydrate_error(error))
    assert type(arrived) is kind
    told = "The message broker failed" if kind is BrokerError else "why"
    assert (arrived.message, arrived.is_remote, error.is_remote) == (told, True, False)


def test_the_documented_tree_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    ours = {kind for kind in classes(SocketClusterError) if kind.__module__ == errors.__name__}
    assert not [kind.__name__ for kind in ours if kind.__name__ not in errors.__doc__]


def test_misuse_and_a_peers_fault_are_different_types() -> None:
    assert not issubclass(InvalidRequestError, UsageError)
    assert not issubclass(InvalidActionError, PeerError)
    assert dehydrate_error(InvalidRequestError("m")) == {
        "message": "m",
        "name": "InvalidActionError",
    }


def test_a_timeout_is_caught_as_the_builtin_one() -> None:
    with pytest.raises(builtins.TimeoutError, match="late"):
        raise errors.TimeoutError("late")


def test_an_option_error_carries_the_option() -> None:
    assert InvalidOptionsError("m", "ping_interval").option == "ping_interval"


@pytest.mark.parametrize("kind", sorted(classes(SocketClusterError), key=str))
def test_errors_can_be_copied_and_pickled(kind: type[SocketClusterError]) -> None:
    error = kind("why")
    error.status_code = 4500
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), twin.message, twin.status_code) == (kind, "why", 4500)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1006, "Socket hung up"), (4001, "Client pong timed out"), (4008, None), (4009, None)],
)
def test_close_codes_have_their_reasons(code: int, reason: str | None) -> None:
    assert reason in (None, SOCKET_PROTOCOL_ERROR_STATUSES[code])


def test_statuses_are_complete_and_fixed() -> None:
    assert [*SOCKET_PROTOCOL_ERROR_STATUSES] == [
        *(1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011),
        *range(4000, 4010),
    ]
    assert dict(SOCKET_PROTOCOL_IGNORE_STATUSES) == {
        1000: "Socket closed normally",
        1001: "Socket was disconnected",
    }
    with pytest.raises(TypeError):
        SOCKET_PROTOCOL_ERROR_STATUSES[1] = "x"  # type: ignore[index]


# What npm sc-errors sends for the same errors, recorded.
@pytest.mark.parametrize(
    ("error", "wire"),
    [
        (
            AuthTokenExpiredError("m", datetime(1970, 1, 1, tzinfo=UTC)),
            {
                "message": "m",
                "name": "AuthTokenExpiredError",
                "expiry": "1970-01-01T00:00:00.000Z",
                "isBadToken": True,
            },
        ),
        (
            AuthTokenNotBeforeError("m", datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
            {
                "message": "m",
                "name": "AuthTokenNotBeforeError",
                "date": "1970-01-01T00:00:01.500Z",
                "isBadToken": False,
            },
        ),
        (
            BadConnectionError("m", "disconnect"),
            {
                "message": "m",
                "name": "BadConnectionError",
                "type": "disconnect",
                "code": 1001,
                "reason": "Socket was disconnected",
            },
        ),
        (
            BadConnectionError("m", "connectAbort", 1000),
            {
                "message": "m",
                "name": "BadConnectionError",
                "type": "connectAbort",
                "code": 1000,
                "reason": "Socket closed normally",
            },
        ),
        (
            BadConnectionError("m", "disconnect", 4001),
            {
                "message": "m",
                "name": "BadConnectionError",
                "type": "disconnect",
                "code": 4001,
                "reason": "",
            },
        ),
        (
            SocketProtocolError("m", 4001),
            {"message": "m", "name": "SocketProtocolError", "code": 4001},
        ),
        (
            SilentMiddlewareBlockedError("m", "handshake"),
            {"message": "m", "name": "SilentMiddlewareBlockedError", "type": "handshake"},
        ),
        ("text", "text"),
        (None, None),
    ],
)
def test_the_wire_form_is_the_originals(error: Any, wire: Any) -> None:
    assert dehydrate_error(error) == wire


def test_only_name_message_and_public_fields_are_sent() -> None:
    assert dehydrate_error(DetailedError("m")) == {
        "message": "m",
        "name": "DetailedError",
        "retryAfter": 5,
    }


def test_the_name_of_an_instance_is_its_own() -> None:
    error = InvalidActionError("m")
    error.name = "CustomError"
    assert dehydrate_error(error) == {"message": "m", "name": "CustomError"}
    assert dehydrate_error(InvalidActionError("m")) == {
        "message": "m",
        "name": "InvalidActionError",
    }


def test_any_exception_is_sent_with_the_documented_attributes_only() -> None:
    class Refused(Exception):
        pass

    error: Any = Refused("no")
    error.secret = "s"
    assert dehydrate_error(error) == {"message": "no", "name": "Refused"}
    error.name, error.status_code, error.is_bad_token, error.silent = "Custom", 4501, False, True
    assert dehydrate_error(error) == {
        "message": "no",
        "name": "Custom",
        "statusCode": 4501,
        "isBadToken": False,
    }
    error.name, error.status_code, error.is_bad_token = 5, True, "yes"
    assert dehydrate_error(error) == {"message": "no", "name": "Refused"}


def test_the_builtin_name_attribute_is_no_wire_name() -> None:
    error = AttributeError("m", name="password")
    assert dehydrate_error(error) == {"message": "m", "name": "AttributeError"}


def test_a_failed_middleware_function_shows_no_details() -> None:
    wire = dehydrate_error(MiddlewareError("raised ValueError: secret", "inbound"))
    assert wire == {
        "message": "The action was blocked by middleware",
        "name": "MiddlewareError",
        "type": "inbound",
    }
    assert dehydrate_error(internal_error()) == {
        "message": "Internal server error",
        "name": "InternalServerError",
    }


def test_what_is_no_error_is_not_sent() -> None:
    with pytest.raises(InvalidArgumentsError, match="int"):
        dehydrate_error(5)  # type: ignore[arg-type]


def test_hydrating_keeps_every_field() -> None:
    error = hydrate_error(
        {
            "name": "BadConnectionError",
            "message": "m",
            "type": "connectAbort",
            "code": 4007,
            "reason": "r",
            "statusCode": 4500,
            "more": [1],
        }
    )
    assert isinstance(error, BadConnectionError)
    assert (error.type, error.code, error.reason) == ("connectAbort", 4007, "r")
    assert (error.status_code, error.fields) == (4500, {"more": [1]})
    assert "more" not in str(dehydrate_error(error))


def test_an_unknown_name_gives_a_remote_error() -> None:
    error = hydrate_error({"name": "CustomError", "message": "m", "extra": {"a": 1}})
    assert isinstance(error, RemoteError)
    assert (error.name, error.message, error.fields) == ("CustomError", "m", {"extra": {"a": 1}})
    assert dehydrate_error(error) == {"message": "m", "name": "CustomError"}


@pytest.mark.parametrize("name", ["SocketClusterError", "AuthTokenError", "EncodeError"])
def test_a_peer_may_send_any_error_class(name: str) -> None:
    assert type(hydrate_error({"name": name, "message": "m"})).__name__ == name


@pytest.mark.parametrize(
    "name", ["UsageError", "PeerError", "__class__", "Exception", "hydrate_error", "_BY_NAME", ""]
)
def test_a_peer_does_not_choose_other_objects(name: str) -> None:
    error = hydrate_error({"name": name, "message": "m"})
    assert type(error) is RemoteError
    assert error.name == (name or "Error")


@pytest.mark.parametrize(
    ("sent", "name", "message"),
    [
        ("just text", "Error", "just text"),
        (None, "Error", "Invalid error message format"),
        (5, "Error", "Invalid error message format"),
        ([1], "Error", "Invalid error message format"),
        ({}, "Error", "Invalid error message format"),
        ({"message": {"a": 1}, "name": ["x"]}, "Error", "Invalid error message format"),
        ({"message": "m", 5: 1, "__class__": 1, "args": 1}, "Error", "m"),
        ({"message": "m" * 10**6, "name": "n" * 10**6}, None, None),
    ],
)
def test_hostile_errors_are_tolerated(sent: Any, name: str | None, message: str | None) -> None:
    error = hydrate_error(sent)
    assert type(error) is RemoteError
    assert name in (None, error.name)
    assert message in (None, error.message)
    assert len(error.name) <= MAX_REMOTE_NAME_LENGTH
    assert len(str(error)) <= MAX_REMOTE_MESSAGE_LENGTH


@pytest.mark.parametrize("code", ["x", True, {"a": 1}, None, [4001], 1.5])
def test_fields_of_a_wrong_type_are_not_believed(code: Any) -> None:
    error = hydrate_error({"name": "SocketProtocolError", "message": "m", "code": code})
    assert isinstance(error, SocketProtocolError)
    assert (error.code, error.fields) == (None, {"code": code})


def test_a_peer_does_not_set_what_is_ours_to_decide() -> None:
    error = hydrate_error(
        {"name": "AuthTokenInvalidError", "message": "m", "silent": True, "publicFields": ["x"]}
    )
    assert isinstance(error, AuthTokenInvalidError)
    assert (error.silent, error.public_fields) == (False, ())


def test_token_errors_are_bad_tokens_unless_early() -> None:
    assert AuthTokenError("m").is_bad_token is True
    assert AuthTokenExpiredError("m").is_bad_token is True
    assert AuthTokenNotBeforeError("m").is_bad_token is False
