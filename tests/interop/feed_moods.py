"""A list on loopback that changes its mind: GET /list.txt gives what stands in STATE. Usage: feed_moods.py PORT STATEFILE"""
import sys, http.server
class H(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_GET(self):
        kind = open(sys.argv[2]).read().strip()
        good = "".join("f%d.feed.example\n" % n for n in range(1, 41)).encode()
        few = b"f1.feed.example\nf2.feed.example\nf3.feed.example\nf4.feed.example\nf5.feed.example\n"
        html = b"<!DOCTYPE html>\n<html><head><title>Just a moment...</title>\n<link href=\"https://cdn.portal.example/x.css\">\n</head><body>\nlogin.portal.example\n<a href='https://login.portal.example/'>sign in</a>\n</body></html>\n"
        body = {"good":good,"few":few,"html":html,"empty":b"","comments":b"# nothing today\n","half":good[:len(good)//2]}.get(kind, good)
        self.send_response(200); self.send_header("Content-Type","text/html" if kind == "html" else "text/plain")
        self.send_header("Content-Length", str(len(good) if kind == "half" else len(body))); self.end_headers(); self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
