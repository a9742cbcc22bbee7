"""The spans of a client, and the trace that goes on at its server."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind

from conftest import MakeClient, MakeServer
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import UnknownProcedureError
from support import soon, until
from tracing.recorded import Recorded, echo, trace_of


async def test_one_trace_from_a_call_to_its_handler(
    make_server: MakeServer, make_client: MakeClient, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing)
    server.procedure("echo")(echo)
    client = make_client(server, tracing=recorded.tracing)
    assert await soon(client.invoke("echo", 1)) == 1
    await recorded.wait(2)
    caller, called = sorted(recorded.spans, key=lambda span: span.kind is SpanKind.SERVER)
    assert (caller.name, caller.kind) == ("echo", SpanKind.CLIENT)
    assert called.parent is not None
    assert called.parent.span_id == caller.context.span_id


@pytest.mark.parametrize("waits", [True, False], ids=["invoke", "transmit"])
async def test_one_trace_from_a_publish_to_its_delivery(
    make_server: MakeServer, make_client: MakeClient, recorded: Recorded, waits: bool
) -> None:
    server = await make_server(tracing=recorded.tracing)
    client = make_client(server, tracing=recorded.tracing)
    channel = client.subscribe("news")
    values = channel.create_consumer()
    await soon(channel.listener("subscribe").once())
    if waits:
        await soon(client.invoke_publish("news", 1))
    else:
        client.transmit_publish("news", 1)
    assert await soon(values.__anext__()) == 1
    await recorded.wait(3)
    names = sorted(span.name for span in recorded.spans)
    assert names == ["deliver", "publish", "publish"]
    assert len({trace_of(span) for span in recorded.spans}) == 1


async def test_failed_call(
    make_server: MakeServer, make_client: MakeClient, recorded: Recorded
) -> None:
    client = make_client(await make_server(), tracing=recorded.tracing)
    with pytest.raises(UnknownProcedureError):
        await soon(client.invoke("nothing"))
    assert (recorded.one("nothing").attributes or {})["error.type"] == "UnknownProcedureError"


async def test_event_carries_the_current_context(
    make_server: MakeServer, make_client: MakeClient, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing)

    @server.receiver("note")
    async def note(data: str) -> None:
        await server.exchange.invoke_publish("notes", data)

    client = make_client(server, tracing=recorded.tracing)
    await soon(client.listener("connect").once())
    tracer = recorded.tracing.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("mine"):
        client.transmit("note", "x")
    await until(lambda: any(span.name == "publish" for span in recorded.spans))
    assert trace_of(recorded.one("publish")) == trace_of(recorded.one("mine"))


async def test_other_codec_carries_no_context(
    make_server: MakeServer, make_client: MakeClient, recorded: Recorded
) -> None:
    server = await make_server(tracing=recorded.tracing, codec_engine=MinBinCodec())
    server.procedure("echo")(echo)
    client = make_client(server, tracing=recorded.tracing, codec_engine=MinBinCodec())
    assert await soon(client.invoke("echo", {"b": b"\x00"})) == {"b": b"\x00"}
    await recorded.wait(2)
    assert len({trace_of(span) for span in recorded.spans}) == 2
