"""The description of the HTTP interface, read by OpenAPI's own tools and held against what a node answers.

openapi.py URL TOKEN CASES < REQUESTS: REQUESTS is a JSON array of [method, path, body or null]. Each has to succeed, and its answer has to be what
the description says. Then schemathesis makes CASES requests of its own for each operation: none may end in a failure of the server, or
in an answer that is not described.
"""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import jsonschema
from openapi_spec_validator import validate

url, token, cases = sys.argv[1], sys.argv[2], sys.argv[3]
headers = {"Authorization": f"Bearer {token}", "huecry-reason": "a test", "Content-Type": "application/json"}


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method)) as answer:
        return answer.headers.get_content_type(), answer.read()


description = json.loads(ask("GET", "/v1/openapi.json")[1])
validate(description)


def check(method, path, body):
    kind, text = ask(method, path, body)
    operation = description["paths"][path.split("?")[0]][method.lower()]
    schema = operation["responses"]["200"]["content"][kind]["schema"]
    # References in it are into the whole description.
    validator = jsonschema.Draft202012Validator({"components": description["components"], **schema})
    for part in text.splitlines() if kind == "application/x-ndjson" else [text]:
        for error in validator.iter_errors(json.loads(part)):
            sys.exit(f"{method} {path}: {error.json_path}: {error.message}")


requests = json.load(sys.stdin)
for method, path, body in requests:
    check(method, path, body)

# A stream has no end, and a token that is taken back is the one that asks.
left_out = "/v1/(events|standby|ledger/backup|tokens/revoke)$"
checks = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
words = ["run", url + "/v1/openapi.json", "--exclude-path-regex", left_out, "--checks", checks, "--max-examples", cases, "--seed", "8"]
words += ["--phases", "coverage,fuzzing", "--no-color", "-H", f"Authorization: Bearer {token}", "-H", "huecry-reason: a test"]
found = subprocess.run([Path(sys.executable).with_name("schemathesis"), *words], capture_output=True, text=True)
if found.returncode:
    sys.exit(found.stdout[-6000:])
tried = re.search(r"(\d+) generated, (\d+) passed", found.stdout)
operations = [path for path, item in description["paths"].items() for _ in item]
print(json.dumps({"operations": len(operations), "checked": len(requests), "tried": int(tried[1]), "passed": int(tried[2])}))
