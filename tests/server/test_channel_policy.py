"""Channel rules: which channels clients may use, and what the others are told."""

from __future__ import annotations

from typing import Any

import pytest

from socketcluster import AGServer, ChannelRule, ServerOptions
from socketcluster.codecs.minbin import MinBinCodec
from socketcluster.errors import InvalidArgumentsError, InvalidOptionsError
from socketcluster.patterns import Pattern
from socketcluster.server.channel_policy import ChannelPolicy
from support import AnswerError, Running, connected, until

RULES = [ChannelRule("news"), ChannelRule("room/{room}"), ChannelRule(Pattern("files/**"))]
NAMED = ["news", "room/1", "files/a/b"]
UNNAMED = ["new", "room", "room/", "room/1/2", "files/", "NEWS"]


def refusal(action: str, channel: str) -> dict[str, str]:
    text = f"Clients cannot {action} to the {channel} channel: no rule or handler of the server"
    return {"name": "InvalidActionError", "message": f"{text} names it"}


async def test_clients_may_use_the_named_channels_and_no_others(
    make_server: Any, running: Running
) -> None:
    server = await make_server(
        channels=RULES, channels_default="refuse", max_malformed_messages=len(UNNAMED)
    )
    asked: list[tuple[str, str]] = []

    async def ask(stream: Any) -> None:
        async for action in stream:
            asked.append((action.type, action.channel))
            action.allow()

    warnings = running.collect(server.listener("warning"))
    async with connected(server) as client:
        for middleware in (None, ask):
            if middleware is not None:
                server.set_middleware("inbound", middleware)
            for channel in UNNAMED:
                with pytest.raises(AnswerError) as refused:
                    await client.call("#subscribe", {"channel": channel})
                assert refused.value.wire == refusal("subscribe", channel)
                with pytest.raises(AnswerError) as refused:
                    await client.call("#publish", {"channel": channel, "data": 1})
                assert refused.value.wire == refusal("publish", channel)
            assert asked == []
            for channel in NAMED:
                await client.call("#subscribe", {"channel": channel})
                await client.call("#publish", {"channel": channel, "data": 1})
                event = await client.event()
                assert event["data"] == {"channel": channel, "data": 1}
                await client.call("#unsubscribe", channel)
        assert asked == [
            (action, channel) for channel in NAMED for action in ("subscribe", "publishIn")
        ]
        await client.transmit("#publish", {"channel": "new", "data": 1})
        await client.transmit("#subscribe", {"channel": "new"})
        await until(lambda: len(warnings) == 4 * len(UNNAMED) + 2)
        assert await client.call("#subscribe", {"channel": "news"}) is None


async def test_the_servers_own_exchange_may_use_every_channel(
    make_server: Any, running: Running
) -> None:
    server = await make_server(channels=RULES, channels_default="refuse")
    found = running.collect(server.exchange.subscribe("inner"))
    await server.exchange.invoke_publish("inner", 1)
    await until(lambda: found == [1])


async def test_rules_alone_refuse_nothing(make_server: Any) -> None:
    server = await make_server(channels=RULES)
    async with connected(server) as client:
        await client.call("#subscribe", {"channel": "other"})
        await client.call("#publish", {"channel": "other", "data": 1})
        assert (await client.event())["data"] == {"channel": "other", "data": 1}


async def test_a_pattern_is_named_while_the_server_runs(make_server: Any) -> None:
    server = await make_server(channels_default="refuse")
    async with connected(server) as client:
        with pytest.raises(AnswerError, match="no rule or handler"):
            await client.call("#subscribe", {"channel": "room/1"})
        server.channel_policy.add(Pattern("room/{room}"))
        await client.call("#subscribe", {"channel": "room/1"})


@pytest.mark.parametrize("make_server", ["picows", "asgi"], indirect=True)
@pytest.mark.parametrize("codec", [None, MinBinCodec()], ids=["JSON", "min-bin"])
async def test_our_client_is_told(make_server: Any, make_client: Any, codec: Any) -> None:
    server = await make_server(channels=RULES, channels_default="refuse", codec_engine=codec)
    client = make_client(server, codec_engine=codec)
    channel = client.subscribe("secret")
    failed = await channel.listener("subscribeFail").once(5000)
    assert failed.error.message == refusal("subscribe", "secret")["message"]
    with pytest.raises(Exception, match="Clients cannot publish to the secret") as refused:
        await client.invoke_publish("secret", 1)
    assert refused.value.name == "InvalidActionError"  # type: ignore[attr-defined]
    await client.subscribe("room/1").listener("subscribe").once(5000)
    await client.invoke_publish("room/1", 1)


def test_a_policy_remembers_a_bounded_number_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socketcluster.server.channel_policy.REMEMBERED_CHANNELS", 2)
    matched: list[str] = []

    class Counting(Pattern):
        __slots__ = ()

        def match(self, channel: str) -> dict[str, str] | None:
            matched.append(channel)
            return super().match(channel)

    policy = ChannelPolicy()
    policy.add(Counting("room/*"))
    policy.add(Pattern("news"))
    names = ["room/1", "other", "room/1", "other", "news", "news"]
    assert [policy.names(name) for name in names] == [True, False, True, False, True, True]
    assert matched == ["room/1", "other"]
    assert policy.names("room/2")
    assert policy.names("room/1")
    assert matched == ["room/1", "other", "room/2", "room/1"]
    policy.add(Pattern("*"))
    assert policy.names("other")


def test_options() -> None:
    options = ServerOptions.from_mapping({"channels": RULES, "channelsDefault": "refuse"})
    assert options.channels == RULES
    assert options.channels_default == "refuse"
    found = options.channel_rules().find("room/7")
    assert found == (RULES[1], {"room": "7"})
    assert ChannelRule("a/*") == ChannelRule(Pattern("a/*"))
    with pytest.raises(InvalidArgumentsError, match="'a}' is no channel pattern"):
        ChannelRule("a}")


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("channels", "chat/*", "such as ChannelRule"),
        ("channels", ["chat/*"], "such as ChannelRule"),
        ("channels", ChannelRule("chat/*"), "such as ChannelRule"),
        (
            "channels",
            [ChannelRule("a"), ChannelRule("a")],
            "pattern 'a' is there twice",
        ),
        ("channels", [ChannelRule("{x}"), ChannelRule("*")], "patterns '{x}' and '\\*' match"),
        ("channels_default", "deny", "must be 'allow' or 'refuse', not 'deny'"),
        ("channels_default", None, "must be 'allow' or 'refuse'"),
    ],
)
def test_wrong_options(option: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidOptionsError, match=problem) as refused:
        AGServer(**{option: value})
    assert refused.value.option == option
