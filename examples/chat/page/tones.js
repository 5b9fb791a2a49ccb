// A colour for each node, the same wherever it shows: its card, the charts and their legend.

/** How many there are in charts.css; of more nodes, some look alike. */
const TONES = 8;

const given = new Map();

/** Gives an element the colour of the node of that name, as `--tone`. */
export function tint(element, name) {
  if (!given.has(name)) given.set(name, given.size % TONES);
  element.style.setProperty("--tone", `var(--tone-${given.get(name)})`);
}
