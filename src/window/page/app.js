// The page: who looks, where, and what is live.

import { h, replace, shown } from "./dom.js";
import { Refused, events, get, reason, token } from "./api.js";
import * as views from "./views.js";

const PLACES = [
  ["now", "Now", views.now],
  ["protecting", "Protecting", views.protecting],
  ["federation", "Federation", views.federation],
  ["search", "Search", views.search],
  ["held", "Held", views.held],
  ["disputes", "Disputes", views.disputes],
  ["reach", "Reach", views.reach],
  ["agreements", "Agreements", views.agreements],
  ["since", "Since you left", views.since],
];
// Whatever changes, the page is asked anew so often at most.
const GATHER_MS = 800;
const REFRESH_MS = 15_000;

const app = document.querySelector("#app");
let me;
let main;
let stream;
// Counts what was asked to be shown: an answer that comes late is not drawn over a place that was gone to since.
let asked = 0;

function place() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return { name: name || "now", rest: decodeURIComponent(rest.join("/")) };
}

function problem(error) {
  if (error.status === 401) return signIn(error.message);
  replace(main ?? app, h("h1", { tabindex: "-1" }, "That did not work"), h("p", { class: "problem", role: "alert" }, shown(error.message)));
}

function signIn(why) {
  stream?.abort();
  token.forget();
  main = undefined;
  const input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "huecry_\u2026" });
  const form = h("form", {
    class: "alone sheet",
    onsubmit: (event) => {
      event.preventDefault();
      token.set(input.value);
      begin();
    },
  },
  h("div", { class: "brand" }, markOf(), h("h1", {}, "huecry")), h("label", { for: "token" }, "Your token", input),
  h("p", { class: "quiet small" }, "Make one at the node: ", h("code", {}, "huecry token new my-browser"), ". It stays in this tab, and goes when the tab does."),
  why && h("p", { class: "problem", role: "alert" }, shown(why)), h("button", { class: "main", type: "submit" }, "Look"));
  replace(app, h("main", { id: "main" }, form));
  input.focus();
}

function markOf() {
  const mark = h("img", {});
  mark.src = "/page/mark.svg";
  mark.alt = "";
  return mark;
}

