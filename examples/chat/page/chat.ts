import { create } from "socketcluster-client";
import { typed, type Message, type Procedures } from "./api.js";

type RoomName = Procedures["history"]["data"];
const ROOMS: readonly RoomName[] = ["lobby", "music", "travel"];

const socket = create();
const api = typed(socket);
const enter = (name: RoomName) => api.subscribe(`room/${name}`);
let room: ReturnType<typeof enter> | undefined;
let lastTyped = 0;
const typists = new Map<string, number>();

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
  messages: find("messages", HTMLOListElement),
  typing: find("typing", HTMLElement),
  say: find("say", HTMLFormElement),
  text: find("text", HTMLInputElement),
  error: find("error", HTMLElement),
};

const me = (): string | undefined => socket.authToken?.["name"];

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
  return make("li", name === me() ? "mine" : "", meta, make("span", "text", text ?? ""));
}

function showTypists(): void {
  for (const [name, since] of typists) if (Date.now() - since > 3000) typists.delete(name);
  const names = [...typists.keys()];
  page.typing.textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
}

function show(message: Message): void {
  if (message.text === null) {
    if (message.name !== me()) typists.set(message.name, Date.now());
  } else {
    typists.delete(message.name);
    page.messages.append(lineOf(message));
    page.messages.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
  showTypists();
}

/** Show the history whenever the room is entered, after a lost connection too. */
async function follow(name: RoomName, entered: NonNullable<typeof room>): Promise<void> {
  for await (const _ of entered.official.listener("subscribe")) {
    const messages = await attempt(api.invoke("history", name));
    if (messages && entered === room) page.messages.replaceChildren(...messages.map(lineOf));
    page.messages.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
}

async function open(name: RoomName): Promise<void> {
  leave();
  const entered = enter(name);
  room = entered;
  for (const button of page.rooms.children) button.toggleAttribute("aria-current", button.textContent === name);
  void follow(name, entered);
  for await (const message of entered) if (entered === room) show(message);
}

function leave(): void {
  room?.unsubscribe();
  room?.official.kill();
  room = undefined;
  typists.clear();
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
  void attempt(api.publish(room.name, null));
});
