"""An AsyncAPI 3.1 document of a server.

A message's payload is the data that a handler takes or gives. Its headers are the other fields of
the packet that carries it; the message traits describe the packets once.

Source: AsyncAPI specification 3.1.0; SocketCluster protocol 2, "Packets".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain, count
from typing import Any
from urllib.parse import urlsplit

from socketcluster.describe.api import PARAMETER, Api, Channel, Event, Procedure, is_rest
from socketcluster.describe.schemas import Schema

Document = dict[str, Any]

_NUMBER: Schema = {"type": "integer", "minimum": 1}
_TOKEN = (
    "A JSON Web Token. It is not sent as an HTTP header: the client sends it as `authToken` in the "
    "data of `#handshake`, or later with `#authenticate`, and stores the one that the server sends "
    "with `#setAuthToken`. Without one the socket is connected, but not authenticated."
)
_ERROR: Schema = {
    "description": "An error as it is sent to a client.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Its kind, such as `InvalidArgumentsError`."},
        "message": {"type": "string"},
    },
    "required": ["name", "message"],
}
_TAGS = {
    "procedure": "Calls that the server answers.",
    "event": "Events that clients transmit; nothing is answered.",
    "channel": "Topics that clients subscribe to.",
}


def asyncapi_document(
    api: Api, *, title: str, version: str, description: str = "", url: str | None = None
) -> Document:
    """Make the document.

    `url` is the address that clients connect to, "wss://chat.example.com/socketcluster/"; without
    one the document names no server.
    """
    info = {
        "title": title,
        "version": version,
        **({"description": description} if description else {}),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
    }
    document: Document = {"asyncapi": "3.1.0", "info": info}
    if url is not None:
        document["servers"] = servers(url)
    document |= {"defaultContentType": "application/json", "channels": {}, "operations": {}}
    for procedure in api.procedures:
        _add_procedure(document, procedure)
    for event in api.events:
        _add_event(document, event)
    for channel in api.channels:
        _add_channel(document, channel)
    document["components"] = _components(api)
    return document


def servers(url: str) -> Document:
    """The `servers` of a document, for the one that clients connect to."""
    parts = urlsplit(url)
    return {
        "main": {
            "host": parts.netloc,
            "protocol": parts.scheme,
            "pathname": parts.path or "/",
            "description": "SocketCluster protocol 2 over WebSocket.",
            "security": [{"$ref": "#/components/securitySchemes/token"}],
        }
    }


def _add_procedure(document: Document, procedure: Procedure) -> None:
    name = _free_name(document, "call", procedure.name)
    document["channels"][name] = {
        "address": procedure.name,
        "messages": {
            "call": _message(f"Call of {procedure.name}", procedure.data, "call"),
            "answer": _message(f"Answer of {procedure.name}", procedure.returns, "answer"),
            "error": {"$ref": "#/components/messages/error"},
        },
        "tags": [{"name": "procedure"}],
    }
    document["operations"][name] = {
        **_operation("receive", name, ["call"], procedure.doc, "procedure"),
        "reply": {
            "channel": _reference("channels", name),
            "messages": _messages(name, ["answer", "error"]),
        },
    }


def _add_event(document: Document, event: Event) -> None:
    name = _free_name(document, "event", event.name)
    document["channels"][name] = {
        "address": event.name,
        "messages": {"event": _message(f"Event {event.name}", event.data, "event")},
        "tags": [{"name": "event"}],
    }
    document["operations"][name] = _operation("receive", name, ["event"], event.doc, "event")


def _add_channel(document: Document, channel: Channel) -> None:
    name = _free_name(document, "channel", channel.pattern)
    address, parameters = _address(channel.pattern)
    messages = {"message": _message(f"Message of {channel.pattern}", channel.message, "message")}
    if channel.can_publish:
        messages["publish"] = _message(f"Publish to {channel.pattern}", channel.publish, "publish")
    made: Document = {"address": address, "messages": messages, "tags": [{"name": "channel"}]}
    if parameters:
        made["parameters"] = parameters
    document["channels"][name] = made
    for action, message in (("send", "message"), ("receive", "publish")):
        if message in messages:
            document["operations"][f"{message}_{name.removeprefix('channel_')}"] = _operation(
                action, name, [message], channel.doc, "channel"
            )


def _address(pattern: str) -> tuple[str, Document]:
    """A pattern as an AsyncAPI address, and its parameters."""
    parameters: Document = {}

    def replace(match: re.Match[str]) -> str:
        whole = is_rest(match)
        # Other characters may be in a name in Python, but not here.
        name = re.sub(r"\W", "_", match["name"] or ("rest" if whole else "segment"), flags=re.ASCII)
        free = next(n for n in (name, *(f"{name}{i}" for i in range(2, 99))) if n not in parameters)
        described = "The rest of the name, with every '/'." if whole else "One part, without '/'."
        parameters[free] = {"description": described}
        return f"{{{free}}}"

    return PARAMETER.sub(replace, pattern), parameters


def _message(title: str, payload: Schema | None, trait: str) -> Document:
    message: Document = {
        "title": title,
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
    }
    if payload is not None:
        message["payload"] = payload
    return message


def _operation(action: str, channel: str, messages: Iterable[str], doc: str, tag: str) -> Document:
    operation: Document = {"action": action, "channel": _reference("channels", channel)}
    if doc:
        operation |= {"summary": doc.splitlines()[0], "description": doc}
    return {**operation, "messages": _messages(channel, messages), "tags": [{"name": tag}]}


def _messages(channel: str, names: Iterable[str]) -> list[Document]:
    return [_reference("channels", channel, "messages", name) for name in names]


def _reference(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}


def _free_name(document: Document, kind: str, text: str) -> str:
    """A key for a channel, which many tools also use as the name of a function."""
    name = f"{kind}_{re.sub(r'[^A-Za-z0-9]+', '_', text).strip('_')}".rstrip("_")
    used = document["channels"]
    numbered = (f"{name}_{number}" for number in count(2))
    return next(each for each in chain((name,), numbered) if each not in used)


def _components(api: Api) -> Document:
    return {
        "schemas": api.schemas,
        "messages": {
            "error": {
                "title": "Error answer",
                "traits": [{"$ref": "#/components/messageTraits/error"}],
                "payload": _ERROR,
            }
        },
        "messageTraits": {
            "call": _packet(
                '{"event": NAME, "data": PAYLOAD, "cid": NUMBER}',
                {"event": {"type": "string"}, "cid": _NUMBER},
                correlation="cid",
            ),
            "event": _packet('{"event": NAME, "data": PAYLOAD}', {"event": {"type": "string"}}),
            "answer": _packet(
                '{"rid": NUMBER, "data": PAYLOAD}', {"rid": _NUMBER}, correlation="rid"
            ),
            "error": _packet(
                '{"rid": NUMBER, "error": PAYLOAD}', {"rid": _NUMBER}, correlation="rid"
            ),
            "publish": _packet(
                '{"event": "#publish", "data": {"channel": NAME, "data": PAYLOAD}, "cid": NUMBER}',
                {"event": {"const": "#publish"}, "channel": {"type": "string"}, "cid": _NUMBER},
                correlation="cid",
            ),
            "message": _packet(
                '{"event": "#publish", "data": {"channel": NAME, "data": PAYLOAD}}',
                {"event": {"const": "#publish"}, "channel": {"type": "string"}},
            ),
        },
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": _TOKEN,
            }
        },
    }


def _packet(form: str, headers: dict[str, Schema], *, correlation: str | None = None) -> Document:
    """A trait: the packet that carries a message, and its fields beside the payload."""
    packet: Document = {
        "description": f"As a packet: `{form}`",
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
    }
    if correlation is not None:
        packet["correlationId"] = {
            "description": "An answer has its call's `cid` as `rid`.",
            "location": f"$message.header#/{correlation}",
        }
    return packet
