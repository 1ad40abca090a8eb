"""What scripts/figures says of numbers: `python3 -m unittest discover scripts/measure`."""

import tempfile
import time
import unittest
from pathlib import Path

from compare import Pair, figures_of, lost
from report import amount, median, within
from runner import Failed, Run, run
from workloads import HIGHER, LOWER, WORKLOADS, Figure, Workload

RATE = Figure("rate", "records", "per_s", HIGHER, limit=100)
TIME = Figure("time", "a hit", "us", LOWER, limit=10)


def done(**answer: float) -> Run:
    return Run(["huecry"], answer, 1.0, 1.0, 1 << 20)


class Comparing(unittest.TestCase):
    def test_less_of_a_rate_and_more_of_a_time_are_worse(self):
        self.assertTrue(Pair("w", RATE, [100, 100], [80, 85]).is_worse)
        self.assertTrue(Pair("w", TIME, [10, 10], [12, 13]).is_worse)
        self.assertTrue(Pair("w", RATE, [80, 85], [100, 100]).is_better)
        self.assertTrue(Pair("w", TIME, [12, 13], [10, 10]).is_better)

    def test_less_than_a_tenth_is_neither(self):
        pair = Pair("w", RATE, [100, 100], [95, 104])
        self.assertFalse(pair.is_worse or pair.is_better)

    def test_one_pair_that_says_the_opposite_is_enough_to_doubt(self):
        self.assertFalse(Pair("w", TIME, [10, 10], [20, 9]).is_worse)

    def test_what_was_none_and_is_some_is_worse(self):
        self.assertTrue(Pair("w", TIME, [0, 0], [1, 1]).is_worse)
        self.assertFalse(Pair("w", TIME, [0, 0], [0, 0]).is_worse)

    def test_a_figure_that_is_gone_is_named(self):
        workload = Workload("w", "w", [RATE, TIME], full=[])
        old, new = [done(rate=1, time=1)], [done(rate=1)]
        self.assertEqual(lost(workload, old, new), ["a hit"])
        self.assertEqual([pair.figure.key for pair in figures_of(workload, old, new)], ["rate", "peak_bytes"])


class Writing(unittest.TestCase):
    def test_numbers_read_as_a_person_says_them(self):
        shown = [(1234567.8, "per_s", "1,234,568/s"), (0.4049, "us", "0.405 us"), (41 << 20, "memory", "41 MiB"), (None, "ms", "not measured")]
        for value, unit, text in shown:
            self.assertEqual(amount(value, unit), text)
        self.assertEqual(median([3, 1, 2, 10]), 2.5)

    def test_a_limit_is_kept_up_to_itself(self):
        self.assertTrue(within(RATE, 100).startswith("within") and within(TIME, 10).startswith("within"))
        self.assertIn("beyond", within(RATE, 99) and within(TIME, 11))

    def test_every_workload_has_a_name_of_its_own_and_something_to_run(self):
        self.assertEqual(len({one.name for one in WORKLOADS}), len(WORKLOADS))
        self.assertTrue(all(one.full or one.quick for one in WORKLOADS))


class Running(unittest.TestCase):
    def program(self, text: str) -> str:
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        path = Path(place.name) / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return str(path)

    def test_a_command_that_fails_is_reported_with_its_last_line(self):
        with self.assertRaisesRegex(Failed, "exit code 3: the reason"):
            run(self.program("echo more >&2; echo the reason >&2; exit 3"), [])

    def test_the_last_line_is_the_answer_and_nothing_is_left_running(self):
        answered = run(self.program("sleep 600 & echo noise; echo \"{\\\"pid\\\": $!}\""), [])
        self.assertEqual(list(answered.answer), ["pid"])
        state = Path(f"/proc/{answered.answer['pid']}/stat")
        for _ in range(100):
            if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
            time.sleep(0.05)
        self.fail("the child is still running")


if __name__ == "__main__":
    unittest.main()
