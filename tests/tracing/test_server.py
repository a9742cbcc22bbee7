"""The spans of a server: calls, publishes, deliveries, and what belongs together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from broker_servers import BackendServers, running_backend
from conftest import MakeServer
from socketcluster import AGServer, AGServerSocket, ChannelRule, History, Limits, Rate
from socketcluster.errors import InvalidOptionsError, SocketClusterError
from socketcluster.middleware import MiddlewareStream
from socketcluster.server import call_spans
from socketcluster.tracing.options import Tracing
from socketcluster.tracing.spans import span_of
from support import AnswerError, Client, Running, connected, soon
from tracing.recorded import Recorded, echo, trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(scope="module", params=["zeromq", "redis", "nats"])
def backend(request: pytest.FixtureRequest) -> Iterator[BackendServers]:
    with running_backend(request.param) as servers:
        yield servers


@pytest.fixture
def backend_url(backend: BackendServers) -> str:
    return f"{backend.url}?prefix=t{secrets.token_hex(6)}"


async def call(client: Client, event: str, data: Any = None, **fields: Any) -> Any:
    packet = {**client.packet(event, data), **fields}
    answer = client.answer(packet)
    await client.send(packet)
    return await soon(answer)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "direct"])
async def test_call_of_a_handler(
    make_server: MakeServer, recorded: Recorded, plain: bool, middleware: bool
) -> None:
    server = await make_server(tracing=recorded.tracing)
    current: list[str] = []

    def note() -> None:
        current.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")

    if plain:

        @server.procedure("add")
        def add(data: list[int]) -> int:
            note()
            return sum(data)

    else:

        @server.procedure("add")
        async def add_later(data: list[int]) -> int:
            await asyncio.sleep(0)
            note()
            return sum(data)

    if middleware:
        server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    async with connected(server) as client:
        assert await call(client, "add", [1, 2], traceparent=PARENT) == 3
        await recorded.wait(1)
    span = recorded.one("add")
    assert span.kind is SpanKind.SERVER
    assert span.attributes == {"rpc.system.name": "socketcluster", "rpc.method": "add"}
    assert trace_of(span) == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert current == [TRACE]


async def allow(stream: MiddlewareStream) -> None:
    async for action in stream:
        await asyncio.sleep(0)
        action.allow()


async def test_calls_that_wait_for_one_another_keep_their_own_context(
    make_server: MakeServer, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing)
    current: list[int] = []

    @server.procedure("slow")
    async def slow() -> None:
        before = trace.get_current_span().get_span_context().span_id
        await asyncio.sleep(0)
        assert trace.get_current_span().get_span_context().span_id == before
        current.append(before)

    async with connected(server) as client:
        packets = [client.packet("slow") for _ in range(5)]
        answers = [client.answer(packet) for packet in packets]
        await client.send(packets)  # A batch.
        await soon(asyncio.gather(*answers))
        await recorded.wait(5)
    assert current == [span.context.span_id for span in recorded.spans]
    assert len(set(current)) == 5


async def test_calls_of_a_batch_have_their_own_parents(
    make_server: MakeServer, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing)
    server.procedure("echo")(echo)
    traces = [f"{n:032x}" for n in (1, 2)]
    async with connected(server) as client:
        packets = [
            {**client.packet("echo", n), "traceparent": f"00-{each}-{1:016x}-01"}
            for n, each in enumerate(traces)
        ]
        answers = [client.answer(packet) for packet in packets]
        await client.send(packets)
        assert await soon(asyncio.gather(*answers)) == [0, 1]
        await recorded.wait(2)
    assert [trace_of(span) for span in recorded.spans] == traces


@pytest.mark.parametrize("limited", [False, True], ids=["", "limited"])
async def test_the_parents_of_a_batch_are_looked_for_once(
    make_server: MakeServer,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
    limited: bool,
) -> None:
    """Once a call, a client could have a long message decoded thousands of times."""
    decoded: list[int] = []
    decode = call_spans._batch_fields

    def counted(message: bytes) -> Any:
        decoded.append(len(message))
        return decode(message)

    monkeypatch.setattr(call_spans, "_batch_fields", counted)
    limits = Limits(message=Rate(100, exceeded="pause"), invoke=Rate(100)) if limited else None
    server = await make_server(tracing=recorded.tracing, limits=limits)

    @server.procedure("echo")
    async def echo_later(data: Any) -> Any:
        await asyncio.sleep(0)
        return data

    server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    async with connected(server) as one, connected(server) as two:
        answers = []
        for client in (one, two):  # They take turns.
            packets = [client.packet("echo", n) for n in range(40)]
            answers += [client.answer(packet) for packet in packets]
            marked = [{**packet, "traceparent": PARENT} for packet in packets]
            await client.send([*marked, {"event": "echo", "cid": []}])
        await soon(asyncio.gather(*answers))
        await recorded.wait(80)
        assert len(decoded) == 2
        assert await call(one, "echo", 1, traceparent=PARENT) == 1
        await recorded.wait(81)
    assert {trace_of(span) for span in recorded.spans} == {TRACE}


async def test_call_of_a_loop(
    make_server: MakeServer, recorded: Recorded, running: Running
) -> None:
    server = await make_server(tracing=recorded.tracing)

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("loop"):
            span_of(request).set_attribute("mine", True)
            with trace.use_span(span_of(request)):
                server.exchange.transmit_publish("news", 1)
            request.end()
            assert span_of(request) is trace.INVALID_SPAN

    running.on_connection(server, handle)
    async with connected(server) as client:
        await client.call("loop")
        await recorded.wait(2)
    loop, publish = recorded.one("loop"), recorded.one("publish")
    assert loop.attributes is not None
    assert loop.attributes["mine"] is True
    assert publish.parent == loop.context


class NotFoundError(SocketClusterError):
    pass


async def test_failed_calls(make_server: MakeServer, recorded: Recorded) -> None:
    server = await make_server(tracing=recorded.tracing)

    @server.procedure("mine")
    def mine() -> None:
        raise ValueError("secret")

    @server.procedure("theirs")
    def theirs(data: int) -> None:
        raise NotFoundError("no")

    async with connected(server) as client:
        for name in ("mine", "theirs", "nothing\n"):
            with pytest.raises(AnswerError):
                await client.call(name, 1)
        with pytest.raises(AnswerError):
            await client.call("theirs", "text")
        await recorded.wait(4)
    mine_span, *others = recorded.spans
    kinds = [(span.name, (span.attributes or {})["error.type"]) for span in recorded.spans]
    assert kinds == [
        ("mine", "InternalServerError"),
        ("theirs", "NotFoundError"),
        ("_OTHER", "UnknownProcedureError"),
        ("theirs", "InvalidArgumentsError"),
    ]
    assert not any(span.status.is_ok for span in recorded.spans)
    # The operator's own traces show what the client does not see.
    assert [event.name for event in mine_span.events] == ["exception"]
    assert (others[1].attributes or {})["rpc.method_original"] == "nothing\\n"


async def test_text_of_an_error_is_no_type(
    make_server: MakeServer, recorded: Recorded, running: Running
) -> None:
    server = await make_server(tracing=recorded.tracing)

    async def handle(socket: AGServerSocket) -> None:
        async for request in socket.procedure("loop"):
            request.error(f"no {request.data}")

    running.on_connection(server, handle)
    async with connected(server) as client:
        with pytest.raises(AnswerError):
            await client.call("loop", 1)
        await recorded.wait(1)
    assert (recorded.one("loop").attributes or {})["error.type"] == "Error"


async def test_client_that_leaves(make_server: MakeServer, recorded: Recorded) -> None:
    server = await make_server(tracing=recorded.tracing)
    began = asyncio.Event()

    @server.procedure("endless", cancel_on_disconnect=True)
    async def endless() -> None:
        began.set()
        await asyncio.Event().wait()

    async with connected(server) as client:
        await client.send(client.packet("endless"))
        await soon(began.wait())
    await recorded.wait(1)
    assert (recorded.one("endless").attributes or {})["error.type"] == "BadConnectionError"


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "direct"])
async def test_publish_of_a_client(
    make_server: MakeServer, recorded: Recorded, middleware: bool
) -> None:
    server = await make_server(tracing=recorded.tracing)
    if middleware:
        server.set_middleware(server.MIDDLEWARE_INBOUND, allow)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "news"})
        await call(client, "#publish", {"channel": "news", "data": {"n": 1}}, traceparent=PARENT)
        packet = await client.event()
        await recorded.wait(2)
    publish, deliver = recorded.one("publish"), recorded.one("deliver")
    assert (publish.kind, deliver.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert trace_of(publish) == trace_of(deliver) == TRACE
    assert deliver.parent is not None
    assert deliver.parent.span_id == publish.context.span_id
    attributes = {
        "messaging.system": "socketcluster",
        "messaging.destination.name": "news",
        "messaging.message.body.size": 7,
    }
    assert publish.attributes == {
        **attributes,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    assert deliver.attributes == {
        **attributes,
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
    }
    # The subscriber gets the context of the publish, and the data as it was.
    assert packet["data"] == {"channel": "news", "data": {"n": 1}}
    assert packet["traceparent"] == f"00-{TRACE}-{publish.context.span_id:016x}-01"


async def test_publishes_of_a_handler_and_to_the_exchange(
    make_server: MakeServer, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing)
    channel = server.exchange.subscribe("news")
    values = channel.create_consumer()

    @server.procedure("post")
    async def post(data: str) -> None:
        await server.exchange.invoke_publish("news", data)

    async with connected(server) as client:
        await call(client, "post", "hello", traceparent=PARENT)
        assert await soon(values.__anext__()) == "hello"
        await recorded.wait(3)
    assert recorded.one("publish").parent == recorded.one("post").context
    assert {trace_of(span) for span in recorded.spans} == {TRACE}


async def test_clients_that_are_not_trusted(make_server: MakeServer, recorded: Recorded) -> None:
    provider = recorded.tracing.tracer_provider
    server = await make_server(
        tracing=Tracing(tracer_provider=provider, trust_clients=False), auth_key="k" * 32
    )
    server.procedure("echo")(echo)
    async with connected(server) as client:
        await call(client, "echo", 1, traceparent=PARENT)
        await recorded.wait(1)
    span = recorded.one("echo")
    assert span.parent is None
    (link,) = span.links
    assert f"{link.context.trace_id:032x}" == TRACE


@pytest.mark.parametrize(
    "traceparent", ["", "00-0-0-01", 5, None, {"a": 1}, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
async def test_invalid_context(
    make_server: MakeServer, recorded: Recorded, traceparent: Any
) -> None:
    server = await make_server(tracing=recorded.tracing)
    server.procedure("echo")(echo)
    async with connected(server) as client:
        assert await call(client, "echo", 1, traceparent=traceparent) == 1
        await recorded.wait(1)
    assert recorded.one("echo").parent is None


async def test_data_of_that_name_is_no_context(make_server: MakeServer, recorded: Recorded) -> None:
    server = await make_server(tracing=recorded.tracing)
    server.procedure("echo")(echo)
    data = {"traceparent": PARENT}
    async with connected(server) as client:
        assert await client.call("echo", data) == data
        await recorded.wait(1)
    assert recorded.one("echo").parent is None


class FailingExporter(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        raise OSError("the collector is away")


@pytest.mark.filterwarnings("ignore")
async def test_exporter_that_fails_touches_no_call(make_server: MakeServer) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FailingExporter()))
    server = await make_server(tracing=Tracing(tracer_provider=provider))
    server.procedure("echo")(echo)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "news"})
        for n in range(3):
            assert await client.call("echo", n) == n
            await client.call("#publish", {"channel": "news", "data": n})
            assert (await client.event())["data"]["data"] == n


async def test_without_an_sdk(make_server: MakeServer) -> None:
    server = await make_server(tracing=Tracing())
    server.procedure("echo")(echo)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "news"})
        assert await client.call("echo", 1) == 1
        await client.call("#publish", {"channel": "news", "data": 1})
        assert await client.event() == {
            "event": "#publish",
            "data": {"channel": "news", "data": 1},
        }


async def test_one_publish_across_two_nodes(
    make_server: MakeServer, recorded: Recorded, backend_url: str
) -> None:
    here = await make_server(tracing=recorded.tracing, broker_engine=backend_url)
    there = await make_server(tracing=recorded.tracing, broker_engine=backend_url)

    @here.procedure("post")
    async def post(data: str) -> None:
        await here.exchange.invoke_publish("news", data)

    async with connected(here) as caller, connected(there) as subscriber:
        await subscriber.call("#subscribe", {"channel": "news"})
        await call(caller, "post", "hello", traceparent=PARENT)
        packet = await subscriber.event()
        await recorded.wait(3)
    rpc, publish, deliver = (recorded.one(name) for name in ("post", "publish", "deliver"))
    assert publish.parent == rpc.context
    assert deliver.parent is not None
    assert deliver.parent.span_id == publish.context.span_id
    assert packet["traceparent"] == f"00-{TRACE}-{publish.context.span_id:016x}-01"
    assert {trace_of(span) for span in recorded.spans} == {TRACE}


async def test_node_that_does_not_trace_delivers(
    make_server: MakeServer, recorded: Recorded, backend_url: str
) -> None:
    here = await make_server(tracing=recorded.tracing, broker_engine=backend_url)
    there = await make_server(broker_engine=backend_url)
    values = there.exchange.subscribe("news").create_consumer()
    async with connected(here) as caller, connected(there) as subscriber:
        await subscriber.call("#subscribe", {"channel": "news"})
        await caller.call("#publish", {"channel": "news", "data": {"n": 1}})
        assert (await subscriber.event())["data"] == {"channel": "news", "data": {"n": 1}}
        assert await soon(values.__anext__()) == {"n": 1}


def test_wrong_options() -> None:
    with pytest.raises(InvalidOptionsError, match="tracing"):
        AGServer(tracing=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionsError, match="tracer_provider"):
        Tracing(tracer_provider="console")
    with pytest.raises(InvalidOptionsError, match="trust_clients"):
        Tracing(trust_clients=1)  # type: ignore[arg-type]


async def test_a_stored_publish_has_a_span(make_server: MakeServer, recorded: Recorded) -> None:
    rule = ChannelRule("chat/*", history=History(size=10, ttl=60))
    server = await make_server(tracing=recorded.tracing, channels=[rule])
    values = server.exchange.subscribe("chat/1").create_consumer()
    await server.exchange.invoke_publish("chat/1", "hello")
    assert await soon(values.__anext__()) == "hello"
    await recorded.wait(1)
    assert (recorded.one("publish").attributes or {})["messaging.destination.name"] == "chat/1"
    page = await server.exchange.history("chat/1")
    assert [each.data for each in page.publications] == ["hello"]
