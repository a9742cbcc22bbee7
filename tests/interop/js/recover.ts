// A program against recovering.d.ts, with the errors that a user must see.
import { create } from "socketcluster-client";
import { recovering, type Place } from "./recovering.js";

const socket = create({ hostname: "localhost" });
const recover = recovering(socket, (channel) => console.log(channel.toUpperCase()));
recovering(socket);
const channel = socket.subscribe("chat/1", { ...recover("chat/1"), priority: 1 });
for await (const data of channel) console.log(data);
const options = recover("chat/1", { mine: 1 });
const mine: number = options.data.mine;
const place: Place | null = options.data.$recover;
console.log(mine, place?.offset, recover("chat/1").data.$gap);
// @ts-expect-error: the channel is missing
recover();
// @ts-expect-error: the data is an object
recover("chat/1", "text");
// @ts-expect-error: it is no socket
recovering({});
// @ts-expect-error: the position is read-only
options.data.$recover = null;
