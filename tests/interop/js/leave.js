// Clients that say something and leave at once: `node leave.js MODULE PORT COUNT [early]`.
// With `early` they do not even wait for their connection.
'use strict';

const [moduleName, port, count, early] = process.argv.slice(2);
const { create } = require(moduleName);
const options = { hostname: '127.0.0.1', port: Number(port), autoReconnect: false };

function say(socket, number) {
  if (socket.transmitPublish) {
    socket.transmitPublish('room', number);
    socket.transmit('note', number);
  } else {
    socket.publish('room', number);
    socket.emit('note', number);
  }
}

for (let number = 0; number < Number(count); number++) {
  const socket = create({ ...options, multiplex: false });
  const leave = () => {
    say(socket, number);
    socket.disconnect();
  };
  if (socket.listener) {
    (async () => {
      for await (const _ of socket.listener('error'));
    })();
    if (early) {
      say(socket, number);
      socket.listener('connect').once().then(() => socket.disconnect());
    } else {
      socket.listener('connect').once().then(leave);
    }
  } else {
    socket.on('error', () => {});
    if (early) {
      say(socket, number);
      // It sends what it has kept after this event.
      socket.on('connect', () => setImmediate(() => socket.disconnect()));
    } else {
      socket.on('connect', leave);
    }
  }
}
