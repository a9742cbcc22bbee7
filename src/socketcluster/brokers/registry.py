"""The broker registry: makes a broker for a URL.

An adapter and its library are imported when a URL names them.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from socketcluster.brokers.adapter import BrokerOptions
from socketcluster.brokers.address import parse_address, url_error
from socketcluster.brokers.base import Broker, InternalBroker
from socketcluster.brokers.memory_store import HISTORY_MEMORY
from socketcluster.brokers.simple import SimpleBroker

if TYPE_CHECKING:
    from socketcluster.brokers.redis_cluster import ClusterBroker
    from socketcluster.brokers.remote import RemoteBroker

BROKER_VARIABLE = "SOCKETCLUSTER_BROKER"
REQUIRED_VARIABLE = "SOCKETCLUSTER_BROKER_REQUIRED"

_ADAPTERS = {
    "ipc": ("zeromq", "zeromq"),
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
    "redis+sentinel": ("redis", "redis"),
    "rediss+sentinel": ("redis", "redis"),
    "redis+cluster": ("redis_cluster", "redis"),
    "rediss+cluster": ("redis_cluster", "redis"),
    "nats": ("nats", "nats"),
    "tls": ("nats", "nats"),
}
"""Scheme → (module, extra to install)."""


def create_broker(
    url: str, options: BrokerOptions | None = None, history_memory: int = HISTORY_MEMORY
) -> Broker:
    """Make the broker for a URL; `simple:` is the in-process one. It does not connect yet.

    Args:
        url: the URL.
        options: its parameters override them.
        history_memory: how many bytes the in-process broker may store.

    Raises:
        InvalidOptionsError: the scheme is unknown, the extra for it is not installed, or another
            part of the URL is wrong.
    """
    address = parse_address(url, options)
    if address.scheme == "simple":
        return SimpleBroker(history_memory)
    if address.scheme not in _ADAPTERS:
        raise url_error(
            f"there is no broker for {address.scheme or url!r}://; the schemes are "
            f"{', '.join([*_ADAPTERS, 'simple'])}"
        )
    module, extra = _ADAPTERS[address.scheme]
    try:
        adapter = importlib.import_module(f"socketcluster.brokers.{module}")
    except ModuleNotFoundError as error:
        raise url_error(
            f"{address.scheme}:// needs the extra {extra!r}: pip install 'socketcluster[{extra}]'"
        ) from error
    broker: RemoteBroker | ClusterBroker = adapter.create(address)
    if address.options.prefix:

        def internal() -> InternalBroker:
            # Not "local": a message that reached only its own process was not sent.
            settings = replace(address.options, away="fail", required=False)
            inner = replace(address, options=settings, internal=True)
            return InternalBroker(adapter.create(inner), settings.prefix)

        broker.internal = internal
    return broker


def resolve_broker(broker: str | Broker | None, history_memory: int = HISTORY_MEMORY) -> Broker:
    """Return the broker for a value of the option `broker_engine`; None means the environment's.

    `history_memory` is the option of this name.

    Raises:
        InvalidOptionsError: see `create_broker`.
    """
    if isinstance(broker, str):
        return create_broker(broker, None, history_memory)
    if broker is not None:
        return broker
    url = os.environ.get(BROKER_VARIABLE)
    if not url:
        return SimpleBroker(history_memory)
    required = os.environ.get(REQUIRED_VARIABLE) == "1"
    return create_broker(url, BrokerOptions(required=required), history_memory)
