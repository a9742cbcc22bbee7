"""The errors of subscriptions, as clients and the log see them."""

from __future__ import annotations

from socketcluster.error_text import describe_error
from socketcluster.errors import (
    BadConnectionError,
    BrokerError,
    InvalidActionError,
    SocketClusterError,
)


def subscription_error(text: str) -> BrokerError:
    """Make a BrokerError whose text the client may see."""
    error = BrokerError(text)
    error.public_message = text
    return error


def limit_error(channel: str, reason: SocketClusterError) -> BrokerError:
    """Make the error of a subscription that a limit refuses."""
    return subscription_error(f"{failure_text(channel)} - {describe_error(reason)}")


def limit_reached(id: str, channel: str, limit: int) -> BrokerError:
    """Make the error of a socket with as many channels as `socket_channel_limit` allows."""
    reason = f"Socket {id} tried to exceed the channel subscription limit of {limit}"
    return limit_error(channel, InvalidActionError(reason))


def abandoned_error(channel: str) -> BadConnectionError:
    """Make the error of a subscription whose client left."""
    return BadConnectionError(
        f"The subscription to the {channel} channel was given up", "disconnect"
    )


def failure_text(channel: str) -> str:
    """Return the text of a refusal that gives no reason."""
    return f"Failed to subscribe socket to the {channel} channel"


def undecided_text(id: str, count: int) -> str:
    """Return the log line of a socket that is kicked out without a decision."""
    return (
        f"Socket {id} lost its identity and is kicked out of {count:,} channel{'s' * (count > 1)}: "
        "SUBSCRIBE middleware or the channel's handler, asked again, decided nothing within "
        "ack_timeout"
    )
