"""docs/figures.md and the README's table, out of docs/figures.json and nothing else."""

import json
from pathlib import Path

from workloads import LOWER, NEUTRAL, WORKLOADS, Figure, Workload

BEGIN, END = "<!-- figures: written by scripts/figures -->", "<!-- end of figures -->"
"""Where the README's table stands."""


def amount(value: float | None, unit: str) -> str:
    """A number as a person reads it: three digits at least, thousands grouped."""
    if value is None:
        return "not measured"
    if unit == "memory":
        value, unit = value / (1 << 20), "MiB"
    if unit == "share":
        return f"{value:.2%}".replace("%", " %")
    if abs(value) >= 1000 or value == int(value):
        number = f"{value:,.0f}"
    elif abs(value) >= 100:
        number = f"{value:.0f}"
    else:
        number = f"{value:.3g}"
    return number + {"per_s": "/s", "ratio": "", "count": ""}.get(unit, f" {unit}")


def spread(values: list[float], unit: str) -> str:
    """The median of several runs, with the lowest and highest."""
    present = sorted(value for value in values if value is not None)
    if not present:
        return amount(None, unit)
    middle = median(present)
    return amount(middle, unit) if len(present) == 1 else f"{amount(middle, unit)} ({amount(present[0], unit)} to {amount(present[-1], unit)})"


def median(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def within(figure: Figure, value: float | None) -> str:
    """Whether a figure keeps its limit, in a word; nothing where it has none."""
    if figure.limit is None or value is None:
        return ""
    kept = value <= figure.limit if figure.better == LOWER else value >= figure.limit
    return f"{'within' if kept else '**beyond**'} {amount(figure.limit, figure.unit)}"


def values_of(measured: dict, figure: Figure) -> list[float]:
    return [run["answer"].get(figure.key) for run in measured["runs"]]


def page(data: dict) -> str:
    """docs/figures.md."""
    machine, speed = data["machine"], data["speed"]
    lines = [
        "# Figures",
        "",
        f"Measured by `scripts/figures{' --quick' if data['size'] == 'quick' else ''}` on commit `{data['commit'][:10]}`, {data['date']}, one workload after another, "
        f"{data['seconds'] / 60:.0f} minutes in all. [figures.json](figures.json) has every run. Node and load share the same cores.",
        "",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, rustc {machine['rustc']}. "
        f"Its speed: SHA-256 {spread(speed['sha256_mb_per_s'], 'MB/s')} on one core, {amount(speed['syncs_per_s'], 'per_s')} synced writes of 4 KiB. "
        "*Speed* in a heading is SHA-256 just before the workload, relative to the fastest of the run: below 90 % the machine was busy with something else.",
        "",
        "Memory is the largest process's, by the kernel's accounting. A limit is what the figure must not exceed or fall below. Figures in italics are not "
        "huecry's: yardsticks and limits of the same run.",
    ]
    for workload in WORKLOADS:
        measured = data["measured"].get(workload.name)
        if measured:
            lines += section(workload, measured)
    return "\n".join(lines) + "\n"


def section(workload: Workload, measured: dict) -> list[str]:
    lines = ["", f"## {workload.title}", ""]
    if measured.get("failed"):
        return [*lines, f"Not measured: {measured['failed']}."]
    runs = measured["runs"]
    peak = max(run["peak_bytes"] for run in runs)
    lines += [f"    {' '.join(run['command'])}" for run in runs]
    lines += ["", f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {sum(run['seconds'] for run in runs):.0f} s, {peak >> 20:,} MiB at most, speed {measured['speed']:.0%}."]
    lines += ["", "| | Figure | Limit |", "|---|---|---|"]
    for figure in workload.figures:
        values = [value for value in values_of(measured, figure) if value is not None]
        lines.append(f"| {figure.label} | {spread(values, figure.unit)} | {within(figure, median(values) if values else None)} |")
    for figure in workload.beside:
        lines.append(f"| *{figure.label}* | *{spread(values_of(measured, figure), figure.unit)}* | |")
    return lines


def table(data: dict) -> str:
    """The README's table: what somebody asks first."""
    lines = [f"Commit `{data['commit'][:10]}`, {data['date'][:10]}, {data['machine']['cores']} shared cores, node and load on both:", "", "| What | Figure |", "|---|---|"]
    for workload in WORKLOADS:
        measured = data["measured"].get(workload.name)
        figures = [figure for figure in workload.figures if figure.headline]
        if not measured or measured.get("failed") or not figures:
            continue
        said = []
        for figure in figures:
            values = [value for value in values_of(measured, figure) if value is not None]
            if values:
                said.append(f"{figure.label} {amount(median(values), figure.unit)}")
        beside = [f"({one.label}: {amount(median(values), one.unit)})" for one in workload.beside if one.better == NEUTRAL and one.unit == "per_s" and (values := [v for v in values_of(measured, one) if v])]
        lines.append(f"| {workload.title} | {'; '.join(said)} {' '.join(beside)}".rstrip() + " |")
    return "\n".join(lines)


def with_table(readme: str, data: dict) -> str:
    """The README with its table replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(data)}\n\n{END}{after}"


def write(root: Path, data: dict, into: Path | None) -> list[Path]:
    """Writes JSON and page, and the README's table unless another directory is named. Returns what was written."""
    target = into or root / "docs"
    target.mkdir(parents=True, exist_ok=True)
    files = {target / "figures.json": json.dumps(data, indent=1) + "\n", target / "figures.md": page(data)}
    if into is None:
        readme = root / "README.md"
        files[readme] = with_table(readme.read_text(), data)
    for path, text in files.items():
        path.write_text(text)
    return list(files)


def stale(root: Path) -> list[str]:
    """Which of docs/figures.md and README.md do not say what docs/figures.json says."""
    data = json.loads((root / "docs/figures.json").read_text())
    readme = (root / "README.md").read_text()
    expected = {"docs/figures.md": page(data), "README.md": with_table(readme, data)}
    return [name for name, text in expected.items() if (root / name).read_text() != text]
