// The places of the page. Each is given an element to fill, and what the node says; none keeps anything.

import { data, h, moment, number, plural, replace, shown, tlp, when } from "./dom.js";
import { get, post } from "./api.js";
import { assertions, attempt, bar, confirm, meter, ring, standing, table } from "./parts.js";

const SEEN = "huecry-seen";
const head = (title, lead) => h("header", {}, h("h1", { tabindex: "-1" }, title), lead && h("p", { class: "lead" }, lead));
const may = (me, role) => me.roles.includes(role);

// What needs somebody: the same list for the first place, the counts beside the names of places, and the wall.
export async function needs() {
  const [status, held, disputes] = await Promise.all([get("/v1/status"), get("/v1/held", { limit: 1 }), get("/v1/disputes")]);
  const open = disputes.filter((one) => !one.dismissed);
  const ours = open.filter((one) => one.ours.length > 0);
  const own = await get("/v1/held", { policy: "names-our-own", limit: 1 });
  const capped = status.outlets.flatMap((outlet) => outlet.origins.filter((origin) => origin.at_cap).map((origin) => [outlet.name, origin.origin]));
  const stopped = status.outlets.filter((outlet) => outlet.stopped);
  const failing = status.outlets.filter((outlet) => outlet.failure);
  const all = [
    ...status.alarms.map((text) => ({ tone: "act", count: "!", what: text, place: "#/now" })),
    status.charter !== "current" && { tone: "act", count: "!", what: `the charter is ${status.charter}`, place: "#/agreements" },
    ...failing.map((outlet) => ({ tone: "act", count: "!", what: `${outlet.name}: ${outlet.failure}`, place: "#/protecting" })),
    own.matching > 0 && { tone: "act", count: own.matching, what: "records name our own or our clients' assets", place: "#/held" },
    ours.length > 0 && { tone: "act", count: ours.length, what: "of our records are called a false positive", place: "#/disputes" },
    stopped.length > 0 && { tone: "look", count: stopped.length, what: "outlets are stopped", place: "#/protecting" },
    held.matching > 0 && { tone: "look", count: held.matching, what: held.matching === 1 ? "record waits for a decision" : "records wait for a decision", place: "#/held" },
    capped.length > 0 && { tone: "look", count: capped.length, what: `have used up their room: ${capped.map(([outlet, origin]) => `${origin} at ${outlet}`).join(", ")}`, place: "#/protecting" },
    ...status.ending.map((text) => ({ tone: "look", count: "!", what: text, place: "#/agreements" })),
    status.lane_waits && { tone: "look", count: status.queued, what: "publications wait until others have told us our own last head", place: "#/now" },
    open.length > ours.length && { tone: "look", count: open.length - ours.length, what: "disputes of others' records", place: "#/disputes" },
  ];
  return { status, list: all.filter(Boolean), held: held.matching, disputes: open.length };
}

function outletBar(outlet) {
  const sum = (name) => outlet.origins.reduce((all, origin) => all + origin[name], 0);
  return bar([[sum("enforced"), "good", "enforced"], [sum("staged"), "look", "staged"], [sum("monitored"), "quiet", "only watched"]], outlet.name);
}

