import type { AGClientSocket } from "socketcluster-client";

/** A place in the history of a channel, as the server tells it. */
interface Place {
  epoch: string;
  offset: number;
  since: string;
}

/** What `#publish` and the answer to `#subscribe` have, as far as it is needed here. */
interface Packet {
  event?: string;
  data?: { channel?: string; offset?: number; recovered?: boolean };
}

/** The event 'message', with each text of the server, which the client's types leave out. */
interface RawMessages {
  listener(event: "message"): AsyncIterable<{ message: string }>;
}

/**
 * Make subscriptions of a socket recover what they missed: the result makes their options.
 * `begin` is called when a subscription recovered nothing: the first one, or after too long.
 */
export function recovering(socket: AGClientSocket, begin: () => void) {
  const places = new Map<string, Place>();
  const raw = socket as unknown as RawMessages;

  async function readPositions(): Promise<void> {
    for await (const told of socket.receiver("$positions")) {
      for (const channel in told) places.set(channel, told[channel]);
    }
  }

  async function readOffsets(): Promise<void> {
    for await (const { message } of raw.listener("message")) {
      const { event, data }: Packet = message ? JSON.parse(message) : {};
      const place = event === "#publish" && places.get(data?.channel ?? "");
      if (place && data?.offset) place.offset = data.offset;
      if (!event && data?.recovered === false) begin();
    }
  }

  void readPositions();
  void readOffsets();
  return (channel: string) => {
    places.delete(channel);
    return { data: { get $recover() { return places.get(channel) ?? null; } } };
  };
}
