"""The two ways of a call to its handler: they give the same answers, and do the same."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from socketcluster import AGServer
from support import connected, soon
from transports import send_at_once


class Point(msgspec.Struct):
    x: int
    y: float = 0.0
    tags: list[str] = []


Positive = Annotated[int, msgspec.Meta(gt=0)]
TYPES: dict[str, Any] = {
    "point": Point,
    "int": int,
    "float": float,
    "text": str,
    "positive": Positive,
    "maybe": int | None,
    "points": dict[str, Point],
    "any": Any,
}
NAMES = ["a", 'a"b', "a\\", "ä", "\u2028", "🙂", "5", "", "a/b", "rid"]


def declare(server: AGServer, effects: list[Any]) -> None:
    """Declare a plain and an async handler of each type, without and with a default."""

    def make(name: str, kind: Any) -> None:
        def plain(data: Any) -> Any:
            effects.append((name, data))
            return data

        async def waiting(data: Any) -> Any:
            return plain(data)

        def default(data: Any = 7) -> Any:
            return plain(data)

        for prefix, function in (("p ", plain), ("w ", waiting), ("d ", default)):
            function.__annotations__["data"] = kind
            server.procedure(prefix + name)(function)

    for name, kind in TYPES.items():
        make(name, kind)
    for name in NAMES:
        server.procedure(name)(lambda name=name: effects.append(name))
        server.receiver(name)(lambda name=name: effects.append(name))


NUMBERS = [
    "0", "-0", "1", "1.0", "1.5", "1e3", "1e400", "-1", "9007199254740993", "18446744073709551616",
    "1" + "0" * 40, "1" + "0" * 4400, "01", "1.", "0.1e-400", "NaN", "-Infinity",
]  # fmt: skip
TEXTS = ['"x"', '"\\u0061"', '"\\ud83d\\ude42"', '"\\ud800"', '"ä"', '"\\"\\\\"', '"\x01"', '"']
LEAVES = st.sampled_from([*NUMBERS, *TEXTS, "null", "true", "false", "", "[", "{}", "[]"])
KEYS = st.sampled_from(['"x"', '"y"', '"tags"', '"\\u0078"', '"z"', '"data"', '"event"'])


def _object(items: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{key}:{value}" for key, value in items) + "}"


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.lists(st.tuples(KEYS, inner), max_size=4).map(_object),
        inner.map(lambda text: text.replace(",", " , ").replace(":", "\n:")),
    ),
    max_leaves=8,
) | st.sampled_from([1, 126, 127, 128, 129, 200]).map(lambda depth: "[" * depth + "]" * depth)
POINTS = st.lists(
    st.tuples(
        KEYS,
        st.sampled_from(["1", "1.0", '"1"', "null", '["a"]', "[1]", "1e2", "9" * 20]),
    ),
    max_size=5,
).map(_object)
EVENTS = st.one_of(
    st.sampled_from([f"{prefix} {name}" for prefix in "pwd" for name in TYPES]),
    st.sampled_from(NAMES),
)
CIDS = st.sampled_from(
    [
        "1",
        "2",
        "1.0",
        "1.5",
        '"1"',
        "true",
        "null",
        "-1",
        "1e2",
        "99999999999999999999",
        "[]",
        "1e999",
    ]
)


@st.composite
def messages(draw: Any) -> str:
    """A call as clients send it, and as none does."""
    name = draw(EVENTS)
    spelled = json.dumps(name, ensure_ascii=draw(st.booleans()))
    members = [('"event"', spelled), ('"data"', draw(VALUES | POINTS)), ('"cid"', draw(CIDS))]
    extra = st.sampled_from(['"rid"', '"error"', '"more"', '"data"', '"cid"', '"event"'])
    members += draw(st.lists(st.tuples(extra, CIDS | TEXTS_AND_NAMES), max_size=2))
    members = members if draw(st.booleans()) else draw(st.permutations(members))
    if draw(st.integers(0, 4)) == 0:
        del members[draw(st.integers(0, len(members) - 1))]
    text = _object(members)
    size = draw(st.sampled_from([0, 0, 511, 512, 513, 5000]))
    missing = size - len(text.encode(errors="replace")) - len(',"pad":""')
    if missing > 0:
        text = text[:-1] + ',"pad":"' + "x" * missing + '"}'
    return text


TEXTS_AND_NAMES = st.sampled_from(['"p int"', '"#publish"', "null", '"x"'])


async def outcome(is_direct: bool, sent: list[str]) -> tuple[list[Any], list[Any], list[int]]:
    """The answers, the effects and the counts of messages."""
    effects: list[Any] = []
    server = AGServer(max_malformed_messages=10**6, drain_timeout=0)
    declare(server, effects)
    await server.start()
    assert server._context.direct
    if not is_direct:
        server._context.direct = {}
    async with connected(server) as client:
        (socket,) = server.clients.values()
        await client.call("a")
        begin = len(client.messages)
        effects.clear()
        send_at_once(client.ws, sent)
        await client.call("a")  # Async handlers of one turn are done when this has an answer.
        for _ in range(5):
            await asyncio.sleep(0)
        await client.call("a")
        answers = sorted(map(str, client.messages[begin:]))
        counts = [each.invalid for each in server.handlers.procedures.values()]
        counts += [socket.inbound.processed, len(socket.messaging.unanswered)]
    await soon(server.close())
    return answers, list(map(repr, effects)), counts


SIMPLE = [
    *(text for text in [*NUMBERS, *TEXTS] if text != '"'),
    *("null", "true", "false", "[]", "{}", "[null]", '{"x":1}', '{"x":1.0,"y":1}', '{"x":"a"}'),
    *('{"x":1,"x":"a"}', '{"x":"a","x":1}', '{"y":1e3,"x":2,"z":3}', '{"a":{"x":1},"a":{"x":2}}'),
    *("[" * depth + "]" * depth for depth in (126, 127, 128, 129)),
]
FORMS = [
    '{{"event":"{name}","data":{data},"cid":1}}',
    '{{"event":"{name}","cid":1,"data":{data}}}',
    '{{"event":"{name}" ,"data": {data},"cid":1}}',
    '{{"event":"{name}","data":{data},"cid":1.5,"rid":2}}',
    '{{"event":"{name}","data":{data},"data":1,"cid":1}}',
    '{{"event":"{name}","data":{data},"cid":1,"event":"a"}}',
    '{{"event":"{name}","data":{data}}}',
    '{{"event":"{name}","cid":1,"error":{data}}}',
]


def test_both_ways_do_the_same_with_simple_data_of_each_type() -> None:
    names = [f"{prefix} {name}" for prefix in "pwd" for name in TYPES]
    sent = [form.format(name=n, data=d) for n in names for form in FORMS for d in SIMPLE]

    async def both() -> None:
        direct = await outcome(True, sent)
        ordinary = await outcome(False, sent)
        assert len(direct[0]) > len(sent) / 2
        for found, expected in zip(direct, ordinary, strict=True):
            assert found == expected

    asyncio.run(both())


@given(sent=st.lists(messages(), min_size=1, max_size=8))
def test_both_ways_to_a_handler_do_the_same(sent: list[str]) -> None:
    sent = [text.encode(errors="replace").decode() for text in sent]

    async def both() -> None:
        direct = await outcome(True, sent)
        ordinary = await outcome(False, sent)
        assert direct == ordinary

    asyncio.run(both())
