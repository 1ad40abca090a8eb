// Parts that several places show: charts, tables, dialogs.

import { data, h, number, replace, s, shown, tlp, when } from "./dom.js";
import { Refused } from "./api.js";

// A bar of parts: [[count, tone, name], ...].
export function bar(parts, label) {
  const whole = parts.reduce((sum, [count]) => sum + count, 0) || 1;
  let from = 0;
  const said = parts.map(([count, , name]) => `${number(count)} ${name}`).join(", ");
  return s("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${said}` },
    parts.filter(([count]) => count > 0).map(([count, tone]) => {
      const width = Math.max((100 * count) / whole, 0.8);
      const part = s("rect", { class: `part-${tone}`, x: from, y: 0, width, height: 10 });
      from += (100 * count) / whole;
      return part;
    }));
}

export function meter(value) {
  const tone = value >= 80 ? "good" : value >= 50 ? "look" : "quiet";
  return h("span", { class: "meter" }, bar([[value, tone, "of 100"], [100 - value, "none", "left"]], "confidence"), h("span", {}, `${value}`));
}

export function table(heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "table" },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: head.startsWith("#") ? "figure" : undefined }, head.replace("#", ""))))),
      h("tbody", {}, rows)));
}

const TONES = { accepted: "good", held: "look", refused: "act", withdrawn: "act", over: "", waiting: "look", quarantined: "act" };
export const standing = (text) => h("span", { class: `chip ${TONES[text] ?? ""}` }, shown(text));

// The ring of members: we in the middle, everyone else around, the line says how we stand with each.
export function ring(members) {
  const [own, others] = [members.find((one) => one.own), members.filter((one) => !one.own)];
  const [size, middle] = [560, 280];
  const radius = others.length > 24 ? 232 : 196;
  const tone = (one) => (one.nodes.length === 0 ? "off" : one.behind > 0 || one.withheld > 0 ? "look" : "good");
  const [lines, circles] = [[], []];
  others.forEach((one, index) => {
    const angle = (2 * Math.PI * index) / others.length - Math.PI / 2;
    const [x, y] = [middle + radius * Math.cos(angle), middle + radius * Math.sin(angle)];
    lines.push(s("line", { class: tone(one), x1: middle, y1: middle, x2: x, y2: y }));
    const spot = 8 + Math.min(14, 3 * Math.log10(1 + one.records));
    // Above us its name stands over it, so that no line runs through it.
    const below = y < middle - 40 ? y - spot - 26 : y + spot + 20;
    circles.push(s("circle", { class: tone(one), cx: x, cy: y, r: spot }, s("title", {}, `${one.id}: ${number(one.records)} records`)));
    if (others.length <= 24) {
      circles.push(s("text", { class: "name", x, y: below, "text-anchor": "middle" }, shown(one.id)));
      circles.push(s("text", { class: "detail", x, y: below + 17, "text-anchor": "middle" },
        one.nodes.length === 0 ? "silent" : one.behind > 0 ? `${number(one.behind)} batches to come` : `${number(one.records)} records`));
    }
  });
  const connected = others.filter((one) => one.nodes.length > 0).length;
  return s("svg", { class: "ring", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${connected} of ${others.length} other members are connected` },
    lines, s("circle", { class: "own", cx: middle, cy: middle, r: 30 }), circles,
    s("text", { class: "name", x: middle, y: middle + 54, "text-anchor": "middle" }, shown(own?.id ?? "")));
}

// Asks before something is done; answers what was filled in, or nothing.
export function confirm({ title, text, fields = [], action, tone = "main" }) {
  return new Promise((resolve) => {
    const inputs = new Map();
    const rows = fields.map(({ name, label, placeholder, required, type, value }) => {
      const input = h("input", { name, type: type ?? "text", placeholder, required, value, autocomplete: "off", id: `ask-${name}` });
      inputs.set(name, input);
      return type === "checkbox" ? h("label", { class: "row" }, input, label) : h("label", { for: `ask-${name}` }, label, input);
    });
    const close = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const dialog = h("dialog", { "aria-label": title },
      h("form", {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          close(Object.fromEntries([...inputs].map(([name, input]) => [name, input.type === "checkbox" ? input.checked : input.value.trim()])));
        },
      },
      h("h2", {}, title), text && h("p", {}, text), rows,
      h("div", { class: "row" }, h("button", { type: "submit", class: tone }, action), h("button", { type: "button", onclick: () => close(undefined) }, "Leave it"))));
    dialog.addEventListener("cancel", () => close(undefined));
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Does something that may be refused, and says at `place` what came of it.
export async function attempt(place, work) {
  try {
    const said = await work();
    if (said) replace(place, h("p", { class: "done", role: "status" }, said));
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    replace(place, h("p", { class: "problem", role: "alert" }, shown(error.message)));
    return false;
  }
}

export function assertions(list) {
  return table(["Stands", "Who says so", "Marking", "Says", "Until", "Why"], list.map((one) =>
    h("tr", {},
      h("td", {}, standing(one.standing)),
      h("td", { class: "name" }, h("strong", {}, data(one.origin)), h("div", { class: "small quiet" }, data(one.reference)), one.title && h("div", { class: "small" }, data(one.title))),
      h("td", {}, tlp(one.tlp)),
      h("td", {}, data(one.use), h("div", { class: "small quiet" }, `${one.role}, confidence ${one.confidence}`), one.tags.length > 0 && h("div", { class: "small" }, one.tags.map((tag) => [h("span", { class: "chip" }, data(tag)), " "]))),
      h("td", {}, when(one.ends)),
      h("td", { class: "wide small" }, data(one.reason)))));
}
