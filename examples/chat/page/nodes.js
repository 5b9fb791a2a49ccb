// The panel of the nodes: who takes the writes, who is healthy, how far behind, and who serves the reads.

import * as api from "./api.js";
import { arrange, byId, make, setText, short, timeOf } from "./dom.js";
import { tint } from "./tones.js";

/** Shares and rates are of the last so many looks, one a second. */
const WINDOW = 5;
const EVENTS = 30;

/** A sign for each state of health, for eyes that colours do not help. */
const SIGNS = {
  unproven: "?",
  healthy: "✓",
  lagging: "◷",
  unreachable: "✕",
  ejected: "⇧",
  draining: "⇩",
  refused: "⊘",
};

const cards = new Map();
/** The node that took the writes last. */
let leader;
let lastAnswer;

/** Asks once and shows the answer. */
export async function refresh() {
  const { answer } = await api.status();
  if (lastAnswer) tellChanges(lastAnswer, answer);
  lastAnswer = answer;
  const now = performance.now();
  leader = answer.nodes.find((node) => node.serves_writes)?.name ?? leader;
  // The others stay in their order.
  const nodes = [...answer.nodes].sort((a, b) => (b.name === leader) - (a.name === leader));
  // In the order of the service, which gives each its colour.
  for (const node of answer.nodes) {
    if (!cards.has(node.name)) cards.set(node.name, new Card(node.name));
    cards.get(node.name).look(node, now);
  }
  for (const name of cards.keys()) {
    if (!nodes.some((node) => node.name === name)) cards.delete(name);
  }
  const shown = nodes.map((node) => cards.get(node.name));
  const reads = shown.reduce((sum, card) => sum + card.recent("reads"), 0);
  for (const card of shown) card.show(reads, Boolean(answer.no_primary));
  arrange(byId("nodes"), shown.map((card) => card.element));

  const healthy = nodes.filter((node) => node.health === "healthy").length;
  setText(byId("healthy"), `${healthy} of ${nodes.length} healthy`);
  byId("healthy").classList.toggle("bad", healthy < nodes.length);
  byId("no-primary").hidden = !answer.no_primary;
  if (answer.no_primary) setText(byId("no-primary"), `Writes fail: ${answer.no_primary}.`);
}

/** One node. */
class Card {
  constructor(name) {
    this.looks = [];
    this.crown = make("span", { className: "crown", ariaHidden: "true" }, "♛");
    this.role = make("span");
    this.sign = make("span", { ariaHidden: "true" });
    this.health = make("span");
    this.reason = make("p", { className: "reason" });
    this.halted = make("p", { className: "halted" });
    this.timeline = make("dd");
    this.version = make("dd");
    this.lag = make("dd");
    this.behind = make("dd");
    this.inFlight = make("dd");
    this.failed = make("dd", { className: "failures" });
    this.writes = make("span");
    this.share = make("span", { className: "share" });
    this.meter = make("div", { className: "meter" }, make("div"));
    this.meter.setAttribute("role", "img");
    const swatch = make("span", { className: "swatch", ariaHidden: "true" });
    const fact = (term, value) => make("div", {}, make("dt", {}, term), value);
    const work = (term, value) => make("p", { className: "work" }, make("span", {}, term), value);
    this.lagFacts = [fact("Lag", this.lag), fact("Behind", this.behind)];
    this.writesLine = work("Writes", this.writes);
    this.element = make(
      "li",
      { className: "node" },
      make("header", {}, make("h3", {}, swatch, name), make("p", { className: "health" }, this.sign, this.health)),
      make("p", { className: "role" }, this.crown, this.role),
      this.reason,
      this.halted,
      make(
        "dl",
        {},
        fact("Timeline", this.timeline),
        fact("Version", this.version),
        ...this.lagFacts,
        fact("In flight", this.inFlight),
        fact("Failed", this.failed),
      ),
      this.writesLine,
      work("Reads", this.share),
      this.meter,
    );
    this.element.dataset.node = name;
    tint(this.element, name);
  }

  look(node, at) {
    this.looks.push({ node, at });
    if (this.looks.length > WINDOW + 1) this.looks.shift();
  }

  /** How much a counter has grown in the last seconds. It begins anew with the service, and `writes` with each promotion. */
  recent(counter) {
    return Math.max(0, this.looks.at(-1).node[counter] - this.looks[0].node[counter]);
  }

  /** How much a counter grows in a second. */
  rate(counter) {
    const seconds = (this.looks.at(-1).at - this.looks[0].at) / 1000;
    return seconds > 0 ? this.recent(counter) / seconds : 0;
  }