function frame(status) {
  const find = h("input", { id: "find", type: "search", placeholder: "Search: 198.51.100.7, *.evil.example, words", "aria-label": "Search", autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
  const search = h("form", {
    class: "find", role: "search",
    onsubmit: (event) => {
      event.preventDefault();
      location.hash = `#/search/${encodeURIComponent(find.value.trim())}`;
    },
  }, find);
  const why = me.reasons !== "off" && h("input", {
    id: "why", class: "why", value: reason.get(), maxlength: "500", autocomplete: "off", required: me.reasons === "require",
    placeholder: me.reasons === "require" ? "Why you look (needed)" : "Why you look: a case",
    "aria-label": "Why you look; auditors read it",
    onchange: () => {
      reason.set(why.value);
      show(false);
      live();
    },
  });
  main = h("main", { id: "main" });
  const links = PLACES.map(([name, title]) => h("a", { href: `#/${name}`, "data-place": name }, h("span", {}, title)));
  replace(app, h("div", { class: "frame" },
    h("nav", { class: "side", "aria-label": "Places" },
      h("div", { class: "brand" }, markOf(), h("div", {}, shown(status.member), h("small", {}, shown(status.federation_name)))),
      h("div", { class: "places" }, links, h("a", { href: "#/wall" }, h("span", {}, "Wall"))),
      h("div", { class: "foot" }, h("span", { class: "live", id: "live" }, "live"), h("span", {}, shown(me.name), `, up to ${shown(me.clearance)}`),
        h("button", { class: "plain", onclick: () => signIn() }, "Leave"))),
    h("div", {}, h("div", { class: "top" }, search, why, h("div", { class: "clock", id: "clock" })), main)));
}

function tick() {
  const clock = document.querySelector("#clock");
  if (!clock) return;
  const now = new Date();
  const zone = Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(now).find((part) => part.type === "timeZoneName")?.value ?? "";
  const time = (options) => now.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", ...options });
  replace(clock, h("div", {}, h("strong", {}, time({ timeZone: "UTC" })), " UTC"), h("div", {}, time({}), ` ${zone}`));
}

async function counts() {
  const { held, disputes, list } = await views.needs();
  const said = { held: [held, ""], disputes: [disputes, ""], now: [list.filter((one) => one.tone === "act").length, "act"] };
  for (const link of document.querySelectorAll("[data-place]")) {
    const [count, tone] = said[link.dataset.place] ?? [0, ""];
    link.querySelector(".count")?.remove();
    if (count > 0) link.append(h("span", { class: `count ${tone}` }, count > 99 ? "99+" : count));
  }
}

// Shows the place that the address names. `quietly`: something changed, and whoever reads must not be disturbed.
async function show(quietly, said) {
  const { name, rest } = place();
  const mine = ++asked;
  if (name === "wall") {
    const wall = h("main", { id: "main", class: "wall" });
    await views.wall(wall).catch(problem);
    if (mine === asked) replace(app, (main = wall));
    return;
  }
  if (!app.querySelector(".frame")) {
    const status = await get("/v1/status");
    if (mine !== asked) return;
    frame(status);
  }
  const [, title, view] = PLACES.find(([known]) => known === name) ?? PLACES[0];
  document.title = `${title} \u2013 huecry`;
  for (const link of document.querySelectorAll("[data-place]")) {
    if (link.dataset.place === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const again = (text) => show(false, text);
  const fresh = h("main", { id: "main" });
  const put = () => {
    main.replaceWith(fresh);
    main = fresh;
  };
  // A search may take a while, and says so.
  if (name === "search") put();
  const failed = await view(fresh, me, again, rest).then(() => undefined, (error) => error);
  if (mine !== asked) return;
  if (main !== fresh) put();
  if (failed) return problem(failed);
  if (said) main.querySelector("header")?.after(h("p", { class: "done", role: "status" }, said));
  if (!quietly) main.querySelector("h1")?.focus({ preventScroll: false });
  tick();
}

// A place that somebody is working in (a box is ticked, a dialog stands open) is not drawn anew under their hands.
const isBusy = () => document.querySelector("dialog[open], main :checked, main details[open]") !== null || place().name === "search";

function live() {
  stream?.abort();
  stream = new AbortController();
  let due;
  const changed = () => {
    due ??= setTimeout(() => {
      due = undefined;
      counts().catch(() => {});
      if (!isBusy()) show(true);
    }, GATHER_MS);
  };
  const mark = (on) => {
    const sign = document.querySelector("#live");
    sign?.classList.toggle("off", !on);
    if (sign) sign.textContent = on ? "live" : "not live; trying again";
  };
  const { signal } = stream;
  let after;
  (async () => {
    while (!signal.aborted) {
      try {
        await events(after, signal, (what, body) => {
          mark(true);
          if (what === "cursor") after = body;
          else changed();
        });
      } catch (error) {
        if (error instanceof Refused && error.status === 400) after = undefined;
      }
      if (signal.aborted) return;
      mark(false);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  })();
  const every = setInterval(changed, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(every));
}

async function begin() {
  if (!token.get()) return signIn();
  try {
    me = await get("/v1/me");
    replace(app);
    await show();
    await counts();
    live();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) return signIn(error.message);
    main = undefined;
    replace(app, h("main", { id: "main", class: "alone" }, h("p", { class: "problem", role: "alert" }, shown(error.message)), h("button", { onclick: () => begin() }, "Try again")));
  }
}

addEventListener("hashchange", () => {
  if (me) show();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  event.preventDefault();
  document.querySelector("#find")?.focus();
});
setInterval(tick, 1_000);

// A token that `huecry dashboard` put behind the address: it was never sent, and is taken out of sight at once.
if (location.hash.startsWith("#token=")) {
  token.set(decodeURIComponent(location.hash.slice(7)));
  history.replaceState(null, "", "/");
}
begin();
