"""The machine, and how fast it is right now: shared machines change their speed, and a figure without that says little."""

import hashlib
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

HASHED_BYTES = 64 << 20
SYNCS = 200


def describe() -> dict:
    """Processor, cores, memory, kernel and compiler."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory / (1 << 20)), "kernel": platform.release(), "rustc": rustc}


def sha256_mb_per_s() -> float:
    """SHA-256 of 64 MiB on one core: what part of the processor is ours at the moment."""
    block, begun = bytes(1 << 20), time.perf_counter()
    digest = hashlib.sha256()
    for _ in range(HASHED_BYTES >> 20):
        digest.update(block)
    return HASHED_BYTES / 1e6 / (time.perf_counter() - begun)


def syncs_per_s(scratch: Path) -> float:
    """Writes of 4 KiB, each followed by fdatasync: the limit of everything that is acknowledged alone."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        begun = time.perf_counter()
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
        return SYNCS / (time.perf_counter() - begun)
