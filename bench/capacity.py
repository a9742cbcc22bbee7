"""The figures of docs/capacity.md, in CPU microseconds.

    python -m bench.capacity [engine] [rooms] [resubscribe] [connect] [tls]

`engine`: what a publish costs Redis, by the number of processes that subscribe. `rooms`: the same
for rooms of 100 clients that are spread over 200 processes. `resubscribe`: what each channel costs
Redis after it was away. `connect`: what a client that connects costs a server, without a token,
with one, and with five channels. `tls`: what a TLS handshake costs a server, by the kind of key.

Each link to Redis is a plain connection, as a process has one: Redis does the same work for it.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import jwt
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from bench.backends import REDIS
from bench.contenders import HERE, SERVER_CORE
from bench.processes import accepts, free_port, run_process

PROCESSES = (1, 10, 50, 100, 200)
AT_ONCE = 50
"""Publishes in one batch, as a busy process sends them in one turn of its loop."""

PAYLOAD = b'"' + b"x" * 100 + b'"'
ROOMS, MEMBERS, ROOM_PROCESSES = 2000, 100, 200
CHANNELS = 100_000
CONNECTS, CONNECTS_AT_ONCE = 2000, 20
HANDSHAKES = 200
KEY = "k" * 32


def cpu_clock(pid: int) -> Callable[[], float]:
    """Return a clock of the CPU seconds of a process, as clock_getcpuclockid(3) computes it."""
    number = (~pid << 3) | 2
    return lambda: time.clock_gettime(number)


class Counter(asyncio.Protocol):
    """A connection that counts the bytes that arrive on all connections together."""

    expected = 0
    received = 0
    complete: asyncio.Event

    def data_received(self, data: bytes) -> None:
        """Count."""
        Counter.received += len(data)
        if Counter.received >= Counter.expected:
            Counter.complete.set()

    @staticmethod
    async def expect(count: int, start: Callable[[], None]) -> None:
        """Call `start`, and wait until `count` bytes have arrived."""
        Counter.received, Counter.expected = 0, count
        Counter.complete = asyncio.Event()
        start()
        await Counter.complete.wait()


def command(*parts: bytes) -> bytes:
    """Encode a command for Redis."""
    encoded = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), encoded)


def _message(channel: bytes) -> int:
    """Bytes of one message that Redis delivers."""
    return len(command(b"message", channel, PAYLOAD))


def _confirmation(channel: bytes, number: int) -> int:
    return len(command(b"subscribe", channel)) + len(b":%d\r\n" % number)


class Redis:
    """Connections to one redis-server.

    Args:
        port: its port.
        clock: its CPU clock.
    """

    def __init__(self, port: int, clock: Callable[[], float]) -> None:
        self._port = port
        self.clock = clock
        self._publisher: asyncio.Transport

    async def connect(self) -> asyncio.Transport:
        """Open a connection."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(Counter, "127.0.0.1", self._port)
        return transport

    async def subscribe(self, link: asyncio.Transport, channels: list[bytes]) -> None:
        """Subscribe a connection that has no channels yet, and wait for the confirmations."""
        size = sum(_confirmation(name, n) for n, name in enumerate(channels, 1))
        await Counter.expect(size, lambda: link.write(command(b"subscribe", *channels)))

    async def publish(self, channels: list[bytes], receivers: dict[bytes, int]) -> None:
        """Publish once on each channel in one batch, and wait for all deliveries."""
        if not hasattr(self, "_publisher"):
            self._publisher = await self.connect()
        batch = b"".join(command(b"publish", name, PAYLOAD) for name in channels)
        size = sum(
            receivers[name] * _message(name) + len(b":%d\r\n" % receivers[name])
            for name in channels
        )
        await Counter.expect(size, lambda: self._publisher.write(batch))


@contextmanager
def running_redis() -> Iterator[Redis]:
    """Start a redis-server on its own core."""
    with REDIS.running(SERVER_CORE) as backend:
        yield Redis(int(backend.url.rpartition(":")[2]), cpu_clock(backend.pid))


async def engine() -> None:
    """Measure a publish by the number of processes that subscribe to its channel."""
    print("| processes | a publish, in batches | a publish alone |\n|---|---|---|")
    for processes in PROCESSES:
        with running_redis() as redis:
            links = [await redis.connect() for _ in range(processes)]
            for link in links:
                await redis.subscribe(link, [b"sc:all"])
            figures = [
                await _cost_of_publishes(redis, [b"sc:all"] * size, {b"sc:all": processes}, 2000)
                for size in (AT_ONCE, 1)
            ]
            print(f"| {processes} | {figures[0]:.1f} | {figures[1]:.1f} |", flush=True)
            for link in links:
                link.close()


