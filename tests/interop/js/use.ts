// A program against the declarations of tests/describe/sample.py, with the errors that a user must see.
import { create } from "socketcluster-client";
import { typed, type ChannelOf } from "./api.js";

const api = typed(create({ hostname: "localhost" }));

export async function use(id: number, anyName: string): Promise<void> {
  const sum: number = await api.invoke("add", { a: 1 });
  await api.invoke("add", { a: 1, b: sum });
  // @ts-expect-error: a is a number
  await api.invoke("add", { a: "1" });
  // @ts-expect-error: a is missing
  await api.invoke("add", {});
  // @ts-expect-error: c is unknown
  await api.invoke("add", { a: 1, c: 2 });
  // @ts-expect-error: data is missing
  await api.invoke("add");
  // @ts-expect-error: no such procedure
  await api.invoke("ad", { a: 1 });
  // @ts-expect-error: the answer is a number
  const text: string = await api.invoke("add", { a: 1 });
  await api.invoke("ping");
  // @ts-expect-error: it takes no data
  await api.invoke("ping", 1);
  await api.invoke("history");
  const page = await api.invoke("history", { kind: "text" });
  for (const item of page.items) {
    if (item.type === "picture") console.log(item.size[0], item.content.data);
    // @ts-expect-error: only a text has it
    else console.log(item.size);
  }
  // @ts-expect-error: no such kind
  await api.invoke("history", { kind: "film" });
  const rows = await api.invoke("admin/rows");
  const [name, value] = rows[0]!;
  console.log(name.length, value?.toFixed());
  await api.invoke("admin/tree", { value: 1, children: [{ value: 2 }] });
  // @ts-expect-error: a leaf without its value
  await api.invoke("admin/tree", { value: 1, children: [{ children: [] }] });

  await api.transmit("position", [1, 2]);
  await api.transmit("wake-up");
  // @ts-expect-error: two numbers
  await api.transmit("position", [1]);
  // @ts-expect-error: no such event
  await api.transmit("positions", [1, 2]);

  const room = api.subscribe(`room/${id}`);
  for await (const message of room) {
    if (message.type === "text") console.log(message.text);
    // @ts-expect-error: it is a message
    const number: number = message;
    console.log(number);
    break;
  }
  console.log(room.official.name, room.official.state);
  for await (const { state, leave = [], count } of api.subscribe(`$presence/room/${id}`)) {
    console.log(Object.keys(state ?? {}), leave.join(), count + 1);
  }
  // @ts-expect-error: only the server publishes it
  await api.publish("$presence/room/1", { count: 1 });
  // @ts-expect-error: no such channel
  api.subscribe("$presence/room/lobby/1");
  api.subscribe("news", { data: { get $recover() { return null; } } });
  for await (const line of api.subscribe("room/lobby")) console.log(line.toUpperCase());
  const file: ChannelOf<"files/a/b/c"> = { message: "red", publish: "blue" };
  console.log(file, text);
  await api.publish("room/1", { type: "text", text: "Hello" });
  await api.publish("user/7/typing", true);
  await api.publish("seats/b", 7);
  // @ts-expect-error: a seat's number is published
  await api.publish("seats/b", ["Ada"]);
  for await (const [name] of api.subscribe("seats/b")) console.log(name.length);
  await api.publish(`room/${id}`, { type: "text", text: "Hello" });
  // @ts-expect-error: a text has no size
  await api.publish("room/1", { type: "text", size: [1, 1] });
  // @ts-expect-error: a room's name has no slash
  await api.publish("room/1/2", { type: "text", text: "Hello" });
  // @ts-expect-error: clients may not publish to it
  await api.publish("news", "Hello");
  // @ts-expect-error: no such channel
  api.subscribe("rooms/1");
  // @ts-expect-error: a room's name has no slash
  api.subscribe("room/1/2");
  // @ts-expect-error: not every string is a channel
  api.subscribe(anyName);
  api.socket.disconnect();
}
