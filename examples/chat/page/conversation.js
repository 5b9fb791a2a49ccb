// The room that is open: what is in it, and writing in it.

import * as api from "./api.js";
import { byId, setText } from "./dom.js";
import { me } from "./me.js";
import * as messages from "./messages.js";
import * as trouble from "./trouble.js";

const PAGE = 50;
/** A page that was away reads at most so many pages to close the gap; what is older comes with the older messages. */
const GAP_PAGES = 20;
/** How near the beginning or the end counts as there, in pixels. */
const NEAR = 80;

/** What is known of the open room, if one is open. */
export let talk = null;

/** How far each room was read on this page. */
export const readUpTo = new Map();

/** Called when a room was read further. */
let whenRead = () => {};

export function start(onRead) {
  whenRead = onRead;
  byId("older").addEventListener("click", loadOlder);
  byId("newest").addEventListener("click", () => {
    scrollToEnd();
    body.focus();
  });
  scroller.addEventListener("scroll", () => {
    if (isAtEnd()) caughtUp();
    else if (scroller.scrollTop < NEAR) loadOlder();
  });
  document.addEventListener("visibilitychange", () => isAtEnd() && caughtUp());
  byId("compose").addEventListener("submit", compose);
  body.addEventListener("input", fitBody);
  body.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("compose").requestSubmit();
  });
}

export function open(room) {
  talk = new messages.Talk(room);
  messages.clear();
  byId("newest").hidden = true;
  byId("older").hidden = true;
  setText(byId("room-name"), room.name);
  for (const field of byId("compose").elements) field.disabled = false;
  showEmpty(null);
}

/** Fetches the newest messages, and what lies between them and those that are there. */
export async function refresh() {
  if (!talk) return;
  const here = talk;
  const isFirst = !here.isLoaded;
  const fresh = [];
  let before;
  for (let page = 0; page < GAP_PAGES; page += 1) {
    const answer = await fetchPage(here, before);
    if (here !== talk) return;
    const added = here.add(answer);
    fresh.push(...added);
    if (isFirst) {
      here.isLoaded = true;
      here.atBeginning = answer.length < PAGE;
    }
    if (isFirst || added.length < PAGE) break;
    before = answer.at(-1).id;
  }
  if (fresh.length || isFirst) show({ toEnd: isFirst });
  if (!isFirst) announce(fresh.filter((message) => message.author_id !== me.id));
  caughtUp();
}

async function fetchPage(here, before) {
  const { answer, node } = await api.history(here.room.id, before);
  setText(byId("served-by"), node);
  return answer;
}

const scroller = byId("scroller");
const distanceToEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
const isAtEnd = () => !scroller.hidden && distanceToEnd() < NEAR;

export function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

/** Shows the talk, and stays where the reader is unless that is the end. */
function show({ toEnd = false } = {}) {
  const follow = toEnd || isAtEnd();
  messages.show(talk, me.id, send);
  byId("older").hidden = talk.atBeginning || !talk.isLoaded;
  const isEmpty = talk.known.size + talk.unsent.length === 0;
  showEmpty(isEmpty ? "Nobody has written here yet." : null);
  if (follow) scrollToEnd();
}

export function showEmpty(text) {
  byId("empty").hidden = !text;
  setText(byId("empty"), text ?? "");
}

function announce(fresh) {
  if (fresh.length === 0) return;
  const last = fresh.reduce((a, b) => (a.id > b.id ? a : b));
  const text = fresh.length > 1 ? `${fresh.length} new messages` : `${last.author}: ${last.body}`;
  setText(byId("announce"), text);
  byId("newest").hidden = isAtEnd() || scroller.hidden;
}

async function loadOlder() {
  const here = talk;
  const button = byId("older");
  if (!here?.isLoaded || button.disabled || here.atBeginning) return;
  button.disabled = true;
  try {
    const answer = await fetchPage(here, here.oldest);
    if (here !== talk) return;
    here.add(answer);
    here.atBeginning = answer.length < PAGE;
    const fromEnd = distanceToEnd();
    show();
    scroller.scrollTop = scroller.scrollHeight - scroller.clientHeight - fromEnd;
    trouble.worked("older");
  } catch (error) {
    trouble.failed("older", error);
  } finally {
    button.disabled = false;
  }
}

/** Tells the service how far the reader has come, who is at the end and looks. */
async function caughtUp() {
  if (document.hidden || !isAtEnd()) return;
  byId("newest").hidden = true;
  const newest = talk?.newest;
  if (!newest || newest <= (readUpTo.get(talk.room.id) ?? 0)) return;
  const room = talk.room.id;
  readUpTo.set(room, newest);
  whenRead();
  // Not worth a word if it fails: the next message marks the room anew.
  await api.markRead(room, { user_id: me.id, message_id: newest }).catch(() => {});
}

const body = byId("compose-body");

function compose(event) {
  event.preventDefault();
  const text = body.value.trim();
  if (!text || !talk) return;
  body.value = "";
  fitBody();
  body.focus();
  send({
    author_id: me.id,
    author: me.name,
    body: text,
    client_key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`,
    created_at: new Date().toISOString(),
  });
}

/** Shows the message at once and sends it. The key lets the same one be sent again without being posted twice. */
async function send(message) {
  const here = talk;
  delete message.error;
  if (!here.unsent.includes(message)) here.unsent.push(message);
  show({ toEnd: true });
  const { author_id, body, client_key } = message;
  try {
    const { answer } = await api.post(here.room.id, { author_id, body, client_key });
    here.add([answer]);
    here.unsent = here.unsent.filter((other) => other !== message);
  } catch (error) {
    message.error = error.message;
  }
  if (here !== talk) return;
  show();
  caughtUp();
}

/** Lets the box grow with what is written. */
function fitBody() {
  body.style.height = "auto";
  body.style.height = `${body.scrollHeight + 2}px`;
}
