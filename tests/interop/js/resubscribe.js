// A client that subscribes to many channels in one batch, twice: `node resubscribe.js PORT COUNT`.
// Its second connection finds it with all the channels of the first.
'use strict';

const [port, count] = process.argv.slice(2);
const { create } = require('client20');
const socket = create({
  hostname: '127.0.0.1',
  port: Number(port),
  multiplex: false,
  batchOnHandshake: true,
  batchOnHandshakeDuration: 400,
  autoReconnectOptions: { initialDelay: 10, randomness: 0 },
});
let subscribed = 0;
let connected = 0;

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');

for (const event of ['error', 'disconnect', 'connectAbort']) {
  (async () => {
    for await (const { code, error } of socket.listener(event)) say({ event, code, error: error && error.message });
  })();
}
(async () => {
  for await (const _ of socket.listener('connect')) connected++;
})();
(async () => {
  for await (const _ of socket.listener('subscribe')) {
    subscribed++;
    if (subscribed === Number(count)) {
      say({ connected, subscribed });
      subscribed = 0;
      if (connected === 1) socket.reconnect();
      else process.exit(0);
    }
  }
})();
for (let number = 0; number < Number(count); number++) socket.subscribe(`channel ${number}`);
