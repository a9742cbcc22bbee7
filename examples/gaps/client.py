"""Follow the score of a match, `python client.py final`, without missing a goal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import socketcluster
from socketcluster import AGClientSocket


async def follow(socket: AGClientSocket, match: str, show: Callable[[int], object]) -> None:
    """Show the score now, after each goal, and after whatever may have hidden one."""
    channel = socket.channel(f"scores/{match}")

    async def fetch() -> None:
        show(await socket.invoke("score", match, returns=int))

    async def after_gaps() -> None:  # The server's node was cut off from the others.
        async for _ in socket.receiver("$gap"):
            await fetch()

    async def after_subscribing() -> None:  # At the start, and after each reconnection.
        async for _ in channel.listener("subscribe"):
            await fetch()

    async def goals() -> None:
        async for goals in channel:
            show(goals)

    async with asyncio.TaskGroup() as tasks:
        for each in (goals(), after_subscribing(), after_gaps()):
            tasks.create_task(each)
        await asyncio.sleep(0)
        socket.subscribe(f"scores/{match}", data={"$gap": True})


async def main(match: str) -> None:
    async with socketcluster.create(port=8000, auto_connect=False) as socket:
        await follow(socket, match, print)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
