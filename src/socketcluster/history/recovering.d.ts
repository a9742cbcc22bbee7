/** The official SocketCluster client, version 14 to 20. */
export interface RecoverableSocket {
  decode(message: any): any;
}

/** The newest publish of a channel that the page has received. */
export interface Place {
  epoch: string;
  offset: number;
  since: string;
}

/** The options of a subscription that recovers; others can be added beside `data`. */
export interface RecoverOptions<T> {
  data: T & { readonly $gap: true; readonly $recover: Place | null };
}

/**
 * Follows how much of each channel a socket receives. Call it once, before the first subscription.
 *
 * It returns a function that makes the options of a subscription: `socket.subscribe(name, recover(name))`. `data` is
 * what the page itself sends with the subscription. With the option channelPrefix, `name` there has the prefix.
 *
 * `onLost(channel)` is called when publishes may be missing: they are no longer stored, or they were too many.
 */
export function recovering(
  socket: RecoverableSocket,
  onLost?: (channel: string) => void,
): <T extends object = {}>(channel: string, data?: T) => RecoverOptions<T>;
