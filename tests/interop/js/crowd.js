// A crowd of clients that call all the time: `node crowd.js MODULE PORT COUNT PAUSE`.
// Prints "connected" once all are, and at the end of its input one line of JSON with what they noticed.
'use strict';

const [moduleName, port, count, pause] = process.argv.slice(2);
const { create } = require(moduleName);
const options = { hostname: '127.0.0.1', port: Number(port), multiplex: false };

const noticed = { moves: [], away: [], refused: 0, calls: 0, repeated: 0, wrong: 0, pids: [] };
let running = true;
let connected = 0;

async function watch(socket, number) {
  let left = null;
  noticed.moves[number] = 0;
  (async () => {
    for await (const _ of socket.listener('disconnect')) {
      left = performance.now();
    }
  })();
  (async () => {
    for await (const _ of socket.listener('connectAbort')) noticed.refused++;
  })();
  (async () => {
    for await (const _ of socket.listener('error'));
  })();
  for await (const _ of socket.listener('connect')) {
    if (left === null) {
      if (++connected === Number(count)) console.log('connected');
      continue;
    }
    noticed.moves[number]++;
    noticed.away.push(performance.now() - left);
  }
}

async function call(socket, number) {
  for (let n = 0; running; n++) {
    const id = `${number}/${n}`;
    const answer = await answerOf(socket, id);
    noticed.calls++;
    if (answer.id !== id) noticed.wrong++;
    noticed.pids[number] = answer.pid;
    await new Promise((resolve) => setTimeout(resolve, Number(pause)));
  }
}

// A call that was on its way when its connection closed was not carried out, and is repeated.
async function answerOf(socket, id) {
  for (;;) {
    try {
      return await socket.invoke('work', id);
    } catch (error) {
      if (error.name !== 'BadConnectionError') throw error;
      noticed.repeated++;
    }
  }
}

const sockets = [];
for (let number = 0; number < Number(count); number++) {
  const socket = create(options);
  sockets.push(socket);
  watch(socket, number);
  call(socket, number);
}

process.stdin.on('end', async () => {
  running = false;
  await new Promise((resolve) => setTimeout(resolve, 500));
  console.log(JSON.stringify(noticed));
  process.exit(0);
});
process.stdin.resume();
