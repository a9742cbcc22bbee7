// @ts-check
// The demo page. It communicates with the server only through the official client, behind the typed wrapper.
import { typed } from './api.js';
import { recovering } from './recovering.js';

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
  /** @type {Set<string>} */
  const members = new Set();
  /** @type {Set<string>} */
  const shown = new Set();
  let lastTyped = 0, isBack = false, missed = 0;

  /** @template T @param {AsyncIterable<T>} stream @param {(value: T) => void} handle */
  async function forEach(stream, handle) { for await (const value of stream) handle(value); }

  // Each subscription to a room asks for what came after the newest line that this window has.
  const recover = recovering(socket, () => showHistory());
  /** @param {string} name */
  const subscribe = (name) => {
    const joined = api.subscribe(`room/${name}`, recover(`room/${name}`));
    joined.official.listener('subscribe').once().then(showHistory);
    return joined;
  };
  let name = input('room').value;
  let room = subscribe(name);

  /** @returns {string} */
  const me = () => socket.authToken?.['username'] ?? 'guest';

  /** @param {string} text @param {boolean} on */
  const showState = (text, on) => { $('state').textContent = text; $('state').className = 'badge ' + (on ? 'on' : 'off'); $('cable').textContent = on ? 'Pull the cable' : 'Plug it in'; };
  forEach(socket.listener('connect'), () => { isBack = true; showState('connected', true); });
  forEach(socket.listener('disconnect'), () => { isBack = false; showState('disconnected', false); });
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

  /** @param {string} name @param {string} text @param {string} [kind] */
  function addLine(name, text, kind = '') {
    const line = document.createElement('li');
    line.className = kind;
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

  /** @param {import('./api.js').Message} message @param {boolean} wasMissed */
  function showMessage(message, wasMissed) {
    const key = JSON.stringify(message);
    if (shown.has(key)) return; // The history had it, too.
    shown.add(key);
    typists.delete(message.name);
    addLine(message.name, message.text, wasMissed ? 'missed' : '');
    if (wasMissed) $('missed').textContent = String(++missed);
  }

  async function showHistory() {
    const joined = room;
    try {
      const history = await socket.invoke('$history', { channel: joined.name });
      if (joined !== room) return;
      $('messages').replaceChildren();
      shown.clear();
      for (const { data } of history.publications) showMessage(data, false);
      addLine('•', 'You are in ' + name);
    } catch (error) { addLine('•', messageOf(error)); }
  }

  /** @param {import('./api.js').Channels['$presence/room/{room}']['message']} change @param {boolean} isFirst */
  function showMembers({ state, join = {}, leave = [], count }, isFirst) {
    const before = new Set(members);
    if (state) members.clear();
    for (const member of Object.keys(state ?? join)) members.add(member);
    for (const member of leave) members.delete(member);
    const guests = count - members.size;
    const here = [...members].sort();
    if (guests > 0) here.push(guests === 1 ? 'a guest' : `${guests} guests`);
    $('members').textContent = here.join(', ') || '–';
    if (isFirst) return;
    for (const member of members) if (!before.has(member)) addLine('•', `${member} came in`, 'presence');
    for (const member of before) if (!members.has(member)) addLine('•', `${member} left`, 'presence');
  }

  function enter() {
    const joined = room;
    let isFirst = true;
    forEach(joined.official.listener('subscribe'), () => { isBack = false; });
    forEach(joined.official.listener('subscribeFail'), ({ error }) => addLine('•', error.message));
    forEach(joined, (message) => { if (joined === room) { showMessage(message, isBack); showTypists(); } });
    forEach(api.subscribe(`$presence/room/${name}`), (change) => {
      if (joined === room) { showMembers(change, isFirst); isFirst = false; }
    });
    forEach(api.subscribe(`typing/${name}`), (typist) => {
      if (joined === room && typist.name !== me()) { typists.set(typist.name, Date.now() + 2000); showTypists(); }
    });
  }
  enter();

  /** @param {string} id @param {() => unknown} handle */
  const on = (id, handle) => $(id).addEventListener('submit', (event) => { event.preventDefault(); handle(); });
  on('join', () => {
    for (const channel of [`room/${name}`, `$presence/room/${name}`, `typing/${name}`]) {
      socket.unsubscribe(channel);
      socket.killChannel(channel);
    }
    for (const kept of [typists, members, shown]) kept.clear();
    $('messages').replaceChildren();
    name = input('room').value.trim() || 'lobby';
    room = subscribe(name);
    enter();
  });
  on('say', async () => {
    const text = input('text').value.trim();
    if (!text) return;
    input('text').value = '';
    try { await api.publish(room.name, text); } catch (error) { addLine('•', messageOf(error)); }
  });
  $('text').addEventListener('input', () => {
    if (Date.now() - lastTyped < 1000) return;
    lastTyped = Date.now();
    api.publish(`typing/${name}`, null).catch(() => {});
  });
  on('login', async () => {
    $('login-error').textContent = '';
    try { await api.invoke('login', { name: input('name').value }); } catch (error) { $('login-error').textContent = messageOf(error); }
  });
  $('logout').addEventListener('click', () => api.invoke('logout').catch(() => {}));
  $('cable').addEventListener('click', () => {
    if (socket.state === 'open') api.transmit('cut').catch(() => {});
    else socket.connect();
  });
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
