"""The token stores: in memory, and in a file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from socketcluster import FileTokenStore, MemoryTokenStore
from support import record, until


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=["memory", "file"])
def store(request: Any, tmp_path: Path) -> Any:
    return MemoryTokenStore() if request.param == "memory" else FileTokenStore(tmp_path / "tokens")


def test_it_keeps_tokens_by_name(store: Any) -> None:
    assert store.load_token("a") is None
    store.save_token("a", "token", {})
    store.save_token("b", "other", {})
    assert (store.load_token("a"), store.load_token("b")) == ("token", "other")
    store.save_token("a", "newer", {})
    assert store.remove_token("a") == "newer"
    assert store.remove_token("a") is None
    assert (store.load_token("a"), store.load_token("b")) == (None, "other")


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("{}")
    path.chmod(0o644)
    old = os.umask(0)
    try:
        FileTokenStore(path).save_token("a", "token", {})
    finally:
        os.umask(old)
    assert mode(path) == 0o600
    assert json.loads(path.read_text()) == {"a": "token"}


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    store = FileTokenStore(str(path))
    store.save_token("a", "old", {})
    with path.open() as reader:
        store.save_token("a", "new", {})
        assert json.load(reader) == {"a": "old"}
    assert FileTokenStore(path).load_token("a") == "new"
    assert os.listdir(tmp_path) == ["tokens"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens"
    store = FileTokenStore(path)
    store.save_token("a", "old", {})

    def fail(*_: Any) -> None:
        raise OSError("No space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        store.save_token("a", "new", {})
    assert store.load_token("a") == "old"
    assert os.listdir(tmp_path) == ["tokens"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a":5}', "\xff", "null", '{"a":' * 100_000])
def test_a_broken_file_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text, "latin-1")
    store = FileTokenStore(path)
    with pytest.raises(ValueError, match="tokens"):
        store.load_token("a")
    with pytest.raises(ValueError, match="tokens"):
        store.remove_token("a")
    with pytest.raises(ValueError, match="tokens"):
        store.save_token("a", "b", {})
    assert path.read_text("latin-1") == text


async def test_a_broken_file_fails_the_handshake(
    make_server: Any, make_client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    path.write_text("{")
    client = make_client(await make_server(), auth_engine=FileTokenStore(path))
    found = record(client)
    event = await client.listener("connectAbort").once(4000)
    assert event.code == 4003
    await until(lambda: any(name == "error" for name, _ in found))
    errors = [event.error for name, event in found if name == "error"]
    assert isinstance(errors[0], ValueError)
    assert client.pending_reconnect


async def test_a_file_store_keeps_a_login_for_the_next_client(
    make_server: Any, make_client: Any, running: Any, tmp_path: Path
) -> None:
    server = await make_server()

    async def login(socket: Any) -> None:
        async for request in socket.procedure("login"):
            await socket.set_auth_token({"name": request.data})
            request.end()

    running.on_connection(server, login)
    store = tmp_path / "tokens"
    first = make_client(server, auth_engine=FileTokenStore(store))
    await first.invoke("login", "bob")
    await until(lambda: store.exists())
    assert mode(store) == 0o600
    second = make_client(server, auth_engine=FileTokenStore(store))
    event = await second.listener("connect").once(4000)
    assert event.is_authenticated
    assert second.auth_token["name"] == "bob"
    removed = second.listener("removeAuthToken").create_consumer()
    token = second.signed_auth_token
    await second.deauthenticate()
    assert (await removed.next(4000)).value.old_auth_token == token
    assert FileTokenStore(store).load_token(second.auth_token_name) is None
