'use strict';
// One of the original servers, with the procedures that the tests call (server_app.py has the
// same): node server.js MODULE [OPTIONS as JSON] [CODEC MODULE]. Prints its port; ends with its
// standard input.
const http = require('http');
const [module_, given, codec] = process.argv.slice(2);
const { attach } = require(module_);

const httpServer = http.createServer();
const server = attach(httpServer, {
  authKey: 'the key of the tests, which is long enough', pingInterval: 60, pingTimeout: 2000, ackTimeout: 4000,
  ...(codec ? { codecEngine: require(codec) } : {}),
  ...JSON.parse(given || '{}')
});

const users = ['alice', 'bob', 'kate'];
const published = [];
const named = (name, message) => Object.assign(new Error(message), { name });
const promised = (begin) => new Promise((resolve, reject) => {
  begin((error, result) => { if (error) reject(error); else resolve(result); });
});

// One face for sockets with streams (20) and with callbacks (14).
class Modern {
  constructor(socket) { this.socket = socket; }
  procedure(name, answer) {
    const requests = this.socket.procedure(name).createConsumer();
    (async () => {
      for (let item = await requests.next(); !item.done; item = await requests.next()) {
        const request = item.value;
        answer(request.data).then((data) => request.end(data), (error) => request.error(error)).catch(() => {});
      }
    })();
  }
  receiver(name, handle) {
    (async () => { for await (const data of this.socket.receiver(name)) handle(data); })();
  }
  onPong(count) { (async () => { for await (const { message } of this.socket.listener('message')) if (message === '') count(); })(); }
  transmit(name, data) { this.socket.transmit(name, data); }
  invoke(name, data) { return this.socket.invoke(name, data); }
  login(data) { return this.socket.setAuthToken(data); }
  logout() { return this.socket.deauthenticate(); }
  kickOut(channel, message) { return this.socket.kickOut(channel, message); }
  publish(channel, data) { return server.exchange.invokePublish(channel, data); }
  batch(packets) {
    this.socket.startBatch();
    for (const [name, data] of packets) this.socket.transmit(name, data);
    this.socket.flushBatch();
  }
}

class Old {
  constructor(socket) { this.socket = socket; socket.on('error', () => {}); }
  procedure(name, answer) {
    this.socket.on(name, (data, respond) => { answer(data).then((result) => respond(null, result), respond); });
  }
  receiver(name, handle) { this.socket.on(name, handle); }
  onPong(count) { this.socket.on('message', (message) => { if (message === '#2') count(); }); }
  transmit(name, data) { this.socket.emit(name, data); }
  invoke(name, data) { return promised((done) => this.socket.emit(name, data, done)); }
  async login(data) { this.socket.setAuthToken(data); }
  async logout() { this.socket.deauthenticate(); }
  async kickOut(channel, message) { this.socket.kickOut(channel, message); }
  publish(channel, data) { return promised((done) => server.exchange.publish(channel, data, done)); }
  batch(packets) { for (const [name, data] of packets) this.socket.emit(name, data, undefined, { batch: true }); }
}

function handle(face) {
  const { socket } = face;
  let pongs = 0;
  let enough = () => {};
  face.onPong(() => { pongs++; enough(); });
  face.receiver('note', (data) => face.transmit('noted', data));
  face.receiver('disconnect me', (code) => socket.disconnect(code, 'Enough'));
  face.receiver('send me raw', (data) => socket.send(data));
  const procedures = {
    echo: async (data) => data,
    fail: async (data) => { throw named('OddError', data); },
    'call me back': (data) => face.invoke('double', data),
    login: async (data) => {
      if (!users.includes(data.name)) throw named('FailedLoginError', 'Failed to login');
      await face.login({ name: data.name });
    },
    logout: () => face.logout(),
    who: async () => socket.authToken,
    'set auth key': async (key) => { server.signatureKey = server.verificationKey = key; },
    'answer after': (delay) => new Promise((resolve) => setTimeout(() => resolve('late'), delay)),
    'publish for me': (data) => face.publish('room', data),
    'what was published': async () => published.splice(0),
    'kick me': (channel) => face.kickOut(channel, 'Out'),
    'my channels': async () => socket.subscriptions(),
    'batch to me': async () => face.batch([['one', 1], ['two', 2]]),
    'wait for pings': (count) => new Promise((resolve) => {
      const until = pongs + count;
      enough = () => { if (pongs >= until) resolve('still here'); };
    })
  };
  for (const [name, answer] of Object.entries(procedures)) face.procedure(name, answer);
}

if (server.listener) {
  (async () => { for await (const { socket } of server.listener('connection')) handle(new Modern(socket)); })();
  (async () => { for await (const _ of server.listener('error')) ; })();
  (async () => { for await (const _ of server.listener('warning')) ; })();
  (async () => { for await (const data of server.exchange.subscribe('room')) published.push(data); })();
} else {
  server.on('connection', (socket) => handle(new Old(socket)));
  server.on('warning', () => {});
  server.exchange.subscribe('room').watch((data) => published.push(data));
}
httpServer.listen(0, '127.0.0.1', () => console.log(httpServer.address().port));
process.stdin.resume().on('end', () => process.exit(0));
