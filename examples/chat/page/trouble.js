// What does not work right now, at the top of the page.

import { byId, setText } from "./dom.js";

const troubles = new Map();

/** `source` failed; it is shown until it works again. */
export function failed(source, error) {
  troubles.set(source, error.message);
  show();
}

export function worked(source) {
  if (troubles.delete(source)) show();
}

function show() {
  const [first] = troubles.values();
  byId("banner").hidden = !first;
  if (first) setText(byId("banner"), `${first[0].toUpperCase()}${first.slice(1)}. Trying again.`);
}
