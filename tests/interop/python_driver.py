"""Runs the scenarios with PyPI's socketclusterclient: python_driver.py PORT.

Prints one JSON line per scenario: {"scenario", "ok", "detail"}; `ok` is null for what the client
cannot do.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from socketclusterclient import Socketcluster

WAIT = 5


class Transport(websocket.WebSocket):  # type: ignore[misc]
    """The client's transport, which would not tell why it was closed."""

    close_frame = b""

    def recv_data_frame(self, control_frame: bool = False) -> Any:
        opcode, frame = super().recv_data_frame(control_frame)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self.close_frame = frame.data
        return opcode, frame


websocket._app.WebSocket = Transport


class Client:
    """One connection, run in a thread, with queues of what it hears."""

    def __init__(self, port: str) -> None:
        self.heard: dict[str, queue.Queue[Any]] = {}
        self.socket: Any = Socketcluster.socket(f"ws://127.0.0.1:{port}/socketcluster/")
        self.socket.setBasicListener(
            lambda _: None,
            lambda _: None,
            lambda _, error: self._hear("error", error),
        )
        self.socket.setAuthenticationListener(
            lambda _, signed: self._set_token(signed),
            lambda _, authenticated: self._hear("connect", authenticated),
        )
        # It registers a call only after it has sent it: a fast answer must wait for that.
        self._calling = threading.Lock()
        receive = self.socket.on_message
        self.socket.on_message = lambda *message: self._receive(receive, *message)
        close = self.socket.on_close

        def closed(ws: Any) -> None:
            data = ws.sock.close_frame
            self._hear("close", (int.from_bytes(data[:2], "big"), data[2:].decode()))
            close(ws)

        self.socket.on_close = closed
        threading.Thread(target=self.socket.connect, daemon=True).start()
        self.wait("connect")

    def _set_token(self, signed: str) -> None:
        self.socket.setAuthtoken(signed)
        self._hear("token", signed)

    def _receive(self, receive: Callable[..., None], *message: Any) -> None:
        with self._calling:
            pass
        receive(*message)

    def _hear(self, name: str, value: Any) -> None:
        self.heard.setdefault(name, queue.Queue()).put(value)

    def wait(self, name: str) -> Any:
        return self.heard.setdefault(name, queue.Queue()).get(timeout=WAIT)

    def listen(self, event: str) -> None:
        self.socket.on(event, lambda _, data: self._hear(event, data))

    def call(self, event: str, data: Any = None) -> Any:
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        with self._calling:
            self.socket.emitack(event, data, lambda _, error, answer: answers.put((error, answer)))
        error, answer = answers.get(timeout=WAIT)
        if error:
            raise RuntimeError(error["name"], error["message"])
        return answer

    def acknowledged(self, method: Callable[..., None], *arguments: Any) -> None:
        answers: queue.Queue[Any] = queue.Queue()
        with self._calling:
            method(*arguments, lambda _, error, __: answers.put(error))
        error = answers.get(timeout=WAIT)
        assert not error, error


State = dict[str, Any]


def connect(state: State) -> None:
    state["a"], state["b"] = Client(sys.argv[1]), Client(sys.argv[1])
    assert state["a"].socket.id != state["b"].socket.id


def invoke(state: State) -> None:
    for data in ("text", 5, [1, 2], {"x": "é"}):
        assert state["a"].call("echo", data) == data


def invoke_with_error(state: State) -> None:
    for event, expected in (("fail", "OddError"), ("nobody", "UnknownProcedureError")):
        with pytest.raises(RuntimeError) as raised:
            state["a"].call(event, "why")
        assert raised.value.args[0] == expected


def transmit(state: State) -> None:
    a = state["a"]
    a.listen("noted")
    a.socket.emit("note", {"n": 1})
    assert a.wait("noted") == {"n": 1}


def server_invokes(state: State) -> None:
    a = state["a"]
    a.socket.onack("double", lambda _, data, answer: answer(None, data * 2))
    assert a.call("call me back", 21) == 42


def login(state: State) -> None:
    a = state["a"]
    a.call("login", {"name": "bob"})
    assert a.wait("token").count(".") == 2
    assert a.call("who")["name"] == "bob"


def reconnect(state: State) -> None:
    a = state["a"]
    a.socket.setreconnection(True)
    a.socket.setdelay(0)
    a.socket.emit("disconnect me", 4100)
    assert a.wait("close") == (4100, "Enough")
    assert a.wait("connect") is True
    assert a.call("who")["name"] == "bob"
    a.socket.setreconnection(False)


def subscribe(state: State) -> None:
    for name in "ab":
        client = state[name]
        client.socket.onchannel("room", lambda _, data, client=client: client._hear("room", data))
        client.acknowledged(client.socket.subscribeack, "room")


def publish(state: State) -> None:
    a, b = state["a"], state["b"]
    b.acknowledged(b.socket.publishack, "room", {"text": "hi"})
    assert a.wait("room") == b.wait("room") == {"text": "hi"}
    a.call("publish for me", "from the server")
    assert b.wait("room") == a.wait("room") == "from the server"
    assert a.call("what was published") == [{"text": "hi"}, "from the server"]


def kick_out(state: State) -> None:
    b = state["b"]
    b.listen("#kickOut")
    b.call("kick me", "room")
    assert b.wait("#kickOut") == {"channel": "room", "message": "Out"}
    assert b.call("my channels") == []


def unsubscribe(state: State) -> None:
    a = state["a"]
    a.acknowledged(a.socket.unsubscribeack, "room")
    assert a.call("my channels") == []


def pings(state: State) -> None:
    assert state["a"].call("wait for pings", 6) == "still here"


def deauthenticate(state: State) -> None:
    a = state["a"]
    a.call("logout")
    assert a.socket.getAuthtoken() is None
    assert not a.call("who")


def disconnect(state: State) -> None:
    state["a"].socket.emit("disconnect me", 4501)
    assert state["a"].wait("close") == (4501, "Enough")


SCENARIOS: dict[str, Callable[[State], None] | str] = {
    "connect": connect,
    "invoke": invoke,
    "invoke with error": invoke_with_error,
    "transmit": transmit,
    "server invokes": server_invokes,
    "login": login,
    "reconnect with token": reconnect,
    "subscribe": subscribe,
    "publish both ways": publish,
    "kick-out": kick_out,
    "unsubscribe": unsubscribe,
    "batching": "the client has no way to send a batch and cannot read one",
    "ping and pong": pings,
    "deauthenticate": deauthenticate,
    "disconnect by the server": disconnect,
}


def main() -> None:
    state: State = {}
    for scenario, run in SCENARIOS.items():
        ok: bool | None = True
        detail = ""
        if isinstance(run, str):
            ok, detail = None, run
        else:
            try:
                run(state)
            except Exception:
                ok, detail = False, traceback.format_exc()
        print(json.dumps({"scenario": scenario, "ok": ok, "detail": detail}), flush=True)


if __name__ == "__main__":
    main()