export async function now(place) {
  const [{ status, list }, members] = await Promise.all([needs(), get("/v1/members")]);
  const seen = localStorage.getItem(SEEN);
  const news = seen ? await get("/v1/news", { after: seen }).catch(() => null) : null;
  if (!seen) localStorage.setItem(SEEN, (await get("/v1/news")).cursor);
  const others = members.filter((one) => !one.own);
  const lines = status.outlets.reduce((sum, outlet) => sum + outlet.lines, 0);
  replace(place, head("What needs you", `${status.federation_name}, charter version ${status.charter_version}, ${status.charter}.`),
    list.length === 0
      ? h("p", { class: "calm" }, "Nothing. Everybody can do what they came for.")
      : h("ul", { class: "needs" }, list.map((one) => h("li", {}, h("a", { href: one.place, class: one.tone }, h("strong", {}, one.count === "!" ? "!" : number(one.count)), h("span", {}, data(one.what)), h("span", { "aria-hidden": "true" }, "\u2192"))))),
    h("div", { class: "grid" },
      h("section", { class: "sheet", "aria-label": "Protecting" },
        h("div", { class: "between" }, h("h2", {}, "Protecting"), h("a", { href: "#/protecting" }, plural(status.outlets.length, "outlet", "outlets"))),
        h("div", {}, h("div", { class: "big" }, number(lines)), h("div", { class: "quiet" }, "values are acted on now")),
        status.outlets.map((outlet) => h("div", { class: "stack" }, h("div", { class: "between small" }, h("strong", {}, data(outlet.name)), h("span", { class: "quiet" }, outlet.mode === "enforce" ? [`${number(outlet.lines)}, written `, when(outlet.written)] : "only watches")), outletBar(outlet))),
        status.outlets.length === 0 && h("p", { class: "quiet" }, "No tool of ours is connected yet: [[outlets]] in node.toml.")),
      h("section", { class: "sheet", "aria-label": "Federation" },
        h("div", { class: "between" }, h("h2", {}, "Federation"), h("a", { href: "#/federation" }, "all members")),
        h("div", {}, h("div", { class: "big" }, `${others.filter((one) => one.nodes.length > 0).length}`, h("span", { class: "quiet" }, `\u2009/\u2009${others.length}`)), h("div", { class: "quiet" }, "other members are connected")),
        bar([[others.filter((one) => one.nodes.length > 0 && one.behind === 0).length, "good", "complete"], [others.filter((one) => one.nodes.length > 0 && one.behind > 0).length, "look", "catching up"], [others.filter((one) => one.nodes.length === 0).length, "quiet", "silent"]], "members"),
        h("div", { class: "key" }, h("span", { class: "good" }, "complete"), h("span", { class: "look" }, "catching up"), h("span", { class: "quiet-key" }, "silent"))),
      h("section", { class: "sheet", "aria-label": "Known" },
        h("h2", {}, "Known"),
        h("div", {}, h("div", { class: "big" }, number(status.records)), h("div", { class: "quiet" }, "records are here")),
        bar([[status.counts.accepted, "good", "accepted"], [status.counts.held + status.counts.waiting, "look", "held or waiting"], [status.counts.refused, "act", "refused"]], "records"),
        h("div", { class: "key" }, h("span", { class: "good" }, `${number(status.counts.accepted)} accepted`), h("span", { class: "look" }, `${number(status.counts.held)} held`), h("span", { class: "act" }, `${number(status.counts.refused)} refused`))),
      h("section", { class: "sheet", "aria-label": "Since you left" },
        h("div", { class: "between" }, h("h2", {}, "Since you left"), h("a", { href: "#/since" }, "what changed")),
        newsTable(news))));
}

function newsTable(news) {
  if (!news) return h("p", { class: "quiet" }, "This browser looks for the first time; from now on it knows where you left.");
  if (news.lines.length === 0) return h("p", { class: "quiet" }, "Nothing changed.");
  return table(["Member", "#new", "#held", "#withdrawn"], news.lines.map((line) =>
    h("tr", {}, h("td", {}, data(line.member)), h("td", { class: "figure" }, number(line.accepted)), h("td", { class: "figure" }, number(line.held)), h("td", { class: "figure" }, number(line.withdrawn)))));
}

