// A client that uses a channel without a rule, then one with a rule: `node rules.js CLIENT PORT`.
'use strict';

const [client, port] = process.argv.slice(2);
const socket = require(client).create({ hostname: '127.0.0.1', port: Number(port), multiplex: false });
const told = ({ name, message }) => ({ name, message });
// Version 14 has callbacks.
const next = (emitter, event) =>
  emitter.listener ? emitter.listener(event).once() : new Promise((resolve) => emitter.on(event, resolve));
const message = (channel) =>
  channel.once && channel.listener ? channel.once() : new Promise((resolve) => channel.watch(resolve));
const publish = (channel, data) =>
  socket.invokePublish
    ? socket.invokePublish(channel, data)
    : new Promise((resolve, reject) => socket.publish(channel, data, (error) => (error ? reject(error) : resolve())));

(async () => {
  const channel = socket.subscribe('secret');
  const failure = await next(channel, 'subscribeFail');
  const refused = await publish('secret', 1).catch((error) => error);
  const room = socket.subscribe('room/1');
  await next(room, 'subscribe');
  const received = message(room);
  await publish('room/1', 'Hello');
  const data = await received;
  console.log(JSON.stringify({ subscribe: told(failure.error || failure), publish: told(refused), data, state: channel.state }));
  process.exit(0);
})();
