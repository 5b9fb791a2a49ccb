// The page as a whole: which rooms there are, which one is open, and what keeps all of it up to date.

import * as api from "./api.js";
import * as charts from "./charts.js";
import * as conversation from "./conversation.js";
import { ask } from "./dialog.js";
import { byId, setText } from "./dom.js";
import { becomeSomeone, me } from "./me.js";
import * as nodes from "./nodes.js";
import * as rooms from "./rooms.js";
import * as search from "./search.js";
import * as trouble from "./trouble.js";

let known = [];
/** Rooms made here, which an answer under way does not list yet. */
const made = new Map();

async function refreshRooms() {
  const { answer } = await api.rooms(me.id);
  for (const room of answer) made.delete(room.id);
  known = [...made.values(), ...answer];
  showRooms();
  openFromAddress();
}

function showRooms() {
  const open = conversation.talk?.room;
  rooms.show(known, open?.id, conversation.readUpTo);
  const unread = known.reduce((sum, room) => sum + rooms.unreadOf(room, conversation.readUpTo), 0);
  const name = open ? `${open.name} · Chat` : "Chat";
  document.title = unread ? `(${unread}) ${name}` : name;
}

function openFromAddress() {
  const open = conversation.talk?.room;
  const id = Number(location.hash.replace("#room-", ""));
  const wanted = known.find((room) => room.id === id) ?? (open ? null : known[0]);
  if (!wanted && !open) conversation.showEmpty("There is no room yet. Make one with the + above the list of rooms.");
  if (!wanted || wanted.id === open?.id) return;
  // So that loading the page again opens the same room.
  history.replaceState(null, "", `#room-${wanted.id}`);
  search.close();
  conversation.open(wanted);
  byId("search-terms").disabled = false;
  showRooms();
  refreshTalk();
}

async function newRoom() {
  const room = await ask({
    title: "New room",
    note: "Everyone can read and write in it.",
    label: "Name of the room",
    ok: "Make it",
    value: known.length ? "" : "general",
    accept: async (name) => (await api.createRoom(name)).answer,
  });
  if (!room) return;
  made.set(room.id, { ...room, last_message: null, unread_count: 0 });
  known = [made.get(room.id), ...known];
  location.hash = `room-${room.id}`;
  openFromAddress();
  byId("compose-body").focus();
}

/** Repeats `work`, with its troubles shown under the name `source`. */
function keep(source, work, pause) {
  return api.repeat(work, pause, {
    failed: (error) => trouble.failed(source, error),
    worked: () => trouble.worked(source),
  });
}

let refreshTalk = () => {};

// On a narrow screen the panel starts folded: its summary says how many are healthy.
byId("nodes-panel").open = matchMedia("(min-width: 64rem)").matches;
keep("nodes", nodes.refresh, 1000);
byId("nodes-panel").addEventListener("toggle", keep("charts", charts.refresh, 1000));

await becomeSomeone();
byId("new-room").addEventListener("click", newRoom);
addEventListener("hashchange", openFromAddress);
conversation.start(showRooms);
search.start();
refreshTalk = keep("messages", conversation.refresh, 1000);
keep("rooms", refreshRooms, 2000);
