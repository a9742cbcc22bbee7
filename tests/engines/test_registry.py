"""The ws_engine option, and the asgi engine in place of picows where that cannot be used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import picows.picows
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from socketcluster import AGServer
from socketcluster.engines import picows_parser
from socketcluster.engines.asgi import AsgiEngine
from socketcluster.engines.picows import PicowsEngine
from socketcluster.engines.registry import resolve_engine
from socketcluster.errors import InvalidOptionsError
from support import Running, connected


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    """The parser's check runs once in a process: let it run again."""
    picows_parser._try_parser.cache_clear()
    yield
    picows_parser._try_parser.cache_clear()


def import_again(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.delitem(sys.modules, f"socketcluster.engines.{module}")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def without_parser(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delattr(picows.picows, "WSProtocol")
    import_again(monkeypatch, "picows_parser", "frame_reader", "picows")
    return "has no picows.picows.WSProtocol"


def other_arguments(monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(*args: Any) -> None:
        raise TypeError("__init__() takes exactly 12 positional arguments")

    monkeypatch.setattr(picows_parser, "_WSProtocol", refuse)
    return "takes exactly 12 positional arguments"


def other_results(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(picows_parser, "_MASKED_A", picows_parser._MASKED_A * 2)
    return "parses frames differently"


def without_http(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    import_again(monkeypatch, "uvicorn_limits", "uvicorn_http", "picows")
    return "has no HttpToolsProtocol._start_asgi_task"


WAYS = [without_parser, other_arguments, other_results, without_http]


@pytest.mark.parametrize("way", WAYS)
def test_asgi_takes_the_place_of_picows(
    way: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = way(monkeypatch)
    assert isinstance(resolve_engine("picows", {}), AsgiEngine)
    (warning,) = warnings(caplog)
    assert warning.startswith("The picows engine is not available")
    assert reason in warning


@pytest.mark.parametrize("way", WAYS)
async def test_a_server_works_without_picows(
    way: Any,
    make_server: Any,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    way(monkeypatch)
    server: AGServer = await make_server()
    running.procedure(server, "add")
    async with connected(server) as client:
        assert await client.call("add", 1) == 1
    without_limits = [w for w in warnings(caplog) if "without limits" in w]
    assert len(without_limits) == (way is without_http)


async def test_picows_is_used_where_it_works(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(resolve_engine("picows", {}), PicowsEngine)
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "engine", ["nothing", "no.such.module:x", "socketcluster:nothing", 5, "json:loads"]
)
def test_wrong_engines_are_refused(engine: Any) -> None:
    with pytest.raises(InvalidOptionsError, match="ws_engine") as refused:
        AGServer(ws_engine=engine)
    assert refused.value.option == "ws_engine"


def test_engine_by_path_object_and_options() -> None:
    path = "socketcluster.engines.asgi:AsgiEngine"
    assert type(AGServer(ws_engine=path).engine).__name__ == "AsgiEngine"
    engine = resolve_engine("asgi", {})
    assert AGServer(ws_engine=engine).engine is engine
    with pytest.raises(InvalidOptionsError, match="ws_engine_server_options"):
        AGServer(ws_engine_server_options={"nonsense": 1})
