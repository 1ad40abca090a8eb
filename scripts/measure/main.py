"""scripts/figures: measure this commit, or compare it with an older one."""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from http.client import HTTPException
from pathlib import Path

import compare
import machine
import procedures
import report
from runner import Failed, Run, run
from workloads import WORKLOADS, Workload

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = ["docs/figures.md", "docs/figures.json", "README.md"]
"""Files that measuring changes. They may differ from the commit that is measured."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/figures", description="Measure huecry on the commit that is checked out.")
    parser.add_argument("--quick", action="store_true", help="smaller workloads, about ten minutes in place of an hour")
    parser.add_argument("--check", nargs="?", const="", metavar="BASE", help="compare with BASE, in turn (default: the last tag, else the commit of docs/figures.json)")
    parser.add_argument("--pairs", type=int, default=2, help="with --check: how often each of the two runs (default 2)")
    parser.add_argument("--only", metavar="NAMES", help="these workloads, separated by commas; without --output nothing is written")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write figures.md and figures.json there, and leave the README alone")
    parser.add_argument("--list", action="store_true", help="list the workloads and what each needs")
    parser.add_argument("--render", action="store_true", help="write docs/figures.md and the README's table again from docs/figures.json")
    parser.add_argument("--stale", action="store_true", help="exit with 1 if they differ from docs/figures.json")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def git(*words: str, cwd: Path = ROOT) -> str:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True).stdout.strip("\n")


def changed() -> list[str]:
    """Files that differ from the commit, those aside that measuring writes."""
    return [name for name in git("diff", "--name-only", "HEAD").splitlines() if name not in WRITTEN]


def build(tree: Path, into: Path) -> str:
    """Builds a tree in release mode and returns a copy of the binary, which later builds leave alone.

    Another tree gets a target directory of its own: in a shared one cargo takes two checkouts of a package for the same, and the older of them
    for built (rust-lang/cargo#16642).
    """
    target = ROOT / "target" if tree == ROOT else ROOT / "target" / "base"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)], cwd=tree, check=True)
    binary = into / "huecry"
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / "release" / "huecry", binary)
    return str(binary)


def measure(workload: Workload, size: list[str], extra: list[str], binary: str, scratch: Path) -> Run:
    words = [word.replace("{ledger}", str(scratch / "ledger")) for word in [*size, *extra]]
    if workload.procedure is None:
        done = run(binary, words, cwd=str(ROOT))
        return replace(done, command=["huecry", *(word.replace("{ledger}", "DIR") for word in [*size, *extra])])
    try:
        return workload.procedure(binary, words, scratch)
    except (OSError, HTTPException, KeyError, StopIteration, subprocess.SubprocessError) as error:
        raise Failed(f"{type(error).__name__}: {error}") from error


def missing(workload: Workload) -> str:
    """Which programs a workload lacks, with the line that installs them."""
    lacking = [package for name, package in workload.needs.items() if not procedures.program(name)]
    return f"some figures need {' and '.join(lacking)} (apt-get install {' '.join(lacking)})" if lacking else ""


def measure_all(options: argparse.Namespace, names: list[str], scratch: Path) -> dict:
    size = "quick" if options.quick else "full"
    binary = build(ROOT, scratch / "new")
    begun = time.monotonic()
    speeds: list[float] = []
    data = {
        "commit": git("rev-parse", "HEAD"),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "size": size,
        "machine": machine.describe(),
        "measured": {},
    }
    for workload in WORKLOADS:
        if workload.name not in names or getattr(workload, size) is None:
            continue
        say(f"{workload.name}: {workload.title}")
        if lacking := missing(workload):
            say(f"{workload.name}: {lacking}; the rest is measured")
        speed = max(machine.sha256_mb_per_s() for _ in range(3))
        speeds.append(speed)
        try:
            extras = workload.runs if size == "full" else workload.runs[:1]
            runs = [asdict(measure(workload, getattr(workload, size), extra, binary, scratch)) for extra in extras]
            data["measured"][workload.name] = {"runs": runs, "speed": speed}
        except Failed as error:
            say(f"{workload.name}: {error}")
            data["measured"][workload.name] = {"failed": str(error)}
    for measured in data["measured"].values():
        if "speed" in measured:
            measured["speed"] /= max(speeds)
    data["speed"] = {"sha256_mb_per_s": speeds, "syncs_per_s": machine.syncs_per_s(scratch)}
    data["seconds"] = round(time.monotonic() - begun)
    return data


def base_of(named: str) -> str:
    """The commit to compare with: the one that is named, the last tag, or the one of the table."""
    if named:
        return git("rev-parse", "--verify", f"{named}^{{commit}}")
    tags = git("tag", "--sort=-creatordate").splitlines()
    if tags:
        return git("rev-parse", f"{tags[0]}^{{commit}}")
    table = ROOT / "docs/figures.json"
    if table.is_file():
        return json.loads(table.read_text())["commit"]
    raise SystemExit("there is no tag and no docs/figures.json: name the commit, scripts/figures --check BASE")


def check(options: argparse.Namespace, names: list[str], scratch: Path) -> int:
    base = base_of(options.check)
    tree = scratch / "base"
    say(f"building {base[:10]} beside this tree")
    git("worktree", "add", "--detach", str(tree), base)
    try:
        binaries = {"old": build(tree, scratch / "old"), "new": build(ROOT, scratch / "new")}
    finally:
        git("worktree", "remove", "--force", str(tree))
    lacking = [f"{one.name}: {sentence}" for one in WORKLOADS if one.name in names and one.check and (sentence := missing(one))]
    one = lambda workload, which: measure(workload, workload.check, workload.runs[0], binaries[which], scratch)
    pairs, failed = compare.in_turn(names, options.pairs, one, say)
    state = f"{git('rev-parse', '--short=10', 'HEAD')}{' and what is not committed' if changed() else ''}"
    print(f"{state} beside {base[:10]}, {options.pairs} pairs in turn, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")
    for pair in pairs:
        print(pair.line())
    for sentence in [*lacking, *failed]:
        print(f"not compared  {sentence}")
    worse = sum(pair.is_worse for pair in pairs)
    print(f"{worse} of {len(pairs)} figures are worse by more than a tenth, {len(failed)} workloads failed")
    return 1 if worse or failed else 0


def main() -> int:
    # An exception in place of a sudden end, so that what runs is stopped and what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    if options.pairs < 1:
        raise SystemExit("--pairs is 1 or more")
    names = options.only.split(",") if options.only else [one.name for one in WORKLOADS]
    unknown = set(names) - {one.name for one in WORKLOADS}
    if unknown:
        raise SystemExit(f"unknown workload: {', '.join(sorted(unknown))}; see scripts/figures --list")
    if options.list:
        for one in WORKLOADS:
            print(f"{one.name:14} {one.title}{'; needs ' + ', '.join(one.needs) if one.needs else ''}")
        return 0
    if options.stale:
        differing = report.stale(ROOT)
        for name in differing:
            print(f"{name} differs from docs/figures.json: scripts/figures --render")
        return 1 if differing else 0
    if options.render:
        report.write(ROOT, json.loads((ROOT / "docs/figures.json").read_text()), None)
        return 0
    (ROOT / "target").mkdir(exist_ok=True)
    # Beside the build and not in /tmp, which may be memory; benches put their own directories there too.
    with tempfile.TemporaryDirectory(prefix="figures-", dir=ROOT / "target") as scratch:
        os.environ["TMPDIR"] = scratch
        if options.check is not None:
            return check(options, names, Path(scratch))
        if changed() and not options.output and not options.only:
            raise SystemExit(f"a table is of one commit, and these files differ from it: {', '.join(changed())}; commit them, or name --output DIR")
        data = measure_all(options, names, Path(scratch))
        if options.only and not options.output:
            print(json.dumps(data, indent=1))
        else:
            print("\n".join(str(path) for path in report.write(ROOT, data, options.output)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
