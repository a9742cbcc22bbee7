"""FastAPI and SocketCluster on one port: an HTTP request publishes to WebSocket clients.

Run it with `socketcluster serve server:server` or `uvicorn server:server` in this directory. One
model checks what both receive.
"""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel, Field

import socketcluster

app = FastAPI()
server = socketcluster.attach(app)


class Article(BaseModel):
    title: str = Field(min_length=1, max_length=100)
    text: str = ""


@app.post("/news/{topic}")
async def publish(topic: str, article: Article) -> None:
    await server.exchange.invoke_publish(f"news/{topic}", article.model_dump())


@server.channel("news/{topic}", publish=Article)
class News:
    """The news of a topic."""


@app.get("/clients")
@server.procedure()
def clients() -> int:
    return server.clients_count
