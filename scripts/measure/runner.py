"""Runs one command and says what it answered, how long it took and the most memory any of its processes had, seen from outside."""

import json
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

RUN_SECONDS_MAX = 1800
"""A run that takes longer is stopped: the slowest today takes 4 minutes."""


@dataclass(frozen=True)
class Run:
    """What one command did. `answer`: its JSON. `peak_bytes`: of the largest process, by the kernel's own accounting (getrusage(2))."""

    command: list[str]
    answer: dict
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Failed(Exception):
    """A command that could not be measured, in a sentence."""


def shown(binary: str, arguments: list[str]) -> list[str]:
    """The command as a person would type it."""
    return ["huecry" if word == binary else word for word in [binary, *arguments]]


def run(binary: str, arguments: list[str], cwd: str | None = None) -> Run:
    """Runs `binary --json ARGUMENTS` to its end. Raises `Failed` with the end of its error output."""
    command = [binary, "--json", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        # A group of its own, so that what the command started ends with it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, start_new_session=True)
        try:
            usage = wait(process.pid, begun + RUN_SECONDS_MAX)
            process.returncode = usage[0]
        finally:
            end_group(process.pid)
        seconds = time.monotonic() - begun
        out.seek(0)
        err.seek(0)
        if usage[0] != 0:
            said = err.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"exit code {usage[0]}: {said[-1] if said else 'no message'}")
        lines = out.read().decode(errors="replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise Failed(f"it printed no JSON: {error}") from error
    return Run(shown(binary, arguments), answer, seconds, usage[1].ru_utime + usage[1].ru_stime, usage[1].ru_maxrss * 1024)


def end_group(pid: int) -> None:
    """Ends what a command has left running; nothing where it left nothing."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait(pid: int, deadline: float):
    """Waits for a process. Returns its exit code and what it and its children used."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.05)


def memory_bytes(pid: int, field: str) -> int:
    """The memory of a running process, from proc(5): `VmRSS` is what it has now, `VmHWM` the most it had."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    raise Failed("the process has ended")