export async function protecting(place, me, again) {
  const outlets = await get("/v1/outlets");
  const note = h("div", {});
  const order = (order, said) => attempt(note, async () => {
    await post("/v1/order", { order });
    await again(said);
  });
  const stop = async (scope, name) => {
    const asked = await confirm({
      title: `Stop ${name}?`, text: "What it enforces is taken out within a second, and stays out until somebody says otherwise.",
      fields: [{ name: "reason", label: "Why; someone will ask", required: true }], action: "Stop", tone: "act",
    });
    if (asked) await order({ stop: { scope, reason: asked.reason } }, `${name} is stopped`);
  };
  const promote = async (outlet, origin) => {
    const asked = await confirm({
      title: `Let ${origin ?? outlet} act${origin ? ` at ${outlet}` : ""}?`,
      text: origin ? "Everything that is watched of it now is enforced at once." : "The outlet acts on what origins are let act with.", action: "Let it act",
    });
    if (asked) await order({ mode: { outlet, origin: origin ?? null, mode: "enforce" } }, `${origin ?? outlet} acts`);
  };
  replace(place, head("What is protecting us", "Each tool of ours, what it holds, and how fresh that is. Policies decide what may come to it; you can always stop it."), note,
    outlets.length > 0 && may(me, "decides") && h("div", { class: "row" }, h("button", { class: "act", onclick: () => stop("all", "everything") }, "Stop everything")),
    outlets.length === 0 && h("p", { class: "sheet quiet" }, "No outlet is configured: [[outlets]] in node.toml connects resolvers, firewalls, sensors."),
    h("div", { class: "grid broad" }, outlets.map((outlet) =>
      h("section", { class: "sheet", "aria-label": outlet.name },
        h("div", { class: "between" }, h("h2", {}, data(outlet.name)),
          h("span", { class: "row" }, outlet.stopped ? h("span", { class: "chip act" }, "stopped") : h("span", { class: `chip ${outlet.mode === "enforce" ? "good" : ""}` }, outlet.mode === "enforce" ? "acts" : "only watches"), tlp(outlet.tlp_max))),
        h("div", {}, h("div", { class: "big" }, number(outlet.lines)), h("div", { class: "quiet" }, `${outlet.use === "block" ? "blocked" : "watched for"} by ${outlet.format}, written `, when(outlet.written))),
        outletBar(outlet),
        h("div", { class: "key" }, h("span", { class: "good" }, "enforced"), h("span", { class: "look" }, "staged"), h("span", { class: "quiet-key" }, "only watched")),
        outlet.failure && h("p", { class: "problem" }, data(outlet.failure)),
        outlet.stopped && h("p", { class: "problem" }, data(outlet.stopped), " is stopped here"),
        outlet.beyond > 0 && h("p", { class: "chip look" }, `no room for ${number(outlet.beyond)} values`),
        table(["Origin", "#acts", "#staged", "#watched", ""], outlet.origins.map((origin) =>
          h("tr", {}, h("td", {}, data(origin.origin), origin.at_cap && h("div", {}, h("span", { class: "chip look" }, "room used up"))),
            h("td", { class: "figure" }, number(origin.enforced)), h("td", { class: "figure" }, number(origin.staged)), h("td", { class: "figure" }, number(origin.monitored)),
            h("td", {}, may(me, "decides") && origin.mode !== "enforce" && h("button", { class: "plain", onclick: () => promote(outlet.name, origin.origin) }, "Let act"))))),
        may(me, "decides") && h("div", { class: "row" },
          outlet.stopped
            ? h("button", { onclick: () => order({ resume: { scope: { outlet: outlet.name } } }, `${outlet.name} goes on`) }, "Go on")
            : h("button", { class: "act", onclick: () => stop({ outlet: outlet.name }, outlet.name) }, "Stop"),
          outlet.mode !== "enforce" && h("button", { onclick: () => promote(outlet.name) }, "Let it act"))))));
}

export async function federation(place) {
  const [members, sync] = await Promise.all([get("/v1/members"), get("/v1/sync")]);
  const lacks = sync.lines.filter((line) => line.behind > 0 || line.withheld > 0);
  const lack = (line) => h("li", {}, h("strong", {}, data(line.member)), `: ${plural(line.behind, "batch", "batches")} to come`,
    line.withheld > 0 && `, ${plural(line.withheld, "record", "records")} withheld by ${line.withheld_by.map(shown).join(", ") || "whoever served us"}`);
  replace(place, head("The federation", `${plural(members.length, "member", "members")}. A solid line is a connection with nothing left to fetch; a dashed one catches up, or lacks something; a dotted one is silent.`),
    h("div", { class: "two" },
      h("section", { class: "sheet", "aria-label": "Connections" }, ring(members)),
      h("div", { class: "stack" },
        h("section", { class: "sheet" }, h("div", {}, h("div", { class: "big" }, number(sync.batches)), h("div", { class: "quiet" }, "batches are here, every one signed and proved"))),
        h("section", { class: "sheet" }, h("h2", {}, "What we lack, and why"),
          lacks.length === 0 ? h("p", { class: "quiet" }, "Nothing: everything that connected members have for us is here.") : h("ul", { class: "stack" }, lacks.map(lack))))),
    h("section", { class: "sheet" }, h("h2", {}, "Members"), membersTable(members)));
}

