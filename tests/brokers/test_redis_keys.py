"""The keys of stored publishes, against the slots that a real Redis cluster computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker_servers import redis_cli, running_backend
from socketcluster.brokers.redis_keys import StoreKeys, slot_of

NAMES = (
    *("chat/1", "a", "", "é", "a b", "{", "}", "{}", "{}{a}", "{a}", "{a}b", "a{b}c", "a{{b}}c"),
    *("a}b", "a}b{c", "a}b{c}d", "a{}b", "a{}b{c}", "{{", "}}", "}{", "a{b", "{a}{b}", "{123}a}b"),
)
PREFIXES = ("sc:", "", "{app}:", "a{b:", "a}b:", "{}:", "sc!")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running_backend("redis", ("--cluster-enabled", "yes", "--cluster-port", "0")) as servers:
        yield servers.nodes[0].port


@pytest.mark.parametrize("prefix", PREFIXES)
def test_all_keys_of_a_channel_are_in_the_slot_of_its_publishes(port: int, prefix: str) -> None:
    keys = StoreKeys(prefix)
    seen: set[str] = set()
    for name in NAMES:
        made = [*keys.of_channel(name), keys.of_id(name, "1"), keys.of_id(name, "{x}")]
        lines = [f'CLUSTER KEYSLOT "{key}"' for key in (prefix + name, *made)]
        slots = [int(redis_cli(port, *line.replace('"', "").split(" ", 2))) for line in lines]
        assert slots == [slot_of(prefix + name)] * len(slots), (prefix, name)
        assert seen.isdisjoint(made)
        seen.update(made)


def test_no_id_leads_to_that_of_another_channel() -> None:
    keys = StoreKeys("")
    assert keys.of_id("{x}a", "b:1") != keys.of_id("{x}a:b", "1")
    assert keys.of_id("{x}a", "5:x:1:b") != keys.of_id("{x}a:5:x", "1:b")


def test_an_ordinary_channel_is_easy_to_find() -> None:
    keys = StoreKeys("sc:")
    assert keys.of_channel("a/1") == ("sc:history:{sc:a/1}", "sc:position:{sc:a/1}")
    assert keys.of_value("session") == "sc:kept:session"
