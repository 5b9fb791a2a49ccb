// The last minutes of the nodes, drawn: how far the replicas were behind, and who served the reads.

import * as api from "./api.js";
import { arrange, byId, draw, make } from "./dom.js";
import { tint } from "./tones.js";

/** Where the plot is in a drawing of 320 by 92. */
const PLOT = { left: 42, right: 318, top: 4, bottom: 76 };
/** Lag is drawn by its order of magnitude: from here, to here or to what was more. */
const LEAST_MS = 10;
const MOST_MS = 10_000;
/** Over it a replica leaves, unless the service is told otherwise. */
const THRESHOLD_MS = 1000;
/** A share is of the reads of so many looks, as on the cards. */
const WINDOW = 5;
/** After so many intervals without a look, nobody knows what was. */
const GAP = 3;

/** Asks once and draws the answer, unless the panel is folded. */
export async function refresh() {
  if (!byId("nodes-panel").open) return;
  const { answer } = await api.past();
  drawLag(answer);
  drawShares(answer);
  showLegend(answer);
  byId("charts").hidden = false;
}

function drawLag(past) {
  const replicas = past.nodes.filter((node) => node.lag_ms.some((lag) => lag !== null));
  const lags = replicas.flatMap((node) => node.lag_ms);
  const least = Math.log10(LEAST_MS);
  const most = Math.ceil(Math.log10(Math.max(MOST_MS, ...lags)));
  const y = (ms) => height((Math.log10(Math.max(ms, LEAST_MS)) - least) / (most - least));
  const decades = Array.from({ length: most - least + 1 }, (_, above) => 10 ** (least + above));
  const lines = replicas.map((node) => {
    // What takes no reads is drawn otherwise.
    const kindOf = (look) => (node.health[look] === "healthy" ? "line" : "line out");
    const kinds = runs(past, (look) => (node.lag_ms[look] === null ? null : kindOf(look)));
    const line = ({ kind, looks }) => {
      const points = looks.map((look) => [x(past, look), y(node.lag_ms[look])]);
      return draw("path", { class: kind, d: path(points) });
    };
    return ofNode(node, kinds.map(line));
  });
  const over = { x: PLOT.left, y: PLOT.top, width: PLOT.right - PLOT.left, height: y(THRESHOLD_MS) - PLOT.top };
  byId("lag-chart").replaceChildren(
    draw("rect", { class: "over", ...over }),
    ...decades.map((ms) => mark(y(ms), duration(ms), ms === THRESHOLD_MS ? "threshold" : "grid")),
    ...span(past),
    ...lines,
  );
  const now = replicas.map((node) => {
    const lag = node.lag_ms.at(-1);
    return `${node.name} ${lag === null ? "unknown" : `at most ${duration(lag)}`}`;
  });
  describe("lag-chart", `Lag of the replicas over ${minutes(past)}`, now);
}

function drawShares(past) {
  const recent = past.nodes.map((node) => trailing(node.reads));
  const all = past.ages_ms.map((_, look) => recent.reduce((sum, reads) => sum + reads[look], 0));
  const withReads = runs(past, (look) => (all[look] > 0 ? "area" : null));
  const below = all.map(() => 0);
  const areas = past.nodes.map((node, index) => {
    const from = below.slice();
    recent[index].forEach((reads, look) => (below[look] += reads));
    const edge = (looks, reads) => looks.map((look) => [x(past, look), height(reads[look] / all[look])]);
    const area = ({ kind, looks }) => {
      const outline = [...edge(looks, below), ...edge(looks, from).reverse()];
      return draw("path", { class: kind, d: `${path(outline)}Z` });
    };
    return ofNode(node, withReads.map(area));
  });
  const marks = [0, 0.5, 1].map((share) => mark(height(share), percent(share), "grid"));
  byId("share-chart").replaceChildren(...areas, ...marks, ...span(past));
  const total = all.at(-1);
  const share = (reads) => (total ? reads.at(-1) / total : 0);
  const now = past.nodes.map((node, index) => `${node.name} ${percent(share(recent[index]))}`);
  describe("share-chart", `Share of the reads over ${minutes(past)}`, now);
}

const entries = new Map();

function showLegend(past) {
  for (const { name } of past.nodes) {
    if (entries.has(name)) continue;
    const swatch = make("span", { className: "swatch", ariaHidden: "true" });
    const entry = make("li", {}, swatch, name);
    tint(entry, name);
    entries.set(name, entry);
  }
  arrange(byId("legend"), past.nodes.map(({ name }) => entries.get(name)));
}

/** The looks in runs without a gap in which `kindOf` says the same; `null` is a gap. A run begins where the one before it ends. */
function runs(past, kindOf) {
  const found = [];
  let kind = null;
  past.ages_ms.forEach((age, look) => {
    const isLate = look > 0 && past.ages_ms[look - 1] - age > GAP * past.interval_ms;
    const before = isLate ? null : kind;
    kind = kindOf(look);
    if (kind === null) return;
    if (kind !== before) found.push({ kind, looks: before === null ? [] : [look - 1] });
    found.at(-1).looks.push(look);
  });
  return found;
}

/** For each look the sum of it and those just before. */
function trailing(counts) {
  const sum = (some) => some.reduce((sum, count) => sum + count, 0);
  return counts.map((_, look) => sum(counts.slice(Math.max(0, look - WINDOW + 1), look + 1)));
}

const x = (past, look) => PLOT.right - Math.min(1, past.ages_ms[look] / past.span_ms) * (PLOT.right - PLOT.left);
const height = (share) => PLOT.bottom - share * (PLOT.bottom - PLOT.top);

/** Through all points; a single one is a dot. */
function path(points) {
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L");
  return points.length > 1 ? `M${line}` : `M${line}h0`;
}

function ofNode({ name }, shapes) {
  const group = draw("g", {}, draw("title", {}, name), ...shapes);
  group.dataset.of = name;
  tint(group, name);
  return group;
}

/** A horizontal line with what it stands for. */
const mark = (y, text, kind) =>
  draw(
    "g",
    { class: kind },
    draw("line", { x1: PLOT.left, x2: PLOT.right, y1: y, y2: y }),
    draw("text", { x: PLOT.left - 5, y: y + 3, "text-anchor": "end" }, text),
  );

/** From when to when. */
const span = (past) => [
  draw("text", { x: PLOT.left, y: PLOT.bottom + 13 }, `${past.span_ms / 60_000} min ago`),
  draw("text", { x: PLOT.right, y: PLOT.bottom + 13, "text-anchor": "end" }, "now"),
];

/** For those who do not see the chart. */
function describe(id, what, now) {
  byId(id).setAttribute("aria-label", `${what}. Now: ${now.join(", ") || "nothing"}.`);
}

const minutes = (past) => `the last ${past.span_ms / 60_000} minutes`;
const percent = (share) => `${Math.round(share * 100)} %`;
const duration = (ms) => (ms < 1000 ? `${ms} ms` : `${Number((ms / 1000).toFixed(1))} s`);