function membersTable(members) {
  return table(["Member", "Standing", "Connected", "#records", "#to come", "Newest"], members.map((one) =>
    h("tr", {},
      h("td", { class: "name" }, h("strong", {}, data(one.id)), h("div", { class: "small quiet" }, data(one.name)), h("div", { class: "small quiet" }, shown(one.kind), one.country && ` ${shown(one.country)}`)),
      h("td", {}, h("span", { class: `chip ${one.standing === "good" ? "good" : "look"}` }, shown(one.standing))),
      h("td", { class: "small" }, one.own ? "this node" : one.nodes.length > 0 ? one.nodes.map((node) => h("div", {}, data(node))) : h("span", { class: "chip" }, "silent")),
      h("td", { class: "figure" }, number(one.records)), h("td", { class: "figure" }, number(one.behind)), h("td", {}, when(one.newest)))));
}

export async function search(place, me, again, words) {
  const results = h("div", { class: "stack", "aria-live": "polite" });
  replace(place, head("Search", "A value in any spelling, a network, *.a.domain, or words of a report."), results);
  if (!words) return void replace(results, h("p", { class: "quiet" }, "Type above; press / from anywhere."));
  document.querySelector("#find").value = words;
  replace(results, h("p", { class: "quiet" }, "Looking\u2026"));
  let answer = await get("/v1/query", { value: words, all: true, limit: 500 }).catch((error) => {
    if (error.status === 400) return null;
    throw error;
  });
  if (!answer || (answer.values.length === 0 && !(answer.records?.length > 0))) {
    const byText = await get("/v1/query", { text: words, all: true, limit: 500 }).catch(() => null);
    if (byText && (byText.values.length > 0 || byText.records?.length > 0)) answer = byText;
  }
  if (!answer || (answer.values.length === 0 && !(answer.records?.length > 0))) {
    return void replace(results, h("p", { class: "sheet" }, "Nothing here says anything about ", h("strong", {}, data(words)), "."));
  }
  replace(results,
    answer.cut && h("p", { class: "quiet" }, "There is more; ask more narrowly."),
    answer.values.map((value) => valueSheet(value, me, again)),
    (answer.records ?? []).map((record) => h("section", { class: "sheet" }, h("div", { class: "between" }, h("div", { class: "value" }, data(record.about ?? record.title ?? record.reference)), standing(record.standing)), assertions([record]))));
}

function valueSheet(value, me, again) {
  const [note, story] = [h("div", {}), h("div", { class: "stack" })];
  const unblock = async () => {
    const asked = await confirm({
      title: "Stop enforcing this value?", text: "Every line that hits it goes, at every outlet, within a second. After a week the policies decide again.",
      fields: [{ name: "reason", label: "Why; someone will ask", required: true }, { name: "tell", label: "Tell its authors that it is a false positive", type: "checkbox" }],
      action: "Unblock", tone: "act",
    });
    if (!asked) return;
    await attempt(note, async () => {
      const until = Date.now() + 7 * 86400e3;
      const reply = await post("/v1/order", { order: { unblock: { value: value.value, reason: asked.reason, until } }, tell_author: asked.tell });
      return `Enforced nowhere here; ${plural(reply.hits.length, "line", "lines")} went in ${reply.took_ms} ms.${reply.told.length > 0 ? " Its authors are told." : ""}`;
    });
  };
  const explain = async (event) => {
    event.target.disabled = true;
    await attempt(story, async () => {
      replace(story, storyOf(await get("/v1/explain", { what: value.value })));
    });
    event.target.disabled = false;
  };
  return h("section", { class: "sheet" },
    h("div", { class: "between" }, h("div", {}, h("div", { class: "value" }, data(value.defanged)), h("div", { class: "quiet" }, shown(value.type), ` \u00b7 ${plural(value.independent, "independent source", "independent sources")}`)),
      h("div", { class: "row" }, meter(value.confidence), tlp(value.tlp))),
    value.disputed_by.length > 0 && h("p", { class: "problem" }, "Called a false positive by ", value.disputed_by.map((one) => [data(one), " "])),
    assertions(value.assertions), note,
    h("div", { class: "row" }, h("button", { class: "main", onclick: explain }, "Explain"), may(me, "decides") && h("button", { class: "act", onclick: unblock }, "Unblock")), story);
}

