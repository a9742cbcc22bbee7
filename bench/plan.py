"""The plan: the loads to measure, the tables to print, and the targets to meet."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.contenders import (
    ASGI,
    ASYNC,
    DEFLATE,
    HANDLER,
    INBOUND,
    LIMIT,
    MIN_BIN,
    NATS,
    NPM,
    OUTBOUND,
    PICOWS,
    REDIS,
    SOCKETIO,
    SOCKETIO_REDIS,
    TYPED,
    WORKERS,
    ZEROMQ,
    Contender,
)
from bench.load import Load


@dataclass(frozen=True, slots=True)
class Point:
    """A load on a server."""

    contender: Contender
    load: Load


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row of a table: the figure `metric` of a load's samples, for each contender."""

    title: str
    load: Load
    metric: str = "cpu_us"
    unit: str = "µs"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: measurements as rows, contenders as columns."""

    title: str
    contenders: tuple[Contender, ...]
    measurements: list[Measurement]


@dataclass(frozen=True, slots=True)
class Target:
    """An upper limit for the figure at `of`, or for its ratio to the figure at `to`.

    A target without a limit is reported for comparison.
    """

    title: str
    of: Point
    to: Point | None
    limit: float | None
    metric: str = "cpu_us"
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All tables and targets of a run."""

    tables: list[Table]
    targets: list[Target]

    def points(self) -> dict[Load, list[Contender]]:
        """Return the contenders that each load is for, in order."""
        contenders_of: dict[Load, list[Contender]] = {}
        points = [
            Point(c, w.load) for t in self.tables for w in t.measurements for c in t.contenders
        ]
        points += [p for target in self.targets for p in (target.of, target.to) if p is not None]
        for point in points:
            contenders = contenders_of.setdefault(point.load, [])
            if point.contender not in contenders:
                contenders.append(point.contender)
        return contenders_of

    def most_sockets(self) -> int:
        """Return the number of sockets of the largest load."""
        return max(load.sockets for load in self.points())


RPC_1 = Load("rpc", 50)
RPC_32 = Load("rpc", 50, 32)
PUBLISH_1 = Load("publish", 1000)
PUBLISH_4 = Load("publish", 1000, 4)
PUBLISH_100 = Load("publish", 100, 16)
CONNECT = Load("connect", 10_000, 64)
HOP_1, HOP_10, HOP_50 = Load("hop", 5), Load("hop", 5, 10), Load("hop", 5, 50)
STORED_10 = replace(HOP_10, mode="hop-stored")

ALONE = (LIMIT, PICOWS, ASGI, NPM, SOCKETIO)
"""The servers that run as one process."""

ACROSS = (PICOWS, ZEROMQ, REDIS, NATS, SOCKETIO_REDIS)
"""One server alone, and pairs of servers with a backend."""

WAYS = (NPM, PICOWS, HANDLER, TYPED, ASYNC)
"""Ways to answer a call: loops of the original and of this server, and handlers.

A typed handler gets two numbers, the others a text of 100 bytes.
"""

_MAIN: dict[Load, tuple[str, float, float]] = {
    # load: (title, target ratio to the bare C server, target ratio to the original server)
    RPC_1: ("RPC, 50 sockets, 1 in flight", 1.5, 0.5),
    RPC_32: ("RPC, 50 sockets, 32 in flight", 6, 0.2),
    PUBLISH_1: ("publish to 1,000, 1 in flight", 1.35, 0.45),
    PUBLISH_4: ("publish to 1,000, 4 in flight", 1.35, 0.16),
    PUBLISH_100: ("publish to 100, 16 in flight", 1.8, 0.09),
}


def full() -> Plan:
    """Return the plan of `make bench`."""
    main = _main(CONNECT)
    return Plan(
        [*main.tables, _ways(CONNECT), _across(PUBLISH_1, PUBLISH_4, PUBLISH_100)],
        [
            *main.targets,
            *_handlers(CONNECT),
            *_options(),
            *_workers(),
            *_hops(HOP_50, HOP_1),
            *_stored(),
            *_growth(),
        ],
    )


def quick() -> Plan:
    """Return the plan of `make bench-quick`: fewer connections and loads."""
    connect = replace(CONNECT, sockets=2000)
    main = _main(connect)
    targets = [*main.targets, *_handlers(connect), *_options(), *_workers(), *_hops(HOP_50)]
    targets += _stored()
    return Plan([*main.tables, _ways(connect), _across(PUBLISH_100)], targets)


def _main(connect: Load) -> Plan:
    measurements = [Measurement(title, load) for load, (title, _, _) in _MAIN.items()]
    measurements += [
        Measurement("connect and handshake", connect, "connect_us"),
        Measurement(
            f"memory of {connect.sockets:,} idle connections", connect, "kb_per_socket", "KB"
        ),
        Measurement("p50 latency, RPC, 50 sockets, 1 in flight", RPC_1, "p50_ms", "ms"),
        Measurement("p99 latency, RPC, 50 sockets, 1 in flight", RPC_1, "p99_ms", "ms"),
    ]
    targets = []
    for load, (title, to_limit, to_npm) in _MAIN.items():
        here = Point(PICOWS, load)
        targets.append(Target(title, here, Point(LIMIT, load), to_limit))
        targets.append(Target(title, here, Point(NPM, load), to_npm))
    connected, called = Point(PICOWS, connect), Point(PICOWS, RPC_1)
    _, _, _, latency = measurements[-4:]
    targets += [
        Target("connect and handshake", connected, Point(NPM, connect), 0.6, "connect_us"),
        Target("memory per idle connection", connected, None, 12, "kb_per_socket", "KB"),
        Target(latency.title, called, Point(LIMIT, RPC_1), 1.3, "p99_ms"),
        Target(latency.title, called, Point(NPM, RPC_1), 0.5, "p99_ms"),
    ]
    for load, (title, _, _) in _MAIN.items():
        targets.append(Target(title, Point(ASGI, load), Point(PICOWS, load), 2.5))
    targets.append(
        Target("connect and handshake", Point(ASGI, connect), connected, 2.5, "connect_us")
    )
    return Plan([Table("One process", ALONE, measurements)], targets)


