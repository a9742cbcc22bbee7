// A stock client that recovers by a getter in the data of its subscription: `node recover.js CLIENT PORT`.
// It prints each publish on 'c/1' in a line, and leaves after the value 'end'.
'use strict';

const [name, port] = process.argv.slice(2);
const library = require(name);
const old = name === 'client14';
const socket = library.create({
  hostname: '127.0.0.1',
  port: Number(port),
  path: '/socketcluster/',
  autoReconnectOptions: { initialDelay: 20, randomness: 30, multiplier: 1, maxDelay: 50 },
  multiplex: false,
});

// What the server told, and the newest publish that came since.
const known = {};
const told = (positions) => Object.assign(known, positions);
const seen = (message) => {
  if (typeof message !== 'string' || !message.startsWith('{"event":"#publish"')) return;
  const { channel, offset } = JSON.parse(message).data;
  if (known[channel]) known[channel] = { ...known[channel], offset };
};
const data = {
  get $recover() {
    return known['c/1'] || null;
  },
};

const take = (value) => {
  console.log(JSON.stringify(value));
  if (value === 'end') process.stdout.write('', () => process.exit());
};

if (old) {
  socket.on('message', seen);
  socket.on('$positions', told);
  socket.on('error', () => {});
  socket.subscribe('c/1', { data }).watch(take);
} else {
  const each = async (stream, act) => {
    for await (const value of stream) act(value);
  };
  each(socket.listener('message'), (event) => seen(event.message));
  each(socket.receiver('$positions'), told);
  each(socket.listener('error'), () => {});
  each(socket.subscribe('c/1', { data }), take);
}
