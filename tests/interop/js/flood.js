// A client that calls and publishes as fast as it can: `node flood.js CLIENT PORT COUNT`.
// It prints how many calls and publishes were answered, and whether in order.
'use strict';

const [client, port, count] = process.argv.slice(2).map((text, index) => (index ? Number(text) : text));
const socket = require(client).create({ hostname: '127.0.0.1', port, ackTimeout: 300000, multiplex: false });

(async () => {
  await socket.listener('connect').once();
  const answers = [];
  const pending = [];
  let published = 0;
  for (let number = 0; number < count; number++) {
    pending.push(socket.invoke('add', number).then((answer) => answers.push(answer)));
    pending.push(socket.invokePublish('room', number).then(() => published++));
  }
  await Promise.all(pending);
  const inOrder = answers.every((answer, index) => answer === index);
  console.log(JSON.stringify({ answers: answers.length, inOrder, published }));
  process.exit(0);
})();