async def _cost_of_publishes(
    redis: Redis, batch: list[bytes], receivers: dict[bytes, int], publishes: int
) -> float:
    for _ in range(5):
        await redis.publish(batch, receivers)
    before = redis.clock()
    rounds = max(1, publishes // len(batch))
    for _ in range(rounds):
        await redis.publish(batch, receivers)
    return (redis.clock() - before) * 1e6 / (rounds * len(batch))


async def rooms() -> None:
    """Measure a publish to a room, with members spread over processes, and kept on one."""
    print("| members of a room | processes of a room | a publish |\n|---|---|---|")
    names = [b"sc:room/%d" % n for n in range(ROOMS)]
    for title, spread in (("spread", MEMBERS), ("on one process", 1)):
        chosen = [set(random.choices(range(ROOM_PROCESSES), k=spread)) for _ in names]
        receivers = {name: len(found) for name, found in zip(names, chosen, strict=True)}
        with running_redis() as redis:
            for process in range(ROOM_PROCESSES):
                own = [name for name, found in zip(names, chosen, strict=True) if process in found]
                if own:
                    await redis.subscribe(await redis.connect(), own)
            batch = random.sample(names, AT_ONCE)
            cost = await _cost_of_publishes(redis, batch, receivers, 2000)
        mean = sum(receivers.values()) / len(receivers)
        print(f"| {title} | {mean:.0f} | {cost:.1f} |", flush=True)


async def resubscribe() -> None:
    """Measure the subscriptions of a process that comes back, for each channel."""
    channels = [b"sc:room/%d" % n for n in range(CHANNELS)]
    with running_redis() as redis:
        link = await redis.connect()
        before = redis.clock()
        await redis.subscribe(link, channels)
        cost = (redis.clock() - before) / CHANNELS
    print(f"{cost * 1e6:.2f} µs of Redis for each channel, {cost * 5e6:.0f} s for 5 million")


async def connect() -> None:
    """Measure clients that connect, by what they bring."""
    print("| a client that connects | server CPU |\n|---|---|")
    port = free_port()
    serve = [sys.executable, "-m", "socketcluster", "serve", "app:capacity", "--port", str(port)]
    with run_process(
        "the server",
        ["taskset", "-c", str(SERVER_CORE), *serve],
        HERE / "servers",
        lambda output: accepts(port),
    ) as pid:
        clock = cpu_clock(pid)
        for title, token, channels in (
            ("without a token", False, 0),
            ("with a token", True, 0),
            ("with a token and 5 channels", True, 5),
        ):
            await _connect_all(port, 200, token, channels)
            before = clock()
            await _connect_all(port, CONNECTS, token, channels)
            cost = (clock() - before) * 1e6 / CONNECTS
            print(f"| {title} | {cost:.0f} |", flush=True)


async def _connect_all(port: int, count: int, token: bool, channels: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await _connect_one(port, number, token, channels)

    await asyncio.gather(*(some() for _ in range(CONNECTS_AT_ONCE)))


async def _connect_one(port: int, number: int, token: bool, channels: int) -> None:
    import websockets

    claims = {"sub": f"user {number}", "exp": int(time.time()) + 3600}
    signed = f'"{jwt.encode(claims, KEY)}"' if token else "null"
    url = f"ws://127.0.0.1:{port}/socketcluster/"
    async with websockets.connect(url, compression=None, max_queue=None) as client:
        await client.send(f'{{"event":"#handshake","data":{{"authToken":{signed}}},"cid":1}}')
        await client.recv()
        for n in range(channels):
            data = f'{{"channel":"room/{(number + n) % 1000}"}}'
            await client.send(f'{{"event":"#subscribe","data":{data},"cid":{n + 2}}}')
        for _ in range(channels):
            await client.recv()


async def tls() -> None:
    """Measure TLS 1.3 handshakes, the server's part alone, and the signature in it."""
    print("| key | server CPU of a handshake | of it the signature |\n|---|---|---|")
    keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
        "RSA 2048": rsa.generate_private_key(65537, 2048),
        "RSA 4096": rsa.generate_private_key(65537, 4096),
        "ECDSA P-256": ec.generate_private_key(ec.SECP256R1()),
    }
    for title, key in keys.items():
        handshake, signature = _cost_of_handshakes(key), _cost_of_signatures(key)
        print(f"| {title} | {handshake:.0f} | {signature:.0f} |", flush=True)


def _cost_of_signatures(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> float:
    before = time.process_time()
    for _ in range(HANDSHAKES):
        if isinstance(key, rsa.RSAPrivateKey):
            key.sign(PAYLOAD, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.sign(PAYLOAD, ec.ECDSA(hashes.SHA256()))
    return (time.process_time() - before) * 1e6 / HANDSHAKES


def _cost_of_handshakes(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> float:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(_certificate(key))
        file.flush()
        server_context.load_cert_chain(file.name)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    spent = sum(_handshake(server_context, client_context) for _ in range(HANDSHAKES))
    return spent * 1e6 / HANDSHAKES


def _handshake(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> float:
    """Shake hands in memory; return the server's CPU seconds."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server)
    spent = 0.0
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            before = time.process_time()
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
            if side is server:
                spent += time.process_time() - before
    return spent


def _certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Make a certificate, and return it with its key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, form, plain) + certificate.public_bytes(pem)


MEASUREMENTS: dict[str, Callable[[], Awaitable[None]]] = {
    "engine": engine,
    "rooms": rooms,
    "resubscribe": resubscribe,
    "connect": connect,
    "tls": tls,
}


async def main(names: list[str]) -> None:
    """Run the measurements with these names, or all of them."""
    for name in names or MEASUREMENTS:
        print(f"\n{name}\n")
        await MEASUREMENTS[name]()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