function storyOf(story) {
  const value = story.value;
  return h("div", { class: "stack" },
    value && h("dl", { class: "facts" },
      h("dt", {}, "Confidence"), h("dd", {}, `${value.confidence.value}: `, value.confidence.steps.map(shown).join("; ")),
      h("dt", {}, "Sources"), h("dd", {}, value.sources.map((one) => h("div", {}, data(one.member), ", ", data(one.source), `, ${one.confidence}`, one.disputed && " (disputed)"))),
      h("dt", {}, "On lists"), h("dd", {}, value.lists.length > 0 ? value.lists.map(shown).join(", ") : "none"),
      value.outlets.flatMap((one) => [h("dt", {}, "At ", data(one.outlet)), h("dd", {}, h("span", { class: `chip ${one.permitted ? "good" : ""}` }, one.permitted ? "may act" : "does not act"), " ", data(one.why))]),
      story.lines.flatMap((line) => [h("dt", {}, "Stands in"), h("dd", {}, data(line.file), line.line ? `, line ${number(line.line)}` : "", `, ${line.stage}, since `, when(line.since))])),
    story.records.map((one) => h("details", {}, h("summary", {}, data(one.reference), " ", shown(one.standing)),
      h("dl", { class: "facts" },
        h("dt", {}, "Author"), h("dd", {}, data(one.origin), ", in ", data(one.channel), ", to ", data(one.audience)),
        one.title && [h("dt", {}, "Report"), h("dd", {}, data(one.title))],
        h("dt", {}, "Finding of"), h("dd", {}, data(one.source)), h("dt", {}, "Signed"), h("dd", {}, moment(one.signed), h("div", { class: "mono quiet" }, shown(one.signed_by))),
        h("dt", {}, "Came"), h("dd", {}, moment(one.received), " through ", data(one.through)), h("dt", {}, "Ends"), h("dd", {}, moment(one.ends)),
        one.decisions.map((decision) => [h("dt", {}, "Decided"), h("dd", {}, moment(decision.at), h("div", {}, data(decision.sentence)))]),
        one.shared && [h("dt", {}, "Goes to"), h("dd", {}, one.shared.with.map(shown).join(", ") || "nobody")])),
    ));
}

export async function held(place, me, again) {
  const reply = await get("/v1/held", { limit: 200 });
  const [note, boxes] = [h("div", {}), new Map()];
  const chosen = () => [...boxes].filter(([, box]) => box.checked).map(([record]) => record);
  const count = h("span", { class: "quiet", "aria-live": "polite" }, "none chosen");
  const recount = () => replace(count, `${chosen().length} chosen`);
  const decide = async (decision) => {
    const records = chosen();
    if (records.length === 0) return void replace(note, h("p", { class: "problem", role: "alert" }, "Choose what you decide about."));
    const asked = await confirm({
      title: `${decision === "release" ? "Let in" : "Refuse"} ${plural(records.length, "record", "records")}?`,
      fields: [{ name: "reason", label: "Why; it stands in the log with your name", required: true }], action: decision === "release" ? "Let in" : "Refuse", tone: decision === "release" ? "main" : "act",
    });
    if (!asked) return;
    await attempt(note, async () => {
      let decided = 0;
      for (const what of records) decided += (await post("/v1/held", { decision, reason: asked.reason, filter: { what, all: false, limit: 0 } })).decided;
      await again(`${plural(decided, "record is", "records are")} ${decision === "release" ? "let in" : "refused"}.`);
    });
  };
  const everything = h("input", { type: "checkbox", "aria-label": "choose all", onchange: (event) => { boxes.forEach((box) => { box.checked = event.target.checked; }); recount(); } });
  replace(place, head("Held", `${plural(reply.matching, "record waits", "records wait")} for a person. What nobody decides is refused when its time is over.`), note,
    reply.held.length === 0 ? h("p", { class: "calm" }, "Nothing waits.") : h("section", { class: "sheet" },
      may(me, "decides") && h("div", { class: "row" }, h("button", { class: "main", onclick: () => decide("release") }, "Let in"), h("button", { class: "act", onclick: () => decide("reject") }, "Refuse"), count),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "held records" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, everything), ["What", "Who says so", "Marking", "Why it waits", "Until"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, reply.held.map((one) => {
          const box = h("input", { type: "checkbox", "aria-label": `choose ${shown(one.about)}`, onchange: recount });
          boxes.set(one.record, box);
          return h("tr", {}, h("td", { class: "tick" }, box), h("td", { class: "name" }, h("strong", {}, data(one.about)), h("div", { class: "small quiet" }, shown(one.kind), " ", data(one.record))), h("td", {}, data(one.origin)), h("td", {}, tlp(one.tlp)), h("td", { class: "wide small" }, data(one.reason)), h("td", {}, when(one.until)));
        }))))));
}

