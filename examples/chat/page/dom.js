// Elements. What people wrote only ever becomes text, never markup.

/** The element of that id, which the page holds. */
export const byId = (id) => document.getElementById(id);

/** A new element: `make("p", { className: "note" }, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A new element of a drawing, of which the page holds at least one: `draw("path", { d: "M0,0" }, child)`. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(document.querySelector("svg").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Sets text only where it differs, so that nothing is announced or selected anew for no reason. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the children of `parent` be `wanted`, in this order, moving as few as possible. */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}

/** A colour for a name, the same on every page. */
export function paint(avatar, name) {
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  avatar.style.setProperty("--hue", hue);
  const words = name.split(/\s+/).filter(Boolean);
  const initials = words.slice(0, 2).map((word) => [...word][0]);
  setText(avatar, initials.join("").toUpperCase());
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

export const timeOf = (date) => clock.format(date);
export const dayOf = (date) => calendar.format(date);

/** 1234 as 1.2 k: a node's counters grow without end. */
export function short(number) {
  if (number < 1000) return String(Math.round(number));
  const [unit, size] = number < 1e6 ? ["k", 1e3] : ["M", 1e6];
  return `${(number / size).toFixed(1)} ${unit}`;
}
