// The messages of the room that is open.

import { arrange, byId, dayOf, make, paint, setText, timeOf } from "./dom.js";

/** Messages of one author within so many ms stand together. */
const TOGETHER = 5 * 60_000;

/**
 * What is known of one room. Answers overtake each other: a message once seen stays, and the order of the answers does not
 * matter.
 */
export class Talk {
  constructor(room) {
    this.room = room;
    this.known = new Map();
    this.unsent = [];
    this.isLoaded = false;
    this.atBeginning = false;
  }

  get oldest() {
    return this.sorted()[0]?.id;
  }

  get newest() {
    return this.sorted().at(-1)?.id;
  }

  sorted() {
    return [...this.known.values()].sort((a, b) => a.id - b.id);
  }

  /** Takes messages in and returns those that were new. */
  add(messages) {
    const fresh = messages.filter((message) => !this.known.has(message.id));
    for (const message of fresh) this.known.set(message.id, message);
    return fresh;
  }
}

const elements = new Map();

/** Shows a talk to the person whose id is `me`. */
export function show(talk, me, retry) {
  const wanted = [];
  let before = null;
  const all = talk.sorted();
  // A poll may bring a message before the answer to its sending does.
  const arrived = new Set(all.map((message) => message.client_key));
  all.push(...talk.unsent.filter((message) => !arrived.has(message.client_key)));
  for (const message of all) {
    const date = new Date(message.created_at);
    if (!before || dayOf(new Date(before.created_at)) !== dayOf(date)) {
      wanted.push(reuse(`day ${dayOf(date)}`, () => day(date)));
      before = null;
    }
    const key = message.id ? `message ${message.id}` : `unsent ${message.client_key}`;
    const element = reuse(key, () => item(message, message.author_id === me));
    const together = before?.author_id === message.author_id && date - new Date(before.created_at) < TOGETHER;
    element.classList.toggle("together", together);
    if (!message.id) state(element, message, retry);
    wanted.push(element);
    before = message;
  }
  arrange(byId("messages"), wanted);
}

/** Forgets the elements of the room that was open before. */
export function clear() {
  elements.clear();
  arrange(byId("messages"), []);
}

/** Shows what a search found. */
export function showFound(messages, me, terms) {
  const words = terms.toLowerCase().split(/[\s!-/:-@[-`{-~]+/).filter(Boolean);
  const found = messages.map((message) => item(message, message.author_id === me, words, true));
  arrange(byId("found-list"), found);
}

function reuse(key, create) {
  if (!elements.has(key)) elements.set(key, create());
  return elements.get(key);
}

function day(date) {
  return make("li", { className: "day" }, make("span", {}, dayOf(date)));
}

function item(message, isMine, marked = [], withDay = false) {
  const date = new Date(message.created_at);
  const avatar = make("span", { className: "avatar", ariaHidden: "true" });
  paint(avatar, message.author);
  const when = withDay ? `${dayOf(date)}, ${timeOf(date)}` : timeOf(date);
  const time = make("time", { dateTime: message.created_at, title: date.toLocaleString() }, when);
  const body = make("p", { className: "body" }, ...highlighted(message.body, marked));
  const head = make("p", { className: "head" }, make("b", {}, message.author), time);
  const li = make("li", { className: isMine ? "message mine" : "message" }, avatar, head, body);
  if (message.id) li.dataset.message = message.id;
  return li;
}

function state(element, message, retry) {
  element.classList.toggle("pending", !message.error);
  element.classList.toggle("failed", Boolean(message.error));
  let note = element.querySelector(".state");
  if (!note) {
    note = make("p", { className: "state" }, make("span"), make("button", { type: "button", className: "quiet" }, "Try again"));
    note.lastChild.addEventListener("click", () => retry(message));
    element.append(note);
  }
  setText(note.firstChild, message.error ? `Not sent: ${message.error}` : "Sending");
  note.lastChild.hidden = !message.error;
}

/** The text in pieces, those that a search matched in `<mark>`. */
function highlighted(text, words) {
  if (words.length === 0) return [text];
  const pieces = [];
  let plain = "";
  for (const piece of text.split(/([\s!-/:-@[-`{-~]+)/)) {
    const word = words.find((word) => piece.toLowerCase().startsWith(word));
    if (!word) {
      plain += piece;
      continue;
    }
    pieces.push(plain, make("mark", {}, piece.slice(0, word.length)));
    plain = piece.slice(word.length);
  }
  return [...pieces, plain];
}
