// The list of rooms.

import { arrange, byId, make, setText } from "./dom.js";

const items = new Map();

/**
 * Shows `rooms`, with the one of id `current` marked. The unread counts were on their way while we
 * read on: what `readUpTo` knows wins.
 */
export function show(rooms, current, readUpTo) {
  for (const room of rooms) {
    if (!items.has(room.id)) items.set(room.id, item(room));
    fill(items.get(room.id), room, room.id === current, unreadOf(room, readUpTo));
  }
  arrange(byId("rooms"), rooms.map((room) => items.get(room.id)));
}

function item(room) {
  const link = make(
    "a",
    { href: `#room-${room.id}` },
    make("span", { className: "name" }, room.name),
    make("span", { className: "badge" }),
    make("span", { className: "last" }),
  );
  const li = make("li", {}, link);
  li.dataset.room = room.id;
  return li;
}

function fill(li, room, isCurrent, unread) {
  const link = li.firstChild;
  const [, badge, last] = link.children;
  if (isCurrent) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");

  setText(badge, unread > 99 ? "99+" : String(unread));
  badge.hidden = unread === 0;
  const label = unread ? `${room.name}, ${unread} unread` : room.name;
  if (link.getAttribute("aria-label") !== label) link.setAttribute("aria-label", label);
  const newest = room.last_message;
  setText(last, newest ? `${newest.author}: ${newest.body}` : "No messages yet");
}

/** How many messages of others are unread, as far as this page knows. */
export function unreadOf(room, readUpTo) {
  const read = readUpTo.get(room.id) ?? 0;
  return room.last_message && room.last_message.id <= read ? 0 : (room.unread_count ?? 0);
}
