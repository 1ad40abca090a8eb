// Elements, made from data without ever reading data as markup: every text becomes a text node.

const SVG = "http://www.w3.org/2000/svg";
// Attributes that may be set at all. None of them runs anything, and none but our own places is linked to.
const ATTRIBUTES = new Set([
  "class", "id", "for", "type", "name", "value", "placeholder", "title", "role", "tabindex", "dir", "lang", "colspan", "scope", "open",
  "autocomplete", "spellcheck", "inputmode", "enterkeyhint", "datetime", "min", "max", "rows", "required", "disabled", "checked",
  "viewBox", "preserveAspectRatio", "cx", "cy", "r", "x", "y", "x1", "x2", "y1", "y2", "d", "width", "height", "rx", "text-anchor", "dominant-baseline", "method",
]);

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "href") {
      if (String(value).startsWith("#")) element.setAttribute("href", value);
    } else if (name.startsWith("aria-") || name.startsWith("data-") || ATTRIBUTES.has(name)) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => fill(document.createElementNS(SVG, tag), properties, children);

// What others wrote: in its own direction, so that right-to-left text leaves the line around it alone.
export const data = (text, className) => h("bdi", { class: className, dir: "auto" }, shown(text));

// Signs that act on a reader's eye without being seen, made visible: the same as on a terminal.
export function shown(text) {
  return String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u2028\u2029]/g, (sign) =>
    `\\u{${sign.codePointAt(0).toString(16)}}`);
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
}

export const number = (value) => Number(value ?? 0).toLocaleString("en").replaceAll(",", "\u202f");

export function plural(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

const utc = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", dateStyle: "medium", timeStyle: "short" });
const here = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const both = (date) => `${utc.format(date)} UTC, ${here.format(date)} ${zone}`;

export function ago(date, now = Date.now()) {
  const seconds = Math.round((now - date.getTime()) / 1000);
  const [size, ahead] = [Math.abs(seconds), seconds < 0];
  const said = size < 60 ? "moments" : size < 3600 ? `${Math.floor(size / 60)} min` : size < 172800 ? `${Math.floor(size / 3600)} h` : `${Math.floor(size / 86400)} days`;
  return ahead ? `in ${said}` : `${said} ago`;
}

// A moment: how long ago, and both clocks for whoever looks closer.
export function when(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return h("span", { class: "quiet" }, "never");
  return h("time", { datetime: date.toISOString(), title: both(date) }, ago(date));
}

// The same, written out.
export function moment(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return h("span", { class: "quiet" }, "never");
  return h("time", { datetime: date.toISOString(), class: "moment" }, `${utc.format(date)} UTC`, h("span", { class: "quiet" }, ` ${here.format(date)} ${zone}`));
}

export function tlp(label) {
  const name = String(label ?? "").replace(/^TLP:/, "");
  return h("span", { class: `tlp tlp-${name.toLowerCase().replace(/[^a-z]/g, "-")}` }, `TLP:${shown(name)}`);
}

export function chip(text, tone) {
  return h("span", { class: `chip ${tone ?? ""}` }, shown(text));
}
