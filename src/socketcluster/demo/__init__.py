"""The demo: rooms with a history and members, a cable to pull, a login, and backpressure."""

from __future__ import annotations

from typing import Unpack

from socketcluster import AGServer, AsyncAPI, ServerOptionsDict
from socketcluster.demo.handlers import router
from socketcluster.demo.pages import Pages

_DESCRIPTION = "The API behind the demo page. Its source is `socketcluster/demo/handlers.py`."


def create_demo_server(**options: Unpack[ServerOptionsDict]) -> AGServer:
    """Create an AGServer that serves the demo and its page."""
    options.setdefault("asyncapi", AsyncAPI(title="SocketCluster demo", description=_DESCRIPTION))
    options.setdefault("channels_default", "refuse")
    server = AGServer(app=Pages(), **options)
    server.include(router)
    return server
