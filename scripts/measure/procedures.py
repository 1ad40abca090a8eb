"""Measurements that need more than one command: a node watched from outside, a second server under the same load."""

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from runner import Failed, Run, memory_bytes, run

START_SECONDS_MAX = 60
QUIET_SECONDS = 30
"""How long a node runs before its memory is read: its first maintenance is over by then."""
LOOKUPS = 50_000
WRK = ["wrk", "--threads", "1", "--connections", "16", "--latency"]
"""The load that `huecry bench http` uses."""


def simulation(binary: str, arguments: list[str], scratch: Path) -> Run:
    """A simulation. Adds the memory of a node, in bytes, and the latency of a link."""
    done = run(binary, arguments)
    nodes = int(arguments[arguments.index("--nodes") + 1])
    latency = int(arguments[arguments.index("--latency-ms") + 1])
    answer = {**done.answer, "bytes_per_node": done.peak_bytes / nodes, "latency_ms": latency}
    return replace(done, answer=answer)


def resident(binary: str, arguments: list[str], scratch: Path) -> Run:
    """The memory of `huecry run` with so many records, from outside; with records also after look-ups through the API."""
    records = int(arguments[0])
    place = Path(tempfile.mkdtemp(prefix="resident-", dir=scratch))
    try:
        return watched(binary, records, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def watched(binary: str, records: int, place: Path) -> Run:
    data = place / "node"
    begun = time.monotonic()
    if records:
        run(binary, ["bench", "ingest", "--records", str(records), "--keep", str(place)])
    else:
        run(binary, ["--data", str(data), "init", "--member", "bench", "--found", "bench", "--listen", "/ip4/127.0.0.1/tcp/0"])
    port = free_port()
    config = data / "node.toml"
    config.write_text(config.read_text().replace("listen = []\nhosts = []", f'listen = ["127.0.0.1:{port}"]\nhosts = []', 1))
    with node(binary, data) as process:
        time.sleep(QUIET_SECONDS)
        answer = {"rss_bytes": memory_bytes(process.pid, "VmRSS")}
        if records:
            token = run(binary, ["--data", str(data), "token", "new", "figures"]).answer["token"]
            look_up(port, token, records)
            answer["rss_asked_bytes"] = memory_bytes(process.pid, "VmRSS")
        peak = memory_bytes(process.pid, "VmHWM")
    command = ["huecry", "run", f"(with {records:,} records)" if records else "(after `huecry init`)"]
    return Run(command, answer, time.monotonic() - begun, 0.0, peak)


def api(binary: str, arguments: list[str], scratch: Path) -> Run:
    """`bench http`, and nginx with a constant answer under the same load, if nginx and wrk are there."""
    done = run(binary, arguments)
    try:
        constant = nginx_per_s(scratch) if program("wrk") and program("nginx") else None
    except (Failed, OSError, StopIteration, subprocess.SubprocessError):
        # Without its yardstick a figure is still a figure.
        constant = None
    return replace(done, answer={**done.answer, "nginx_per_s": constant})


def program(name: str) -> str | None:
    """The path of a program, also where Debian puts servers."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@contextmanager
def node(binary: str, data: Path):
    """A running node, stopped at the end."""
    with open(data / "figures.log", "wb") as log:
        process = subprocess.Popen([binary, "--data", str(data), "run"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            await_socket(data, process)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_socket(data: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log = (data / "figures.log").read_text(errors="replace").strip().splitlines()
            raise Failed(f"the node stopped with exit code {process.returncode}: {log[-1] if log else 'no message'}")
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(str(data / "huecry.sock")) == 0:
                return
        time.sleep(0.05)
    raise Failed("the node did not open its socket")


def look_up(port: int, token: str, records: int) -> None:
    """Asks for domains that `bench ingest` made (`listed_value` in src/sim/mod.rs), one after another, spread over all records."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(LOOKUPS):
        known = number * 7919 % records // 10 * 10
        value = f"host-{known}.list-{known % 9973}.example"
        client.request("GET", f"/v1/query?value={value}", headers={"Authorization": f"Bearer {token}"})
        answer = client.getresponse()
        body = answer.read()
        if answer.status != 200 or value.encode() not in body:
            raise Failed(f"the look-up of {value} was answered with {answer.status}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def nginx_per_s(scratch: Path) -> float:
    """Requests a second that nginx serves with one constant answer of 1 KB to the load of `bench http`."""
    port, place = free_port(), scratch / "nginx"
    place.mkdir(exist_ok=True)
    answer = json.dumps({"answer": "x" * 1000}).replace('"', '\\"')
    config = f"""worker_processes 2; daemon off; pid {place}/pid; error_log {place}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d;
scgi_temp_path {place}/e; keepalive_requests 100000000;
server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 "{answer}"; }} }} }}
"""
    (place / "nginx.conf").write_text(config)
    server = subprocess.Popen([program("nginx"), "-p", str(place), "-c", str(place / "nginx.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            if time.monotonic() > deadline:
                raise Failed("nginx did not start")
            time.sleep(0.05)
        said = subprocess.run([*WRK, "--duration", "5s", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    finally:
        server.terminate()
        server.wait(timeout=30)
    line = next(line for line in said.splitlines() if line.startswith("Requests/sec:"))
    return float(line.split()[1])
