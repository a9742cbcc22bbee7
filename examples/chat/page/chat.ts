import { create } from "socketcluster-client";
import { typed, type Channels, type Message } from "./api.js";
import { recovering } from "./recovering.js";

type Change = Channels["$presence/room/{room}"]["message"];
const ROOMS = ["lobby", "music", "travel"];

const socket = create();
const api = typed(socket);
const recover = recovering(socket, () => void showHistory());
const enter = (name: string) => api.subscribe(`room/${name}`, recover(`room/${name}`));
let room: ReturnType<typeof enter> | undefined;
let lastTyped = 0;
const typists = new Map<string, number>();
const members = new Set<string>();
const shown = new Set<string>();

function find<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`The page has no #${id}`);
  return found;
}

const page = {
  login: find("login", HTMLFormElement),
  name: find("name", HTMLInputElement),
  chat: find("chat", HTMLElement),
  rooms: find("rooms", HTMLElement),
  who: find("who", HTMLElement),
  logout: find("logout", HTMLButtonElement),
  members: find("members", HTMLElement),
  messages: find("messages", HTMLOListElement),
  typing: find("typing", HTMLElement),
  say: find("say", HTMLFormElement),
  text: find("text", HTMLInputElement),
  error: find("error", HTMLElement),
};

const me = (): string | undefined => socket.authToken?.["sub"];

/** Do something on the server, and show its error if it refuses. */
async function attempt<T>(work: Promise<T>): Promise<T | undefined> {
  page.error.textContent = "";
  try {
    return await work;
  } catch (error) {
    page.error.textContent = error instanceof Error ? error.message : String(error);
    return undefined;
  }
}

function make(tag: string, className: string, ...content: (string | Node)[]): HTMLElement {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}

function lineOf({ name, text, time }: Message): HTMLElement {
  const clock = new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const meta = make("span", "meta", make("b", "", name), clock);
  return make("li", name === me() ? "mine" : "", meta, make("span", "text", text));
}

function showTypists(): void {
  for (const [name, since] of typists) if (Date.now() - since > 3000) typists.delete(name);
  const names = [...typists.keys()];
  page.typing.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

function add(line: HTMLElement): void {
  page.messages.append(line);
  line.scrollIntoView({ block: "nearest" });
}

/** Show a message, once: the history may have it, too. */
function show(message: Message): void {
  const key = JSON.stringify(message);
  if (shown.has(key)) return;
  shown.add(key);
  typists.delete(message.name);
  add(lineOf(message));
  showTypists();
}

/** Show the whole history: in a room that is entered, and when the server could not send what was missed. */
async function showHistory(): Promise<void> {
  const entered = room;
  if (!entered) return;
  const history = await attempt(socket.invoke("$history", { channel: entered.name }));
  if (!history || entered !== room) return;
  page.messages.replaceChildren();
  shown.clear();
  for (const { data } of history.publications) show(data);
}

/** Show who came and went. After a lost connection the server tells all members again. */
function showMembers({ state, join = {}, leave = [] }: Change, isFirst: boolean): void {
  const before = new Set(members);
  if (state) members.clear();
  for (const name of Object.keys(state ?? join)) members.add(name);
  for (const name of leave) members.delete(name);
  page.members.textContent = [...members].sort().join(", ");
  if (isFirst) return;
  for (const name of members) if (!before.has(name)) add(make("li", "note", `${name} came in`));
  for (const name of before) if (!members.has(name)) add(make("li", "note", `${name} left`));
}

async function open(name: string): Promise<void> {
  leave();
  const entered = enter(name);
  room = entered;
  for (const button of page.rooms.children) button.toggleAttribute("aria-current", button.textContent === name);
  void entered.official.listener("subscribe").once().then(showHistory);
  void watchMembers(name, entered);
  void watchTyping(name, entered);
  for await (const message of entered) if (entered === room) show(message);
}

async function watchMembers(name: string, entered: typeof room): Promise<void> {
  let isFirst = true;
  for await (const change of api.subscribe(`$presence/room/${name}`)) {
    if (entered !== room) return;
    showMembers(change, isFirst);
    isFirst = false;
  }
}

async function watchTyping(name: string, entered: typeof room): Promise<void> {
  for await (const typist of api.subscribe(`typing/${name}`)) {
    if (entered !== room) return;
    if (typist.name !== me()) typists.set(typist.name, Date.now());
    showTypists();
  }
}

function leave(): void {
  const name = room?.name.slice("room/".length);
  if (name) {
    for (const channel of [`room/${name}`, `typing/${name}`, `$presence/room/${name}`]) {
      socket.unsubscribe(channel);
      socket.killChannel(channel);
    }
  }
  room = undefined;
  typists.clear();
  members.clear();
  shown.clear();
  page.messages.replaceChildren();
}

function showUser(): void {
  const name = me();
  page.login.hidden = name !== undefined;
  page.chat.hidden = name === undefined;
  page.who.textContent = name ?? "";
  if (name === undefined) leave();
  else if (room === undefined) void open("lobby");
}

async function watch(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events) showUser();
}

void watch(socket.listener("connect"));
void watch(socket.listener("authStateChange"));
addEventListener("online", () => socket.connect()); // It would wait for some 15 seconds.
setInterval(showTypists, 1000);
page.rooms.append(...ROOMS.map((name) => {
  const button = make("button", "", name);
  button.addEventListener("click", () => void open(name));
  return button;
}));
page.login.addEventListener("submit", (event) => {
  event.preventDefault();
  void attempt(api.invoke("login", page.name.value.trim()));
});
page.logout.addEventListener("click", () => void attempt(socket.deauthenticate()));
page.say.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!room || !text) return;
  page.text.value = "";
  lastTyped = 0;
  void attempt(api.publish(room.name, text));
});
page.text.addEventListener("input", () => {
  if (!room || Date.now() - lastTyped < 2000) return;
  lastTyped = Date.now();
  void attempt(api.publish(`typing/${room.name.slice("room/".length)}`, null));
});