def _ways(connect: Load) -> Table:
    measurements = [Measurement(_MAIN[load][0], load) for load in (RPC_1, RPC_32)]
    title = f"memory of {connect.sockets:,} idle connections"
    memory = Measurement(title, connect, "kb_per_socket", "KB")
    return Table("Loops and handlers", WAYS, [*measurements, memory])


def _handlers(connect: Load) -> list[Target]:
    idle = Point(HANDLER, connect)
    return [
        _option(HANDLER, RPC_1, 0.8),
        _option(HANDLER, RPC_32, 0.8),
        _option(ASYNC, RPC_1, 1.1),
        _option(ASYNC, RPC_32, 1.1),
        Target("memory per idle connection", idle, None, 9, "kb_per_socket", "KB"),
    ]


def _across(*loads: Load) -> Table:
    measurements = [Measurement(f"{_MAIN[load][0]}, remote", load) for load in loads]
    return Table("Across processes", ACROSS, measurements)


def _workers() -> list[Target]:
    return [_option(WORKERS, load, 1.1) for load in (RPC_1, RPC_32, PUBLISH_1, PUBLISH_4)]


def _hops(limited: Load, *others: Load) -> list[Target]:
    targets = []
    for contender in (ZEROMQ, REDIS, NATS):
        for load in (limited, *others):
            first, further = (15, 1) if load == limited else (None, None)
            here, title = Point(contender, load), f"{load.in_flight} at a time"
            targets += [
                Target(f"publish to one process, {title}", here, None, first, "cpu_us", "µs"),
                Target(f"each further process, {title}", here, None, further, "more_us", "µs"),
                Target(f"the backend's part, {title}", here, None, None, "backend_us", "µs"),
                Target(f"the same, further, {title}", here, None, None, "backend_more_us", "µs"),
            ]
    return targets


def _stored() -> list[Target]:
    """Publishes of channels with history beside plain ones, ten in a turn of the loop."""
    targets = []
    for contender in (ZEROMQ, REDIS, NATS):
        stored, plain = Point(contender, STORED_10), Point(contender, HOP_10)
        title = "a stored publish, 10 at a time"
        targets += [
            Target(f"{title}, to a plain one, without the backend", stored, plain, 2, "own_us"),
            Target(f"{title}, to a plain one", stored, plain, None),
            Target(f"{title}, the backend's part", stored, None, None, "backend_us", "µs"),
            Target("a plain one's, the backend's part", plain, None, None, "backend_us", "µs"),
        ]
    return targets


def _options() -> list[Target]:
    targets = []
    for contender in (INBOUND, MIN_BIN):
        for load in (RPC_1, RPC_32, PUBLISH_1):
            targets.append(_option(contender, load, 3))
    large = Load("publish", 1000, payload=2048)
    return [
        *targets,
        _option(OUTBOUND, PUBLISH_1, 3),
        Target("publish of 2 KiB to 1,000", Point(DEFLATE, large), Point(PICOWS, large), 1.5),
    ]


def _option(contender: Contender, load: Load, limit: float) -> Target:
    return Target(_MAIN[load][0], Point(contender, load), Point(PICOWS, load), limit)


def _growth() -> list[Target]:
    wide = Load("publish", 10_000)
    few = Load("channels", 10_000, 16, subscribers=10)
    # Publishes go to the same ten sockets as in `few`; only the number of channels differs.
    many = Load("channels", 10_000, 16, channels=10, published=100)
    spread = replace(many, published=None)
    idle = Load("idle", 10_000, seconds=16)
    closing, closing_few = Load("close", 10_000), Load("close", 1000)
    big = Load("publish", 100, payload=1024 * 1024 - 1024, lockstep=True)
    shares = "10,000 idle sockets with pings"
    return [
        *_grows("a delivery to 10,000 to one to 1,000", wide, PUBLISH_1, 1.3),
        Target("a delivery to 10,000", Point(PICOWS, wide), Point(LIMIT, wide), 1.35),
        *_grows("a publish with 100,000 channels to one with 10", many, few, 1.2),
        *_grows("a publish to any of 100,000 channels to one to 10", spread, few, None),
        Target(shares, Point(PICOWS, idle), None, 0.05, "cpu_share", "of a core"),
        _grows("a close of 10,000 sockets to one of 1,000", closing, closing_few, 1.3)[0],
        Target("copies of 1 MiB per subscriber", Point(PICOWS, big), None, 1.1, "copies"),
        Target("publish of 1 MiB to 100", Point(PICOWS, big), Point(LIMIT, big), 1.35),
    ]


def _grows(title: str, of: Load, to: Load, limit: float | None) -> list[Target]:
    """Compare how a cost grows here and on the bare C server.

    The latter shows the part of the kernel and the CPU caches.
    """
    return [
        Target(title, Point(PICOWS, of), Point(PICOWS, to), limit),
        Target(title, Point(LIMIT, of), Point(LIMIT, to), None),
    ]