export async function disputes(place) {
  const list = await get("/v1/disputes");
  replace(place, head("Disputes", "Who calls what a false positive. Ours come first: withdraw what was wrong, or dismiss the dispute."),
    list.length === 0 ? h("p", { class: "calm" }, "Nobody disputes anything.") : h("section", { class: "sheet" },
      table(["About", "Who says so", "When", "Note", "Ours"], list.map((one) => h("tr", {}, h("td", {}, h("strong", {}, data(one.about))), h("td", {}, data(one.member)), h("td", {}, when(one.at)), h("td", {}, data(one.note ?? "")), h("td", { class: "small" }, one.dismissed ? h("span", { class: "chip" }, "dismissed") : one.ours.map((record) => h("div", {}, data(record)))))))));
}

export async function reach(place, me, again, of) {
  const status = await get("/v1/status");
  const answer = await get("/v1/query", { origin: status.member, record: "report", sort: "newest", all: true, limit: 30 });
  const records = answer.records ?? [];
  const shownReach = h("div", {});
  const show = (reference) => attempt(shownReach, async () => {
    const reply = await get("/v1/receipts", { of: reference });
    const tone = { applied: "good", exported: "good", quarantined: "look", withheld: "look", silent: "" };
    replace(shownReach, h("section", { class: "sheet" }, h("h2", {}, reply.withdrawn_by ? "How far its withdrawal has got" : "How far it has got"),
      h("div", { class: "dots" }, reply.lines.map((line) => h("span", { class: `chip ${tone[line.state] ?? ""}`, title: line.since ?? "" }, data(line.member), ": ", shown(line.state)))),
      h("p", { class: "quiet" }, Object.entries(reply.counts).map(([state, count]) => `${count} ${state}`).join(", "))));
  });
  replace(place, head("Reach", "What we published, and how far each record, or its withdrawal, has got."),
    records.length === 0 ? h("p", { class: "sheet quiet" }, "We have published nothing yet: huecry publish.") : h("section", { class: "sheet" },
      table(["Report", "Stands", "Marking", "Signed", ""], records.map((one) => h("tr", {}, h("td", {}, h("strong", {}, data(one.about)), h("div", { class: "small quiet" }, data(one.reference))), h("td", {}, standing(one.standing)), h("td", {}, tlp(one.tlp)), h("td", {}, when(one.signed)), h("td", {}, h("button", { class: "plain", onclick: () => show(one.reference) }, "How far?")))))),
    shownReach);
  if (of) await show(of);
}

export async function agreements(place) {
  const list = await get("/v1/agreements");
  replace(place, head("Agreements", "Under which terms vendors and observers take part, and how long they run."),
    list.length === 0 ? h("p", { class: "sheet quiet" }, "No agreements: countries and coordinators take part by their membership.") : h("div", { class: "grid" }, list.map((one) => {
      const [from, until] = [new Date(one.from), new Date(one.until)];
      const gone = Math.max(0, Math.min(100, (100 * (Date.now() - from)) / (until - from)));
      return h("section", { class: "sheet", "aria-label": one.id },
        h("div", { class: "between" }, h("h2", {}, data(one.member)), h("span", { class: `chip ${one.warned ? "look" : one.stage === "running" ? "good" : "act"}` }, shown(one.stage), one.days_left !== null && `, ${number(one.days_left)} days left`)),
        bar([[gone, one.warned ? "look" : "accent", "% gone"], [100 - gone, "none", "% left"]], one.id),
        h("dl", { class: "facts" }, h("dt", {}, "Runs"), h("dd", {}, one.from.slice(0, 10), " to ", one.until.slice(0, 10)), h("dt", {}, "Covers"), h("dd", {}, one.kinds.map(shown).join(", ")), h("dt", {}, "For"), h("dd", {}, data(one.purpose)), h("dt", {}, "Up to"), h("dd", {}, tlp(one.tlp_max)), h("dt", {}, "Then"), h("dd", {}, shown(one.after_end))));
    })));
}

