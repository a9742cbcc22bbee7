// A client that shows the members of a room: `node presence.js CLIENT PORT TOKEN`.
// Each line that it reads is a command: "publish" or "leave". It prints what it receives, and answers.
'use strict';

const [client, port, token] = process.argv.slice(2);
const authEngine = {
  saveToken: (name, value, options, callback) => (callback ? callback(null, value) : Promise.resolve(value)),
  removeToken: (name, callback) => (callback ? callback(null) : Promise.resolve(null)),
  loadToken: (name, callback) => (callback ? callback(null, token) : Promise.resolve(token)),
};
const socket = require(client).create({ hostname: '127.0.0.1', port: Number(port), multiplex: false, authEngine });
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n');
const isOld = !socket.listener;

const watch = (channel) => {
  if (isOld) {
    channel.watch((data) => say({ shown: data }));
    channel.on('kickOut', () => say({ kickedOut: channel.name }));
    return;
  }
  (async () => {
    for await (const data of channel) say({ shown: data });
  })();
  (async () => {
    for await (const _ of channel.listener('kickOut')) say({ kickedOut: channel.name });
  })();
};
const publish = (channel, data) =>
  isOld
    ? new Promise((resolve, reject) => socket.publish(channel, data, (error) => (error ? reject(error) : resolve())))
    : socket.invokePublish(channel, data);

watch(socket.subscribe('$presence/room/1'));
const room = socket.subscribe('room/1');
if (isOld) room.on('kickOut', () => say({ kickedOut: 'room/1' }));
else
  (async () => {
    for await (const _ of room.listener('kickOut')) say({ kickedOut: 'room/1' });
  })();

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', async (line) => {
    if (line === 'publish') {
      await publish('$presence/room/1', { state: {}, count: 0 }).catch((error) => say({ refused: error.message }));
    } else {
      process.exit(0);
    }
  });
