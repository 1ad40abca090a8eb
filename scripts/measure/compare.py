"""Old beside new: the same workloads with two binaries, in turn, and what became worse."""

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from report import amount, median
from runner import Failed, Run
from workloads import HIGHER, NEUTRAL, WORKLOADS, Figure, Workload

WORSE_FROM = 1.1
"""A figure is worse when the median of its ratios, pair by pair, is beyond this, and no pair says the opposite: a tenth."""
MEMORY = Figure("peak_bytes", "memory of the largest process", "memory")
"""Compared for every workload."""


@dataclass(frozen=True)
class Pair:
    """One figure of a workload with the base and with this tree, and how many times worse it became, pair by pair."""

    workload: str
    figure: Figure
    old: list[float]
    new: list[float]

    @property
    def ratios(self) -> list[float]:
        return [times_worse(self.figure, old, new) for old, new in zip(self.old, self.new)]

    @property
    def is_worse(self) -> bool:
        return median(self.ratios) > WORSE_FROM and min(self.ratios) > 1

    @property
    def is_better(self) -> bool:
        return median(self.ratios) < 1 / WORSE_FROM and max(self.ratios) < 1

    def line(self) -> str:
        old, new = (amount(median(values), self.figure.unit) for values in (self.old, self.new))
        ratios = ", ".join(f"{new / old:.2f}" if old else "-" for old, new in zip(self.old, self.new))
        word = "WORSE " if self.is_worse else "better" if self.is_better else "same  "
        return f"{word}  {self.workload:14} {self.figure.label}: {old} -> {new}  (new/old {ratios})"


def times_worse(figure: Figure, old: float, new: float) -> float:
    """1 is equal, 2 is half as good. A figure that was 0 is worse as soon as it is not."""
    if old == new:
        return 1.0
    before, after = (new, old) if figure.better == HIGHER else (old, new)
    return after / before if before else float("inf")


def in_turn(
    names: list[str], pairs: int, measure: Callable[[Workload, str], Run], say: Callable[[str], None]
) -> tuple[list[Pair], list[str]]:
    """Runs old, new, old, new. Returns the figures that both have, and a sentence for each workload that could not be compared."""
    compared, left_out = [], []
    for workload in WORKLOADS:
        if workload.name not in names or workload.check is None:
            continue
        runs: dict[str, list[Run]] = {"old": [], "new": []}
        try:
            for number in range(pairs):
                for which in runs:
                    say(f"{workload.name}: {which}, pair {number + 1} of {pairs}")
                    runs[which].append(measure(workload, which))
        except Failed as error:
            left_out.append(f"{workload.name}: {error}")
            continue
        compared += figures_of(workload, runs["old"], runs["new"])
        left_out += [f"{workload.name}: {label} is not measured any more" for label in lost(workload, runs["old"], runs["new"])]
    return compared, left_out


def lost(workload: Workload, old: list[Run], new: list[Run]) -> list[str]:
    """Figures that the base has and this tree has not."""
    has = lambda runs, key: all(run.answer.get(key) is not None for run in runs)
    return [one.label for one in workload.figures if has(old, one.key) and not has(new, one.key)]


def figures_of(workload: Workload, old: list[Run], new: list[Run]) -> list[Pair]:
    pairs = []
    for figure in [*workload.figures, MEMORY]:
        if figure.better == NEUTRAL:
            continue
        value = lambda run: run.peak_bytes if figure is MEMORY else run.answer.get(figure.key)
        both = [(value(one), value(other)) for one, other in zip(old, new)]
        # An older binary may not have the figure yet.
        if all(one is not None and other is not None for one, other in both):
            pairs.append(Pair(workload.name, figure, [one for one, _ in both], [other for _, other in both]))
    return pairs
