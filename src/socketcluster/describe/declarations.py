"""The declarations of a server's API for the official JavaScript client: the text of `api.d.ts`.

The module that they describe is `typed.js`, which is the same for every server.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files

from socketcluster.describe.api import PARAMETER, Api, Channel, Event, Procedure, is_rest
from socketcluster.describe.schemas import Schema
from socketcluster.describe.typescript import declaration, doc_comment, key_of, type_of

_HEAD = (
    "// Made by `socketcluster types`; changes are overwritten. The code of typed() is api.js.\n"
)

_TAIL = """\
/** Data that may be left out if the handler accepts null. */
export type Arguments<Data> = [Data] extends [undefined]
  ? []
  : undefined extends Data
    ? [data?: Data]
    : [data: Data];

/** The part of the official client that typed() needs, of version 14 to 20. */
export interface ClientSocket {
  subscribe(channel: string, options?: SubscribeOptions): unknown;
}

/** Options of the official client's `subscribe`; a handler receives `data`. */
export interface SubscribeOptions {
  data?: unknown;
  waitForAuth?: boolean;
  batch?: boolean;
}

/** A subscribed channel. A loop over it receives the messages from then on. */
export interface ApiChannel<Message, Official = unknown, Name extends string = string>
  extends AsyncIterable<Message> {
  readonly name: Name;
  /** The channel of the official client, for its states and events. */
  readonly official: Official;
  unsubscribe(): void;
}

export interface Api<Socket extends ClientSocket = ClientSocket> {
  /** The socket of the official client. */
  readonly socket: Socket;
  /** Call a procedure. A refused call rejects with the server's error. */
  invoke<Name extends keyof Procedures>(
    name: Name,
    ...data: Arguments<Procedures[Name]["data"]>
  ): Promise<Procedures[Name]["returns"]>;
  /** Send an event, without an answer. */
  transmit<Name extends keyof Events>(name: Name, ...data: Arguments<Events[Name]>): Promise<void>;
  /** Subscribe to a channel, and loop over its messages. */
  subscribe<const Name extends ChannelName>(
    name: Name & Matching<Name>,
    options?: SubscribeOptions,
  ): ApiChannel<ChannelOf<Name>["message"], ReturnType<Socket["subscribe"]>, Name>;
  /** Publish to a channel. The promise resolves when the server has accepted the message. */
  publish<const Name extends PublishName>(
    name: Name & Matching<Name>,
    data: ChannelOf<Name>["publish"],
  ): Promise<void>;
}

/** A socket of the official client, with the types of this server's handlers. */
export function typed<Socket extends ClientSocket>(socket: Socket): Api<Socket>;
"""


def declarations(api: Api) -> str:
    """The text of `api.d.ts`."""
    parts = [_HEAD, *(declaration(name, schema) for name, schema in api.schemas.items())]
    parts += [_procedures(api), _events(api), _channels(api)]
    return "\n".join([*parts, _TAIL])


def wrapper() -> str:
    """The text of `api.js`, the code behind the declarations."""
    return files("socketcluster.describe").joinpath("typed.js").read_text()


def _procedures(api: Api) -> str:
    entries = [
        f"{doc_comment(found.doc.splitlines(), '  ')}  {key_of(found.name)}: "
        f"{{ data: {_data(found)}; returns: {_answer(found.returns)} }};\n"
        for found in api.procedures
    ]
    return f"/** The procedures of the server, by name. */\n{_interface('Procedures', entries)}"


def _events(api: Api) -> str:
    entries = [
        f"{doc_comment(found.doc.splitlines(), '  ')}  {key_of(found.name)}: {_data(found)};\n"
        for found in api.events
    ]
    return f"/** The events that the server receives, by name. */\n{_interface('Events', entries)}"


def _channels(api: Api) -> str:
    entries = [
        f"{doc_comment(found.doc.splitlines(), '  ')}  {key_of(found.pattern)}: "
        f"{{ message: {_message(found.message)}; publish: {_publish(found)} }};\n"
        for found in api.channels
    ]
    names = [_template(found.pattern) for found in api.channels]
    publishable = [_template(found.pattern) for found in api.channels if found.can_publish]
    choices = "".join(
        f"    : Path<Name> extends {_path(found.pattern)}\n"
        f"      ? Channels[{json.dumps(found.pattern)}]\n"
        for found in sorted(api.channels, key=lambda channel: channel.specificity, reverse=True)
    ).removeprefix("    : ")
    first = f"    {choices}    : never" if choices else "    never"
    return (
        "/** The channels of the server, by pattern. */\n"
        f"{_interface('Channels', entries)}\n"
        f"/** The channels' names. */\nexport type ChannelName = {_alternatives(names)};\n\n"
        "/** The names of those that clients may publish to. */\n"
        f"export type PublishName = {_alternatives(publishable)};\n\n"
        "type Path<Name extends string> = Name extends `${infer First}/${infer Rest}`\n"
        "  ? [First, ...Path<Rest>]\n  : [Name];\n\n"
        "/** The entry in Channels of a name: that of the most specific pattern. */\n"
        "export type ChannelOf<Name extends string> = Name extends unknown\n"
        f"  ? {first.lstrip()}\n  : never;\n\n"
        "type Matching<Name extends string> =\n"
        "  [ChannelOf<Name>] extends [never] ? never : unknown;\n"
    )


def _interface(name: str, entries: list[str]) -> str:
    return f"export interface {name} {{\n{''.join(entries)}}}\n"


def _data(found: Procedure | Event) -> str:
    if found.data is None:
        return "undefined"
    text = type_of(found.data, "  ")
    return f"{text} | undefined" if found.is_optional and text != "unknown" else text


def _answer(schema: Schema | None) -> str:
    return "void" if schema is None else type_of(schema, "  ")


def _message(schema: Schema | None) -> str:
    return "unknown" if schema is None else type_of(schema, "  ")


def _publish(channel: Channel) -> str:
    return _message(channel.publish) if channel.can_publish else "never"


def _alternatives(names: list[str]) -> str:
    return " | ".join(names) or "never"


def _template(text: str) -> str:
    """A pattern, or a part of one, as a type of the names that match."""
    if PARAMETER.search(text) is None:
        return json.dumps(text)
    plain = re.sub(r"[`\\]|\$\{", r"\\\g<0>", PARAMETER.sub("\0", text))
    return "`" + plain.replace("\0", "${string}") + "`" if plain != "\0" else "string"


def _path(pattern: str) -> str:
    """A pattern as a tuple of its parts between the slashes."""
    parts: list[str] = []
    for part in pattern.split("/"):
        parameters = list(PARAMETER.finditer(part))
        whole = bool(parameters) and is_rest(parameters[-1])
        parts += [_template(part), "...string[]"] if whole else [_template(part)]
    return f"[{', '.join(parts)}]"
