// Renders the AsyncAPI document that lies beside this file.
const find = (id) => document.getElementById(id);
const source = import.meta.url.replace(/\.js$/, '.json');
const KINDS = [['procedure', 'call', 'Procedures'], ['event', 'event', 'Events'], ['channel', 'channel', 'Channels']];
let api;

function make(tag, properties = {}, ...children) {
  const { class: className, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others, className ? { className } : {});
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const resolve = (value) => {
  while (value && value.$ref) value = value.$ref.slice(2).split('/').reduce((found, key) => found[unescape_(key)], api);
  return value;
};
const unescape_ = (key) => decodeURIComponent(key).replace(/~1/g, '/').replace(/~0/g, '~');
const anchor = (kind, name) => `${kind}-${encodeURIComponent(name)}`;

// Texts: paragraphs, and `code`.
const inline = (text) => text.split(/(`[^`]+`)/).map((part) => (/^`.+`$/.test(part) ? make('code', {}, part.slice(1, -1)) : part));
const prose = (text) => (text ? text.split(/\n\s*\n/).map((part) => make('p', {}, ...inline(part))) : []);

// Types, as a programmer writes them.
const word = (text) => make('span', { class: 'word' }, text);
const mark = (text) => make('span', { class: 'mark' }, text);
const literal = (value) => make('span', { class: 'literal' }, JSON.stringify(value));
const joined = (parts, between) => parts.flatMap((part, index) => (index ? [mark(between), ...part] : part));

// With `expand`, an object that a name stands for is shown too, but no further ones inside of it.
function type(schema, indent = '', expand = false) {
  if (schema === false) return [word('never')];
  if (!schema || schema === true) return [word('any')];
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    const link = make('a', { href: `#${anchor('type', name)}` }, name);
    const found = resolve(schema);
    return expand && found.properties ? [link, ' ', ...object(found, indent)] : [link];
  }
  if ('const' in schema) return [literal(schema.const)];
  if (schema.enum) return joined(schema.enum.map((value) => [literal(value)]), ' | ');
  const parts = schema.anyOf || schema.oneOf;
  if (parts) return joined(parts.map((part) => type(part, indent, expand)), expand && parts.filter(isNamedObject).length > 1 ? '\n| ' : ' | ');
  if (schema.allOf) return joined(schema.allOf.map((part) => type(part, indent, expand)), ' & ');
  if (Array.isArray(schema.type)) return joined(schema.type.map((kind) => type({ ...schema, type: kind }, indent)), ' | ');
  if (schema.type === 'array') return list(schema, indent, expand);
  if (schema.type === 'object') return object(schema, indent);
  return [word(schema.type || 'any'), ...limits(schema)];
}

const isNamedObject = (schema) => Boolean(schema.$ref && resolve(schema).properties);
const isUnion = (schema) => Boolean(schema && (schema.anyOf || schema.oneOf || (schema.enum && schema.enum.length > 1)));
const grouped = (schema, parts) => (isUnion(schema) ? [mark('('), ...parts, mark(')')] : parts);

function list(schema, indent, expand) {
  if (!Array.isArray(schema.items)) return [mark('list of '), ...grouped(schema.items, type(schema.items, indent, expand))];
  const items = schema.items.map((item, index) => [...type(item, indent), ...(index < (schema.minItems || 0) ? [] : [mark('?')])]);
  if (schema.additionalItems !== false) items.push([mark('…')]);
  return [mark('['), ...joined(items, ', '), mark(']')];
}

function object(schema, indent) {
  const properties = Object.entries(schema.properties || {});
  if (!properties.length) return [mark('{ [name]: '), ...type(schema.additionalProperties, indent), mark(' }')];
  const inner = `${indent}  `;
  const required = schema.required || [];
  const lines = properties.flatMap(([name, entry]) => [
    `${inner}${name}`, mark(required.includes(name) ? ': ' : '?: '), ...type(entry, inner), '\n',
  ]);
  return [mark('{'), '\n', ...lines, indent, mark('}')];
}

const short = (number) => (Math.abs(number) >= 1e9 && number % 1e6 === 0 ? number.toExponential().replace('+', '') : String(number));

function range(least, most, unit = '') {
  if (least === undefined && most === undefined) return null;
  if (least === undefined) return `≤ ${short(most)}${unit}`;
  if (most === undefined) return `≥ ${short(least)}${unit}`;
  return `${least === most ? '' : `${short(least)} … `}${short(most)}${unit}`;
}

function limits(schema) {
  const texts = [
    schema.format, range(schema.minimum, schema.maximum),
    'exclusiveMinimum' in schema && `> ${short(schema.exclusiveMinimum)}`, 'exclusiveMaximum' in schema && `< ${short(schema.exclusiveMaximum)}`,
    'multipleOf' in schema && `multiple of ${schema.multipleOf}`,
    range(schema.minLength, schema.maxLength, (schema.maxLength ?? schema.minLength) === 1 ? ' character' : ' characters'),
    schema.pattern && `like ${schema.pattern}`,
  ].filter(Boolean);
  return texts.length ? [mark(` (${texts.join(', ')})`)] : [];
}

const block = (parts) => make('pre', {}, make('code', {}, ...parts));
const data = (title, schema) => make('div', {}, make('h4', {}, title),
  schema === undefined ? make('p', { class: 'quiet' }, 'no data') : block(type(schema, '', true)));

