'use strict';
const assert = require('assert');
// Runs the scenarios with one client: node driver.js MODULE PORT [codec]
// The environment's EXPECTED says what the connection has to be like: {"alg", "extensions"}.
// Prints one JSON line per scenario: {"scenario", "ok", "detail"}.
const [module_, port, codecName] = process.argv.slice(2);
const client = require(module_);
const isOld = module_ === 'client14';
const expected = JSON.parse(process.env.EXPECTED);

const options = (more) => Object.assign({
  hostname: '127.0.0.1', port: Number(port), path: '/socketcluster/',
  autoReconnect: false, ackTimeout: 4000, multiplex: false,
  ...(codecName ? { codecEngine: require(codecName) } : {})
}, more);

// One face for the clients with streams (16 to 20) and the one with callbacks (14).
class Modern {
  constructor(socket) { this.socket = socket; }
  once(event) { return this.socket.listener(event).once(4000); }
  invoke(event, data) { return this.socket.invoke(event, data); }
  transmit(event, data) { return this.socket.transmit(event, data); }
  receive(event) { return this.socket.receiver(event).once(4000); }
  handle(name, answer) {
    (async () => { for await (const request of this.socket.procedure(name)) request.end(answer(request.data)); })();
  }
  async subscribe(name) {
    const channel = this.socket.subscribe(name);
    await channel.listener('subscribe').once(4000);
    return channel;
  }
  published(channel) { return channel.once(4000); }
  publish(name, data) { return this.socket.invokePublish(name, data); }
  authenticated() { return this.socket.authState === 'authenticated'; }
  async waitForAuth() { if (!this.authenticated()) await this.once('authenticate'); }
  kicked() { return this.socket.listener('kickOut').once(4000); }
  async closing() { const { code, reason } = await this.once('disconnect'); return { code, reason: String(reason) }; }
  unsubscribe(channel) { return channel.unsubscribe(); }
  isSubscribed(name) { return this.socket.isSubscribed(name); }
  async batched() {
    this.socket.startBatch();
    const answers = Promise.all([1, 2, 3].map((n) => this.socket.invoke('echo', n)));
    await wait(5);
    this.socket.flushBatch();
    assert.deepStrictEqual(await answers, [1, 2, 3]);
    return [3];
  }
  token() { return this.socket.signedAuthToken; }
  end() { this.socket.disconnect(); }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const promised = (begin) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error('timed out')), 4000);
  begin((error, result) => { clearTimeout(timer); if (error) reject(error); else resolve(result); });
});

class Old {
  constructor(socket) { this.socket = socket; socket.on('error', () => {}); }
  once(event) { return promised((done) => this.socket.once(event, (...values) => done(null, values))); }
  invoke(event, data) { return promised((done) => this.socket.emit(event, data, done)); }
  transmit(event, data) { this.socket.emit(event, data); }
  receive(event) { return promised((done) => this.socket.on(event, (data) => done(null, data))); }
  handle(name, answer) { this.socket.on(name, (data, respond) => respond(null, answer(data))); }
  async subscribe(name) {
    const channel = this.socket.subscribe(name);
    await promised((done) => channel.once('subscribe', () => done()));
    return channel;
  }
  published(channel) { return promised((done) => channel.watch((data) => done(null, data))); }
  publish(name, data) { return promised((done) => this.socket.publish(name, data, done)); }
  authenticated() { return this.socket.authState === 'authenticated'; }
  async waitForAuth() { if (!this.authenticated()) await this.once('authenticate'); }
  async kicked() {
    const [message, channel] = await this.once('kickOut');
    return { message, channel };
  }
  async closing() { const [code, reason] = await this.once('disconnect'); return { code, reason: String(reason) }; }
  unsubscribe(channel) { return channel.unsubscribe(); }
  isSubscribed(name) { return this.socket.isSubscribed(name); }
  // It sends subscriptions in batches, and nothing else.
  async batched() {
    const names = ['b1', 'b2', 'b3'];
    const channels = names.map((name) => this.socket.subscribe(name, { batch: true }));
    await Promise.all(channels.map((channel) => promised((done) => channel.once('subscribe', () => done()))));
    assert.deepStrictEqual((await this.invoke('my channels')).sort(), names);
    channels.forEach((channel) => channel.unsubscribe());
    await wait(5);
    assert.deepStrictEqual(await this.invoke('my channels'), []);
    return [3, 3];
  }
  token() { return this.socket.signedAuthToken; }
  end() { this.socket.disconnect(); }
}

