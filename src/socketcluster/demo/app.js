// The demo page. It communicates with the server only through the official client, behind the typed wrapper.
import { typed } from './api.js';

const $ = (id) => document.getElementById(id);

import('/socketcluster-client.js').then(
  ({ create }) => start(create({
    hostname: location.hostname,
    port: location.port || undefined,
    secure: location.protocol === 'https:'
  })),
  () => { $('no-client').hidden = false; $('state').textContent = 'no client'; }
);

function start(socket) {
  const api = typed(socket);
  let channel = null;
  let lastTyped = 0;
  const typists = new Map();
  const me = () => (socket.authToken && socket.authToken.name) || 'guest';

  const forEach = async (stream, handle) => { for await (const value of stream) handle(value); };

  const showState = (text, on) => { $('state').textContent = text; $('state').className = 'badge ' + (on ? 'on' : 'off'); };
  forEach(socket.listener('connect'), () => showState('connected', true));
  forEach(socket.listener('disconnect'), () => showState('disconnected', false));
  forEach(socket.listener('connecting'), () => showState('connecting', false));
  forEach(socket.listener('error'), ({ error }) => console.warn(error.message));

  const showAuth = () => {
    $('auth-state').textContent = socket.authState;
    $('who').textContent = socket.authToken ? 'as ' + socket.authToken.name : '';
    $('logout').disabled = !socket.authToken;
  };
  forEach(socket.listener('authStateChange'), showAuth);
  forEach(socket.listener('connect'), showAuth);
  showAuth();

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

  function join(room) {
    if (channel) { channel.unsubscribe(); channel.official.kill(); }
    typists.clear();
    $('messages').replaceChildren();
    channel = api.subscribe('room/' + room);
    const joined = channel;
    forEach(channel.official.listener('subscribe'), () => addLine('•', 'You are in ' + room));
    forEach(channel.official.listener('subscribeFail'), ({ error }) => addLine('•', error.message));
    forEach(channel, (data) => {
      if (joined !== channel || !data) return;
      if (data.typing) { if (data.name !== me()) typists.set(data.name, Date.now() + 2000); }
      else { typists.delete(data.name); addLine(data.name, data.text); }
      showTypists();
    });
  }
  join($('room').value);

  const on = (id, handle) => $(id).addEventListener('submit', (event) => { event.preventDefault(); handle(); });
  on('join', () => join($('room').value.trim() || 'lobby'));
  on('say', async () => {
    const text = $('text').value.trim();
    if (!text) return;
    $('text').value = '';
    try { await api.publish(channel.name, { name: me(), text }); } catch (error) { addLine('•', error.message); }
  });
  $('text').addEventListener('input', () => {
    if (Date.now() - lastTyped < 1000) return;
    lastTyped = Date.now();
    channel.official.transmitPublish({ name: me(), typing: true });
  });
  on('login', async () => {
    $('login-error').textContent = '';
    try { await api.invoke('login', { name: $('name').value }); } catch (error) { $('login-error').textContent = error.message; }
  });
  $('logout').addEventListener('click', () => api.invoke('logout').catch(() => {}));
  on('add', async () => {
    try { $('sum').textContent = await api.invoke('add', [Number($('a').value), Number($('b').value)]); }
    catch (error) { $('sum').textContent = error.message; }
  });

  async function showBackpressure() {
    if (socket.state === 'open') {
      try {
        const counts = await api.invoke('backpressure');
        for (const name of ['clients', 'inbound', 'outbound', 'streams', 'bytes']) $('f-' + name).textContent = counts[name];
      } catch (error) { /* The connection was lost; the badge shows it. */ }
    }
    $('f-channel').textContent = channel.official.getBackpressure();
    setTimeout(showBackpressure, 1000);
  }
  showBackpressure();
}
