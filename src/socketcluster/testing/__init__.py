"""Tools for fast tests: clients in memory instead of a network, and a clock instead of waiting.

    async with testing.connect(server) as socket, testing.clock() as clock:
        ...

`call` calls one handler alone, and `override` replaces dependencies. Several servers of a test
share a `MemoryBackend`.

The fixtures `ag_server` and `ag_client` are in `socketcluster.testing.plugin`, which pytest finds
by itself.
"""

from socketcluster.testing.backend import MemoryBackend
from socketcluster.testing.calling import call, override
from socketcluster.testing.clients import MemoryConnector, connect, create, cut, paused
from socketcluster.testing.clock import Clock, clock

__all__ = [
    "Clock",
    "MemoryBackend",
    "MemoryConnector",
    "call",
    "clock",
    "connect",
    "create",
    "cut",
    "override",
    "paused",
]
