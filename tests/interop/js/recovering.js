// A stock client with recovering.js: `node recovering.js CLIENT PORT FILE [PREFIX]`, for a module or a classic script.
// It prints each publish on 'c/1' and each lost channel in a line, and leaves after the value 'end'.
'use strict';

const [name, port, file, prefix] = process.argv.slice(2);
const library = require(name);

const load = async () => (file.endsWith('.mjs') ? import(file) : require(file));

load().then(({ recovering }) => {
  const socket = library.create({
    hostname: '127.0.0.1',
    port: Number(port),
    path: '/socketcluster/',
    autoReconnectOptions: { initialDelay: 20, randomness: 30, multiplier: 1, maxDelay: 50 },
    multiplex: false,
    channelPrefix: prefix || null,
    codecEngine: process.env.CODEC ? require(process.env.CODEC) : undefined,
  });
  const print = (value) => console.log(JSON.stringify(value));
  const take = (value) => {
    print(value);
    if (value === 'end') process.stdout.write('', () => process.exit());
  };
  const recover = recovering(socket, (channel) => print({ lost: channel }));
  const options = recover('c/1', { mine: 1 });
  const channel = socket.subscribe('c/1'.slice((prefix || '').length), options);
  if (name === 'client14') {
    socket.on('error', () => {});
    channel.watch(take);
  } else {
    (async () => { for await (const _ of socket.listener('error'));  })();
    (async () => { for await (const value of channel) take(value);  })();
  }
});
