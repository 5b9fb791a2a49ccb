// How much of the database this browser has seen, as a causal token. Sent with every request, it keeps each read at least that
// new, whichever replica answers, after a reload and in all windows. Of two texts of tokens the greater is the later.

import { keep, recall } from "./storage.js";

const NAME = "causal-token";

let mine = "";
/** A token that stands for nothing any more, which another window may still put back. */
let refused = "";

/** The greatest token that this window or another one was given; empty if none was. */
export function current() {
  const kept = recall(NAME);
  if (kept > mine && kept !== refused) mine = kept;
  // Two windows that write at once leave the token of one.
  if (kept !== mine) keep(NAME, mine);
  return mine;
}

/** Takes the token that came with the answer, if not `null`, to a request that `sent` one. */
export function take(token, sent) {
  if (token === null) return;
  if (token < sent) {
    // An answer is at least as new as what was sent along, unless the service has dropped that: of a database that is gone, say.
    refused = sent;
    if (mine === sent) mine = "";
  }
  if (token > mine) mine = token;
  current();
}
