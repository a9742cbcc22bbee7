// @ts-check
// The demo page. It communicates with the server only through the official client, behind the typed wrapper.
import { typed } from './api.js';

/** @param {string} id */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @param {string} id */
const input = (id) => /** @type {HTMLInputElement} */ ($(id));
/** @param {unknown} error */
const messageOf = (error) => (error instanceof Error ? error.message : String(error));

import('./socketcluster-client.js').then(
  ({ create }) => start(create({
    hostname: location.hostname,
    port: Number(location.port) || undefined,
    secure: location.protocol === 'https:'
  })),
  () => { $('no-client').hidden = false; $('state').textContent = 'no client'; }
);

/** @param {ReturnType<typeof import('./socketcluster-client.js').create>} socket */
function start(socket) {
  const api = typed(socket);
  /** @type {Map<string, number>} */
  const typists = new Map();
  let lastTyped = 0;
  /** @param {string} name */
  const subscribe = (name) => api.subscribe(`room/${name}`);
  let room = subscribe(input('room').value);

  /** @returns {string} */
  const me = () => socket.authToken?.['name'] ?? 'guest';

  /** @template T @param {AsyncIterable<T>} stream @param {(value: T) => void} handle */
  async function forEach(stream, handle) { for await (const value of stream) handle(value); }

  /** @param {string} text @param {boolean} on */
  const showState = (text, on) => { $('state').textContent = text; $('state').className = 'badge ' + (on ? 'on' : 'off'); };
  forEach(socket.listener('connect'), () => showState('connected', true));
  forEach(socket.listener('disconnect'), () => showState('disconnected', false));
  forEach(socket.listener('connecting'), () => showState('connecting', false));
  forEach(socket.listener('error'), ({ error }) => console.warn(error.message));

  const showAuth = () => {
    $('auth-state').textContent = socket.authState;
    $('who').textContent = socket.authToken ? 'as ' + me() : '';
    /** @type {HTMLButtonElement} */ ($('logout')).disabled = !socket.authToken;
  };
  forEach(socket.listener('authStateChange'), showAuth);
  forEach(socket.listener('connect'), showAuth);
  showAuth();

  /** @param {string} name @param {string} text */
  function addLine(name, text) {
    const line = document.createElement('li');
    const author = document.createElement('b');
    author.textContent = name;
    line.append(author, text);
    $('messages').append(line);
    line.scrollIntoView({ block: 'nearest' });
  }

  function showTypists() {
    const now = Date.now();
    for (const [name, until] of typists) if (until < now) typists.delete(name);
    $('typing').textContent = typists.size ? [...typists.keys()].join(', ') + ' is typing…' : '\u00a0';
  }
  setInterval(showTypists, 500);

  function enter() {
    const joined = room;
    forEach(joined.official.listener('subscribe'), () => addLine('•', 'You are in ' + joined.name.slice('room/'.length)));
    forEach(joined.official.listener('subscribeFail'), ({ error }) => addLine('•', error.message));
    forEach(joined, (message) => {
      if (joined !== room) return;
      if (message.type === 'message') { typists.delete(message.name); addLine(message.name, message.text); }
      else if (message.name !== me()) typists.set(message.name, Date.now() + 2000);
      showTypists();
    });
  }
  enter();

  /** @param {string} id @param {() => unknown} handle */
  const on = (id, handle) => $(id).addEventListener('submit', (event) => { event.preventDefault(); handle(); });
  on('join', () => {
    room.unsubscribe();
    room.official.kill();
    typists.clear();
    $('messages').replaceChildren();
    room = subscribe(input('room').value.trim() || 'lobby');
    enter();
  });
  on('say', async () => {
    const text = input('text').value.trim();
    if (!text) return;
    input('text').value = '';
    try { await api.publish(room.name, { type: 'line', text }); } catch (error) { addLine('•', messageOf(error)); }
  });
  $('text').addEventListener('input', () => {
    if (Date.now() - lastTyped < 1000) return;
    lastTyped = Date.now();
    api.publish(room.name, { type: 'typing' }).catch(() => {});
  });
  on('login', async () => {
    $('login-error').textContent = '';
    try { await api.invoke('login', { name: input('name').value }); } catch (error) { $('login-error').textContent = messageOf(error); }
  });
  $('logout').addEventListener('click', () => api.invoke('logout').catch(() => {}));
  on('add', async () => {
    try { $('sum').textContent = String(await api.invoke('add', [Number(input('a').value), Number(input('b').value)])); }
    catch (error) { $('sum').textContent = messageOf(error); }
  });

  async function showBackpressure() {
    if (socket.state === 'open') {
      try {
        const counts = await api.invoke('backpressure');
        for (const [name, count] of Object.entries(counts)) $('f-' + name).textContent = String(count);
      } catch (error) { /* The connection was lost; the badge shows it. */ }
    }
    $('f-channel').textContent = String(room.official.getBackpressure());
    setTimeout(showBackpressure, 1000);
  }
  showBackpressure();
}
