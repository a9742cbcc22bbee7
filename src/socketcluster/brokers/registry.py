"""From a broker's URL to a broker; an adapter and its library are imported when they are named."""

from __future__ import annotations

import importlib
import os
from typing import cast

from socketcluster.brokers.adapter import BrokerOptions
from socketcluster.brokers.address import parse_address, wrong
from socketcluster.brokers.base import Broker
from socketcluster.brokers.simple import SimpleBroker

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
"""Scheme → (module, extra of this package)."""


def create_broker(url: str, options: BrokerOptions | None = None) -> Broker:
    """The broker that a URL names; `simple:` is the one in process. Nothing is connected yet.

    Raises:
        InvalidOptionsError: nobody knows the scheme, the extra it needs is not installed, or a
            part of the URL is wrong.
    """
    address = parse_address(url, options)
    if address.scheme == "simple":
        return SimpleBroker()
    if address.scheme not in _ADAPTERS:
        raise wrong(
            f"there is no broker for {address.scheme or url!r}://; the schemes are "
            f"{', '.join([*_ADAPTERS, 'simple'])}"
        )
    module, extra = _ADAPTERS[address.scheme]
    try:
        adapter = importlib.import_module(f"socketcluster.brokers.{module}")
    except ModuleNotFoundError as error:
        raise wrong(
            f"{address.scheme}:// needs the extra {extra!r}: pip install 'socketcluster[{extra}]'"
        ) from error
    return cast(Broker, adapter.create(address))


def resolve_broker(broker: str | Broker | None) -> Broker:
    """The broker that the option `broker_engine` means; None is that of the environment.

    Raises:
        InvalidOptionsError: see `create_broker`.
    """
    if isinstance(broker, str):
        return create_broker(broker)
    if broker is not None:
        return broker
    url = os.environ.get(BROKER_VARIABLE)
    if not url:
        return SimpleBroker()
    required = os.environ.get(REQUIRED_VARIABLE) == "1"
    return create_broker(url, BrokerOptions(required=required))
