'use strict';
// One client behind the typed wrapper: node typed.js MODULE PORT WRAPPER
const [module_, port, wrapper] = process.argv.slice(2);
const client = require(module_);

(async () => {
  const { typed } = await import(wrapper);
  const options = { hostname: '127.0.0.1', port: Number(port), path: '/socketcluster/', autoReconnect: false, multiplex: false };
  const api = typed(client.create(options));
  const results = {};
  results.answer = await api.invoke('echo', { a: [1, null] });
  results.error = await api.invoke('fail', 'odd').then(() => null, ({ name, message }) => ({ name, message }));
  const noted = api.socket.receiver ? api.socket.receiver('noted').once() : new Promise((resolve) => api.socket.on('noted', resolve));
  await api.transmit('note', 'hello');
  results.noted = await noted;
  const room = api.subscribe('room');
  await (api.socket.listener ? room.official.listener('subscribe').once() : new Promise((resolve) => room.official.on('subscribe', resolve)));
  const messages = [];
  const loop = (async () => {
    for await (const message of room) {
      messages.push(message);
      if (messages.length === 3) break;
    }
  })();
  for (const message of ['one', { two: 2 }, null]) await api.publish('room', message);
  await loop;
  results.messages = messages;
  room.unsubscribe();
  results.channels = await api.invoke('my channels');
  console.log(JSON.stringify(results));
  api.socket.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
