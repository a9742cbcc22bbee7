"""FastAPI and SocketCluster on one port: an HTTP request publishes to WebSocket clients.

Run it with `socketcluster serve server:server` or `uvicorn server:server` in this directory.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

import socketcluster

app = FastAPI()
server = socketcluster.attach(app)


@app.get("/clients")
async def clients() -> dict[str, int]:
    return {"clients": server.clients_count}


@app.post("/publish/{channel}")
async def publish(channel: str, data: dict[str, Any]) -> dict[str, str]:
    await server.exchange.invoke_publish(channel, data)
    return {"published": channel}