function properties(schema) {
  if (schema.type !== 'object' || !schema.properties) return [block(type(schema))];
  const required = schema.required || [];
  const entries = Object.entries(schema.properties);
  const hasNotes = entries.some(([, entry]) => entry.description || 'default' in entry);
  const rows = entries.map(([name, entry]) => make('tr', {},
    make('td', {}, make('code', {}, name), ...(required.includes(name) ? [] : [mark('?')])),
    make('td', {}, make('code', {}, ...type(entry))),
    hasNotes ? make('td', {}, ...prose(entry.description), ...('default' in entry ? [make('p', {}, 'Default: ', literal(entry.default))] : [])) : null));
  return [make('div', { class: 'table' }, make('table', {}, make('tbody', {}, ...rows)))];
}

// Cards
const card = (kind, badge, name, ...children) => make('section', { class: 'card', id: anchor(kind, name) },
  make('h3', {}, make('code', {}, name), make('span', { class: `badge ${kind}` }, badge)), ...children);

function handler(kind, channel) {
  const operations = Object.values(api.operations).filter((found) => resolve(found.channel) === channel);
  const payload = (name) => (channel.messages[name] ? resolve(channel.messages[name]).payload : undefined);
  const text = prose(operations.length ? operations[0].description : '');
  if (kind === 'call') {
    const [taken, answered] = [payload('call'), payload('answer')];
    return card(kind, 'call', channel.address, ...text, taken === undefined && answered === undefined
      ? make('p', { class: 'quiet' }, 'No data, and an answer without data.')
      : make('div', { class: 'pair' }, data('Takes', taken), data('Answers', answered)));
  }
  if (kind === 'event') return card(kind, 'event', channel.address, ...text, data('Data', payload('event')));
  const parameters = Object.entries(channel.parameters || {}).map(([name, { description }]) => [make('dt', {}, make('code', {}, name)), make('dd', {}, description || '')]);
  const badge = channel.messages.publish ? 'subscribe, publish' : 'subscribe';
  const messages = [payload('message'), channel.messages.publish && payload('publish')].map((found) => (found === undefined ? true : found));
  const [received, published] = messages;
  const isOne = !channel.messages.publish || JSON.stringify(received) === JSON.stringify(published);
  return card(kind, badge, channel.address, ...text, ...(parameters.length ? [make('dl', {}, ...parameters.flat())] : []),
    isOne ? data('Messages', received) : make('div', { class: 'pair' }, data('Clients publish', published), data('Subscribers receive', received)));
}

function about() {
  const server = Object.values(api.servers || {})[0];
  const rows = server ? [make('dt', {}, 'Server'), make('dd', {}, make('code', {}, `${server.protocol}://${server.host}${server.pathname || ''}`))] : [];
  const token = api.components.securitySchemes.token;
  rows.push(make('dt', {}, 'Login'), make('dd', {}, ...inline(token.description)));
  const packets = Object.entries(api.components.messageTraits).map(([name, trait]) => [make('dt', {}, name), make('dd', {}, ...inline(trait.description.replace(/^As a packet: /, '')))]);
  const error = resolve(api.components.messages.error).payload;
  return make('section', { class: 'card' }, ...prose(api.info.description), make('dl', {}, ...rows),
    make('details', {}, make('summary', {}, 'Packets and errors'), make('dl', {}, ...packets.flat()), make('h4', {}, 'Error'), ...properties(error)));
}

function render() {
  document.title = api.info.title;
  find('title').textContent = api.info.title;
  find('version').textContent = api.info.version;
  const groups = KINDS.map(([tag, kind, title]) => [title, kind, Object.values(api.channels)
    .filter((channel) => channel.tags.some(({ name }) => name === tag))
    .map((channel) => [channel.address, handler(kind, channel)])]);
  groups.push(['Types', 'type', Object.entries(api.components.schemas)
    .map(([name, schema]) => [name, card('type', 'type', name, ...prose(schema.description), ...properties(schema))])]);
  const shown = groups.filter(([, , entries]) => entries.length);
  find('contents').replaceChildren(...shown.map(([title, kind, entries]) => make('div', {},
    make('h2', {}, title), make('ul', {}, ...entries.map(([name]) => make('li', {}, make('a', { href: `#${anchor(kind, name)}` }, name)))))));
  find('main').replaceChildren(about(), ...shown.map(([title, , entries]) => make('div', { class: 'group' }, make('h2', {}, title), ...entries.map(([, element]) => element))));
  find('search').hidden = false;
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function search() {
  const words = find('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll('.group .card')) {
    const text = section.textContent.toLowerCase();
    section.hidden = !words.every((wanted) => text.includes(wanted));
    const link = document.querySelector(`nav a[href="#${CSS.escape(section.id)}"]`);
    if (link) link.parentElement.hidden = section.hidden;
  }
  for (const group of document.querySelectorAll('.group')) group.hidden = !group.querySelector('.card:not([hidden])');
  for (const group of document.querySelectorAll('#contents > div')) group.hidden = !group.querySelector('li:not([hidden])');
}

async function load(token) {
  const response = await fetch(source, token ? { headers: { authorization: `Bearer ${token}` } } : {});
  find('login').hidden = response.status !== 401;
  find('main').hidden = response.status === 401;
  find('document').hidden = Boolean(token) || response.status === 401;
  if (response.status === 401) {
    if (token) find('login-error').textContent = 'This is not the token.';
    find('token').focus();
    return;
  }
  if (!response.ok) throw new Error(`The server answered with ${response.status}`);
  api = await response.json();
  render();
}

const start = (token) => load(token).catch((error) => {
  find('main').hidden = false;
  find('main').replaceChildren(make('p', { class: 'error' }, `The description could not be loaded: ${error.message}`));
});
find('search').addEventListener('input', search);
find('login').addEventListener('submit', (event) => {
  event.preventDefault();
  start(find('token').value);
});
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !/INPUT|TEXTAREA/.test(document.activeElement.tagName) && !find('search').hidden) {
    event.preventDefault();
    find('search').focus();
  }
});
start();
