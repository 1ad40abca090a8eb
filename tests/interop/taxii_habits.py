"""A TAXII 2.1 server on loopback with one habit per path. Usage: taxii_habits.py PORT"""
import json, sys, http.server, urllib.parse
def ind(mode, n):
    return {"type":"indicator","spec_version":"2.1","id":"indicator--0f0f0f0f-0000-4000-8000-%04d%08d" % (ord(mode), n),
        "created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","valid_from":"2026-01-01T00:00:00Z",
        "pattern_type":"stix","pattern":"[domain-name:value = '%s%d.taxii.example']" % (mode.lower(), n)}
class H(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): sys.stderr.write("%s\n" % self.path)
    def answer(self, body, headers):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type","application/taxii+json;version=2.1")
        for k,v in headers.items(): self.send_header(k,v)
        self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
    def do_GET(self):
        u = urllib.parse.urlparse(self.path); q = dict(urllib.parse.parse_qsl(u.query)); mode = u.path.split("/")[1]
        same = {"X-TAXII-Date-Added-First":"2026-01-08T10:00:00.000000Z","X-TAXII-Date-Added-Last":"2026-01-08T10:00:00.000000Z"}
        nxt = q.get("next"); after = q.get("added_after")
        page = lambda n: [ind(mode, 2*n+1), ind(mode, 2*n+2)]
        if mode == "A":      # next is a JSON number; everything was added in the same second
            if after: return self.answer({}, {})
            n = int(nxt or 0)
            return self.answer({"more": n < 2, **({"next": n+1} if n < 2 else {}), "objects": page(n)}, same)
        if mode == "B":      # more without next: the client goes on by X-TAXII-Date-Added-Last
            days = {None:0, "2026-01-01T00:00:00.000000Z":1, "2026-01-02T00:00:00.000000Z":2, "2026-01-03T00:00:00.000000Z":3}
            n = days.get(after, 0)
            if n == 3: return self.answer({}, {})
            d = "2026-01-%02dT00:00:00.000000Z" % (n+1)
            return self.answer({"more": n < 2, "objects": page(n)}, {"X-TAXII-Date-Added-First":d,"X-TAXII-Date-Added-Last":d})
        if mode == "C":      # the same next for ever
            return self.answer({"more": True, "next": "again", "objects": page(0)}, same)
        if mode == "E":      # no X-TAXII headers at all
            n = int(nxt or 0)
            return self.answer({"more": n < 2, **({"next": str(n+1)} if n < 2 else {}), "objects": page(n)}, {})
        if mode == "F":      # strings that are numbers, and `more` as the last key
            n = int(nxt or 0)
            return self.answer({"objects": page(n), **({"next": str(n+1)} if n < 2 else {}), "more": n < 2}, same)
        if mode == "G":      # more is the string "true"
            n = int(nxt or 0)
            return self.answer({"more": "true" if n < 2 else "false", **({"next": str(n+1)} if n < 2 else {}), "objects": page(n)}, same)
        self.send_response(404); self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
