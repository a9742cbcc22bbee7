// A stock client with a session, the one line that recovery takes: `node session.js CLIENT PORT`.
// It prints each publish on 'c/1' in a line, and leaves after the value 'end'.
'use strict';

const [name, port] = process.argv.slice(2);
const library = require(name);
const socket = library.create({
  hostname: '127.0.0.1',
  port: Number(port),
  path: '/socketcluster/',
  autoReconnectOptions: { initialDelay: 20, randomness: 30, multiplier: 1, maxDelay: 50 },
  multiplex: false,
  query: { session: require('crypto').randomUUID() },
});

const take = (value) => {
  if (value === 'end') process.stdout.write('"end"\n', () => process.exit());
  else console.log(JSON.stringify(value));
};

if (name === 'client14') {
  socket.on('error', () => {});
  socket.subscribe('c/1').watch(take);
} else {
  const each = async (stream, act) => {
    for await (const value of stream) act(value);
  };
  each(socket.listener('error'), () => {});
  each(socket.subscribe('c/1'), take);
}
