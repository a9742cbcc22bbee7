// A client that reports how it reacts to each close of the server: `node close_codes.js MODULE PORT`.
// It writes a line of JSON for each disconnection: the code, the delay before it comes back in
// milliseconds (null if it stays away), and the names of the errors that it emitted.
'use strict';

const [moduleName, port] = process.argv.slice(2);
const { create } = require(moduleName);
const socket = create({ hostname: '127.0.0.1', port: Number(port) });
let errors = [];

function report(code) {
  // The reconnection has been scheduled; 'error' follows in this turn of the loop.
  const delay = socket.pendingReconnect ? socket.pendingReconnectTimeout : null;
  setImmediate(() => {
    console.log(JSON.stringify({ code, delay, errors }));
    errors = [];
    if (delay !== 0) {
      socket.connect(); // Without the delay, for the next close.
    }
  });
}

async function loop(stream, handle) {
  for await (const event of stream) {
    handle(event);
  }
}

if (socket.listener) {
  loop(socket.listener('error'), ({ error }) => errors.push(error.name));
  loop(socket.listener('disconnect'), ({ code }) => report(code));
} else {
  socket.on('error', (error) => errors.push(error.name));
  socket.on('disconnect', report);
}
