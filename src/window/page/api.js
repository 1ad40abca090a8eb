// What the node is asked. The token stays in this tab, and goes nowhere but in the header of each request.

const KEY = "huecry-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text.trim()),
  forget: () => sessionStorage.removeItem(KEY),
};

// Why one looks; an auditor of this node reads it. It stays in this tab as well.
const WHY = "huecry-reason";

export const reason = {
  get: () => sessionStorage.getItem(WHY) ?? "",
  set: (text) => sessionStorage.setItem(WHY, text.trim()),
};

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    credentials: "omit",
    redirect: "error",
    headers: {
      ...options.headers,
      authorization: `Bearer ${token.get()}`,
      ...(reason.get() ? { [WHY]: encodeURIComponent(reason.get()) } : {}),
    },
  }).catch(() => {
    throw new Refused(0, "the node does not answer; is it running?");
  });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body.error ?? `the node answers ${response.status}`);
  }
  return response;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "")).toString();
  return (await ask(query ? `${path}?${query}` : path)).json();
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

// Server-sent events (WHATWG HTML section 9.2), read by hand because EventSource shows no token.
export async function events(after, signal, each) {
  const response = await ask(after ? `/v1/events?after=${encodeURIComponent(after)}` : "/v1/events", { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const event = { what: "message", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        if (line.startsWith("event:")) event.what = line.slice(6).trim();
        if (line.startsWith("data:")) event.data += line.slice(5).trim();
      }
      rest = rest.slice(end + 2);
      if (event.data) each(event.what, JSON.parse(event.data));
    }
  }
}
