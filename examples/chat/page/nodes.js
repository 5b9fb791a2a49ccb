// The panel of the nodes: who is healthy, how far behind, and who serves the reads.

import * as api from "./api.js";
import { arrange, byId, make, setText, short, timeOf } from "./dom.js";

/** Shares and rates are of the last so many looks, one a second. */
const WINDOW = 5;
const EVENTS = 30;

const cards = new Map();

/** Asks once and shows the answer. */
export async function refresh() {
  const { answer } = await api.status();
  const now = performance.now();
  const nodes = answer.nodes;
  for (const node of nodes) {
    if (!cards.has(node.name)) cards.set(node.name, new Card(node.name));
    cards.get(node.name).look(node, now);
  }
  for (const name of cards.keys()) {
    if (!nodes.some((node) => node.name === name)) cards.delete(name);
  }
  const shown = nodes.map((node) => cards.get(node.name));
  const reads = shown.reduce((sum, card) => sum + card.rate("reads"), 0);
  for (const card of shown) card.show(reads);
  arrange(byId("nodes"), shown.map((card) => card.element));

  const healthy = nodes.filter((node) => node.health === "healthy").length;
  setText(byId("healthy"), `${healthy} of ${nodes.length} healthy`);
  byId("healthy").classList.toggle("bad", healthy < nodes.length);
}

/** One node. */
class Card {
  constructor(name) {
    this.looks = [];
    this.role = make("span", { className: "role" });
    this.health = make("span", { className: "health" });
    this.reason = make("p", { className: "reason" });
    this.lag = make("dd");
    this.behind = make("dd");
    this.inFlight = make("dd");
    this.writes = make("dd");
    this.share = make("span", { className: "share" });
    this.meter = make("div", { className: "meter" }, make("div"));
    this.meter.setAttribute("role", "img");
    const fact = (term, value) => make("div", {}, make("dt", {}, term), value);
    this.lagFacts = [fact("Lag", this.lag), fact("Behind", this.behind)];
    this.element = make(
      "li",
      { className: "node" },
      make("header", {}, make("h3", {}, name), this.health),
      this.reason,
      make(
        "dl",
        {},
        ...this.lagFacts,
        fact("In flight", this.inFlight),
        fact("Writes", this.writes),
      ),
      make("p", { className: "reads" }, make("span", {}, "Reads"), this.share),
      this.meter,
    );
    this.element.querySelector("h3").append(this.role);
    this.element.dataset.node = name;
  }

  look(node, at) {
    const before = this.looks.at(-1)?.node;
    if (before && before.health !== node.health) tell(node, before);
    this.looks.push({ node, at });
    if (this.looks.length > WINDOW + 1) this.looks.shift();
  }

  /** How many a second, of `reads` or `writes`. */
  rate(counter) {
    const first = this.looks[0];
    const last = this.looks.at(-1);
    const seconds = (last.at - first.at) / 1000;
    return seconds > 0 ? Math.max(0, last.node[counter] - first.node[counter]) / seconds : 0;
  }

  show(allReads) {
    const { node } = this.looks.at(-1);
    this.element.dataset.health = node.health;
    this.element.dataset.role = node.role;
    setText(this.role, node.role);
    setText(this.health, node.health);
    const isPrimary = node.role === "primary";
    setText(this.reason, node.reason);
    // Of a healthy node the reason is its lag, which stands below, unless that is unknown.
    this.reason.hidden = node.health === "healthy" && (isPrimary || node.lag_ms !== null);
    for (const fact of this.lagFacts) fact.hidden = isPrimary;
    setText(this.lag, node.lag_ms === null ? "unknown" : milliseconds(node.lag_ms));
    setText(this.behind, node.lag_bytes === null ? "unknown" : bytes(node.lag_bytes));
    setText(this.inFlight, String(node.in_flight));
    setText(this.writes, short(node.writes));

    const share = allReads > 0 ? this.rate("reads") / allReads : 0;
    const percent = Math.round(share * 100);
    setText(this.share, `${percent} % · ${short(node.reads)} in all`);
    this.meter.firstChild.style.width = `${share * 100}%`;
    this.meter.setAttribute("aria-label", `${percent} percent of the reads`);
  }
}

/** A line in the list of what happened. */
function tell(node, before) {
  byId("no-events").hidden = true;
  const events = byId("events");
  const good = node.health === "healthy";
  const why = good ? "" : `: ${node.reason}`;
  const line = make(
    "li",
    { className: good ? "good" : "bad" },
    make("time", { dateTime: new Date().toISOString() }, timeOf(new Date())),
    make("span", {}, make("b", {}, node.name), ` ${before.health} → ${node.health}${why}`),
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
