// Searching in the room that is open.

import * as api from "./api.js";
import * as conversation from "./conversation.js";
import { byId, setText } from "./dom.js";
import { me } from "./me.js";
import * as messages from "./messages.js";
import * as trouble from "./trouble.js";

const PAGE = 50;
const TYPING_PAUSE = 200;

const terms = byId("search-terms");

/** Counts the searches, so that a late answer does not replace that of a later search. */
let latest = 0;

export function start() {
  let typing;
  terms.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(search, TYPING_PAUSE);
  });
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  byId("found-close").addEventListener("click", leave);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("found").hidden) leave();
  });
}

async function search() {
  const wanted = terms.value.trim();
  if (!wanted || !conversation.talk) return close();
  const mine = (latest += 1);
  try {
    const { answer, node } = await api.search(conversation.talk.room.id, wanted);
    trouble.worked("search");
    if (mine !== latest) return;
    setText(byId("served-by"), node);
    setText(byId("found-title"), `${amount(answer.length)} for “${wanted}”`);
    messages.showFound(answer, me.id, wanted);
    byId("found").hidden = false;
    byId("scroller").hidden = true;
  } catch (error) {
    trouble.failed("search", error);
  }
}

function amount(found) {
  if (found === PAGE) return `The newest ${PAGE} messages`;
  if (found === 1) return "One message";
  return `${found || "No"} messages`;
}

function leave() {
  close();
  byId("compose-body").focus();
}

/** Back to the room. */
export function close() {
  latest += 1;
  terms.value = "";
  trouble.worked("search");
  if (byId("found").hidden) return;
  byId("found").hidden = true;
  byId("scroller").hidden = false;
  conversation.scrollToEnd();
}