export async function since(place, me, again) {
  const seen = localStorage.getItem(SEEN);
  const news = await get("/v1/news", { after: seen ?? undefined }).catch(() => get("/v1/news"));
  const log = may(me, "audits") ? await get("/v1/log") : [];
  const done = () => {
    localStorage.setItem(SEEN, news.cursor);
    again("From now on this browser counts from here.");
  };
  replace(place, head("Since you left", "What came and went since you last said that you had seen everything, and what your colleagues did."),
    h("section", { class: "sheet" }, h("div", { class: "between" }, h("h2", {}, "Records"), h("button", { onclick: done }, "I have seen this")),
      news.lines.length === 0 ? h("p", { class: "quiet" }, "Nothing changed.") : table(["Member", "#accepted", "#held", "#refused", "#withdrawn", "#judged anew"], news.lines.map((line) =>
        h("tr", {}, h("td", {}, h("strong", {}, data(line.member))), ["accepted", "held", "refused", "withdrawn", "judged"].map((name) => h("td", { class: "figure" }, number(line[name])))))),
      news.set_aside > 0 && h("p", { class: "problem" }, `${plural(news.set_aside, "feed was", "feeds were")} set aside or counts again.`),
      news.cut && h("p", { class: "quiet" }, "There is more than could be looked through at once; say that you have seen this, and look again.")),
    may(me, "audits") && h("section", { class: "sheet" }, h("h2", {}, "Who did what"),
      log.length === 0 ? h("p", { class: "quiet" }, "Nobody did anything here.") : table(["When", "Who", "What"], log.slice(0, 100).map((line) => h("tr", {}, h("td", {}, when(line.at)), h("td", {}, data(line.by)), h("td", { class: "wide" }, data(line.what)))))));
}

// Read from across the room. No value, no title, no name of a record: visitors see it too.
export async function wall(place) {
  const [{ status, list }, members] = await Promise.all([needs(), get("/v1/members")]);
  const others = members.filter((one) => !one.own);
  const silent = others.filter((one) => one.nodes.length === 0).length;
  const sum = (tone) => list.filter((one) => one.tone === tone).length;
  const lines = status.outlets.reduce((all, outlet) => all + outlet.lines, 0);
  const behind = others.reduce((all, one) => all + one.behind, 0);
  const tile = (title, figure, says, tone) => h("section", { class: `sheet ${tone ?? ""}`, "aria-label": title }, h("h2", {}, title), h("div", { class: "big" }, figure), h("p", { class: "says quiet" }, says));
  replace(place, h("h1", { class: "skip", tabindex: "-1" }, "The wall"),
    tile("Needs somebody", number(sum("act") || sum("look")), sum("act") + sum("look") === 0 ? "nothing waits" : sum("act") > 0 ? "now" : "when there is time", sum("act") > 0 ? "act" : sum("look") > 0 ? "look" : "good"),
    tile("Acted on", number(lines), `${plural(status.outlets.filter((one) => one.mode === "enforce" && !one.stopped).length, "outlet acts", "outlets act")}, ${status.outlets.filter((one) => one.stopped).length} stopped`, status.outlets.some((one) => one.stopped || one.failure) ? "act" : "good"),
    tile("Connected", `${others.length - silent}/${others.length}`, silent === 0 ? "everyone is heard" : `${silent} silent`, silent === 0 ? "good" : "look"),
    tile("To come", number(behind), behind === 0 ? "complete" : "batches are being fetched", behind === 0 ? "good" : "look"),
    tile("Waits for a decision", number(status.counts.held), "records", status.counts.held === 0 ? "good" : "look"),
    tile("Records", number(status.records), `${number(status.counts.accepted)} accepted`));
}
