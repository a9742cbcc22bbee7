"""Live scores, for clients that must not miss one: the database has them, publishes announce them.

Run it in this directory with `socketcluster serve server:server --broker redis://localhost`, and
follow a match with `python client.py final`.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from socketcluster import AGServer
from socketcluster.errors import BrokerError

database = sqlite3.connect("scores.db")
database.execute("CREATE TABLE IF NOT EXISTS scores (match TEXT PRIMARY KEY, goals INTEGER)")

server = AGServer(allow_client_publish=False)


@server.procedure()
def score(data: str) -> int:
    """Return the goals of a match, for a client that begins, reconnects or had a gap."""
    found = database.execute("SELECT goals FROM scores WHERE match = ?", [data]).fetchone()
    return found[0] if found else 0


@server.procedure()
def goal(data: str) -> int:
    with database:
        database.execute(
            "INSERT INTO scores VALUES (?, 1) ON CONFLICT DO UPDATE SET goals = goals + 1", [data]
        )
    goals = score(data)
    with suppress(BrokerError):  # In an outage. After it, the clients fetch the score.
        server.exchange.transmit_publish(f"scores/{data}", goals)
    return goals