  show(allReads, hasNoPrimary) {
    const { node } = this.looks.at(-1);
    this.element.dataset.health = node.health;
    this.crown.hidden = !node.serves_writes;
    setText(this.sign, SIGNS[node.health] ?? "?");
    setText(this.health, node.health);
    setText(this.role, roleOf(node));
    const isPrimary = node.role === "primary";
    setText(this.reason, node.reason);
    // Of a healthy node the reason is its lag, which stands below, unless nobody can tell that.
    const isVerified = isPrimary || (node.lag_ms !== null && !hasNoPrimary);
    this.reason.hidden = node.health === "healthy" && isVerified;
    const halted = haltedIn(node);
    setText(this.halted, halted);
    this.halted.hidden = !halted;

    setText(this.timeline, node.timeline === null ? "unknown" : String(node.timeline));
    setText(this.version, node.version ?? "unknown");
    for (const fact of this.lagFacts) fact.hidden = isPrimary;
    setText(this.lag, node.lag_ms === null ? "unknown" : milliseconds(node.lag_ms));
    setText(this.behind, node.lag_bytes === null ? "unknown" : bytes(node.lag_bytes));
    setText(this.inFlight, String(node.in_flight));
    const fresh = this.recent("failed");
    setText(this.failed, fresh ? `${short(node.failed)} (+${short(fresh)})` : short(node.failed));
    this.failed.classList.toggle("bad", fresh > 0);

    this.writesLine.hidden = !node.serves_writes;
    setText(this.writes, `${this.rate("writes").toFixed(1)} a second · ${short(node.writes)} in all`);
    const share = allReads > 0 ? this.recent("reads") / allReads : 0;
    const percent = Math.round(share * 100);
    setText(this.share, `${percent} % · ${short(node.reads)} in all`);
    this.meter.firstChild.style.width = `${share * 100}%`;
    this.meter.setAttribute("aria-label", `${percent} percent of the reads`);
  }
}

/** What a node is, and what it serves. */
function roleOf(node) {
  const serves = ["reads", "writes"].filter((what) => node[`serves_${what}`]).join(" and ");
  const parts = [node.role, `serves ${serves || "nothing"}`];
  if (node.spare) parts.push("spare");
  if (node.zone) parts.push(`zone ${node.zone}`);
  if (node.weight !== 1) parts.push(`weight ${node.weight}`);
  return parts.join(" · ");
}

/** What of its replication stands still, and what it does not do or tell. */
function haltedIn(node) {
  const halted = [];
  if (node.replay_paused) halted.push("replay is paused");
  if (node.receiver === "stopped") halted.push("receives no log");
  return [...halted, ...node.limitations].join(", ");
}

/** Puts what is not as it was into the list of what happened. */
function tellChanges(before, now) {
  const known = new Map(before.nodes.map((node) => [node.name, node]));
  for (const node of now.nodes) {
    const was = known.get(node.name);
    known.delete(node.name);
    if (!was) tell(node.name, `added, ${node.health}`);
    else tellChangesOf(node, was);
  }
  for (const name of known.keys()) tell(name, "removed");
  if (now.no_primary && !before.no_primary) tell("writes", `fail: ${now.no_primary}`, "bad");
}

function tellChangesOf(node, was) {
  const takesOver = node.serves_writes && !was.serves_writes;
  if (node.role !== was.role && !takesOver) tell(node.name, `${was.role} → ${node.role}`);
  if (node.health !== was.health) {
    const good = node.health === "healthy";
    tell(node.name, `${was.health} → ${node.health}${good ? "" : `: ${node.reason}`}`, good ? "good" : "bad");
  }
  if (takesOver) tell(node.name, "takes the writes", "good");
}

/** A line in the list of what happened, which may be "good" or "bad". */
function tell(subject, text, kind = "") {
  byId("no-events").hidden = true;
  const events = byId("events");
  const line = make(
    "li",
    { className: kind },
    make("time", { dateTime: new Date().toISOString() }, timeOf(new Date())),
    make("span", {}, make("b", {}, subject), ` ${text}`),
  );
  events.prepend(line);
  while (events.children.length > EVENTS) events.lastChild.remove();
}

const milliseconds = (ms) => (ms < 1000 ? `≤ ${ms} ms` : `≤ ${(ms / 1000).toFixed(1)} s`);

function bytes(count) {
  if (count < 1024) return `${count} B`;
  const [unit, size] = count < 1024 ** 2 ? ["KiB", 1024] : ["MiB", 1024 ** 2];
  return `${(count / size).toFixed(1)} ${unit}`;
}