async function connect(more) {
  const socket = client.create(options(more));
  const face = isOld ? new Old(socket) : new Modern(socket);
  if (!isOld) (async () => { for await (const _ of socket.listener('error')) ; })();
  await face.once('connect');
  return face;
}

const scenarios = {};

scenarios.connect = async (state) => {
  state.a = await connect();
  state.b = await connect();
  assert(state.a.socket.id && state.a.socket.id !== state.b.socket.id);
  if (module_ === 'client20') assert.strictEqual(state.a.socket.transport.socket.extensions, expected.extensions);
};
scenarios['invoke'] = async ({ a }) => {
  for (const data of ['text', 5, { a: [1, null, 'é'] }, true]) assert.deepStrictEqual(await a.invoke('echo', data), data);
};
scenarios['invoke with error'] = async ({ a }) => {
  await assert.rejects(a.invoke('fail', 'why'), (error) => error.name === 'OddError' && error.message === 'why');
  await assert.rejects(a.invoke('nobody handles this'), (error) => error.name === 'UnknownProcedureError');
};
scenarios.transmit = async ({ a }) => {
  const back = a.receive('noted');
  a.transmit('note', { n: 1 });
  assert.deepStrictEqual(await back, { n: 1 });
};
scenarios['server invokes'] = async ({ a }) => {
  a.handle('double', (data) => data * 2);
  assert.strictEqual(await a.invoke('call me back', 21), 42);
};
scenarios.login = async (state) => {
  await state.a.invoke('login', { name: 'bob' });
  await state.a.waitForAuth();
  state.token = state.a.token();
  assert.strictEqual((await state.a.invoke('who')).name, 'bob');
  assert.strictEqual(JSON.parse(Buffer.from(state.token.split('.')[0], 'base64')).alg, expected.alg);
};
scenarios['reconnect with token'] = async ({ a, token }) => {
  // The token is kept by the client's own store between connections of one socket.
  const gone = a.closing();
  a.socket.disconnect(4100, 'again');
  await gone;
  const connected = a.once('connect');
  a.socket.connect();
  await connected;
  assert(a.authenticated());
  assert.strictEqual(a.token(), token);
  assert.strictEqual((await a.invoke('who')).name, 'bob');
};
scenarios.subscribe = async (state) => {
  state.channelA = await state.a.subscribe('room');
  state.channelB = await state.b.subscribe('room');
  assert(state.a.isSubscribed('room'));
};
scenarios['publish both ways'] = async ({ a, b, channelA, channelB }) => {
  const both = Promise.all([a.published(channelA), b.published(channelB)]);
  await b.publish('room', { text: 'hi' });
  assert.deepStrictEqual(await both, [{ text: 'hi' }, { text: 'hi' }]);
  const fromServer = b.published(channelB);
  await a.invoke('publish for me', 'from the server');
  assert.strictEqual(await fromServer, 'from the server');
  assert.deepStrictEqual(await a.invoke('what was published'), [{ text: 'hi' }, 'from the server']);
};
scenarios['kick-out'] = async ({ a, b }) => {
  const kicked = b.kicked();
  await b.invoke('kick me', 'room');
  const event = await kicked;
  assert.strictEqual(event.channel, 'room');
  assert.strictEqual(event.message, 'Out');
  assert(!b.isSubscribed('room') && a.isSubscribed('room'));
};
scenarios.unsubscribe = async ({ a, channelA }) => {
  await a.unsubscribe(channelA);
  assert.deepStrictEqual(await a.invoke('my channels'), []);
};
scenarios.batching = async ({ a }) => {
  const sizes = await a.batched();
  assert.deepStrictEqual(await a.invoke('batches received'), sizes);
  const back = Promise.all([a.receive('one'), a.receive('two')]);
  await a.invoke('batch to me');
  assert.deepStrictEqual(await back, [1, 2]);
};
scenarios['ping and pong'] = async ({ a }) => {
  assert.deepStrictEqual(await a.invoke('wait for pings', 6), 'still here');
};
scenarios.deauthenticate = async ({ a }) => {
  const gone = a.once('deauthenticate');
  await a.invoke('logout');
  await gone;
  assert(!a.authenticated());
};
scenarios['disconnect by the server'] = async ({ a, b }) => {
  const closed = a.closing();
  a.transmit('disconnect me', 4501);
  assert.deepStrictEqual(await closed, { code: 4501, reason: 'Enough' });
  b.end();
};

(async () => {
  const state = {};
  for (const [scenario, run] of Object.entries(scenarios)) {
    let detail = '';
    try { await run(state); } catch (error) { detail = error.stack || String(error); }
    console.log(JSON.stringify({ scenario, ok: !detail, detail }));
  }
  process.exit(0);
})();
