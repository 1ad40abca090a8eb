"""The workloads: what is run, at which size, and which numbers of its answer are figures.

A workload is a command of huecry that prints one JSON object, or a function of `procedures`. Sizes: `full` for docs/figures.md, `quick` for
`--quick`, `check` for `--check`, where old and new run in turn. None leaves the workload out at that size.
"""

from dataclasses import dataclass, field
from typing import Callable, Optional

import procedures

HIGHER, LOWER, NEUTRAL = "higher", "lower", "neutral"
"""Which direction of a figure is better."""


@dataclass(frozen=True)
class Figure:
    """A number in the answer of a workload.

    `key`: its name in the JSON. `unit`: what `report.amount` prints; of "memory" the value is in bytes. `better`: a figure that is NEUTRAL is printed and never compared.
    `limit`: what it must not be worse than, in the JSON's own unit. `headline`: it is in the README's table too.
    """

    key: str
    label: str
    unit: str
    better: str = LOWER
    limit: Optional[float] = None
    headline: bool = False


@dataclass(frozen=True)
class Workload:
    """One measurement.

    `needs`: programs that some of its figures need, with the Debian package of each. Without them those figures are "not measured".
    `runs`: argument lists that are appended, one for each run; figures are then the median of the runs, with the range beside it.
    `beside`: figures of the same run that are yardsticks or limits, not ours.
    `procedure`: for what one command cannot measure; it receives the binary and the arguments.
    """

    name: str
    title: str
    figures: list[Figure]
    full: Optional[list[str]]
    quick: Optional[list[str]] = None
    check: Optional[list[str]] = None
    beside: list[Figure] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    runs: list[list[str]] = field(default_factory=lambda: [[]])
    procedure: Optional[Callable] = None


def simulation(*arguments: str) -> list[str]:
    return ["sim", "--latency-ms", "50", *arguments]


ARRIVAL = [
    Figure("announce_p50_ms", "a batch is held everywhere: median", "ms", headline=True),
    Figure("announce_p99_ms", "99th percentile", "ms", limit=650, headline=True),
    Figure("announce_last_ms", "last", "ms"),
    Figure("withdrawal_p99_ms", "a withdrawal at 99 % of the nodes", "ms", headline=True),
    Figure("notice_p99_ms", "a revoked key is known at 99 % of the nodes", "ms"),
    Figure("received_ratio", "bytes received for each byte of content", "ratio"),
    Figure("idle_exchange_bytes", "one comparison of cursors without news", "bytes"),
    Figure("bytes_per_node", "memory of a node", "memory", limit=6 << 20, headline=True),
]
"""Figures of every simulation. The limits are those of 250 nodes without loss."""

LINK = [Figure("latency_ms", "one link, one way", "ms", NEUTRAL), Figure("lag_ms", "event loop behind real time, at worst", "ms", NEUTRAL)]


def unlimited(figures: list[Figure]) -> list[Figure]:
    return [Figure(one.key, one.label, one.unit, one.better) for one in figures]


WORKLOADS = [
    Workload(
        "ingest",
        "Signed batches of another member: verified, judged by policy, on disk with fsync, indexed",
        [
            Figure("records_per_s", "records", "per_s", HIGHER, headline=True),
            Figure("records_per_s_last_tenth", "records, last tenth", "per_s", HIGHER),
            Figure("findable_ms", "the last record is found by value after", "ms"),
            Figure("disk_bytes_per_record", "disk for a record", "bytes"),
        ],
        full=["bench", "ingest", "--records", "10000000", "--keep", "{ledger}"],
        quick=["bench", "ingest", "--records", "1000000", "--keep", "{ledger}"],
        check=["bench", "ingest", "--records", "2000000"],
        beside=[Figure("yardstick_sled_records_per_s", "sled, the same values as four keys each, nothing verified", "per_s", NEUTRAL)],
    ),
    Workload(
        "lookup",
        "Is a value known: the ledger of `ingest`, one core",
        [
            Figure("hits_per_s", "hits", "per_s", HIGHER, headline=True),
            Figure("hit_p99_us", "a hit, 99th percentile", "us", headline=True),
            Figure("miss_p99_us", "a miss, 99th percentile", "us"),
            Figure("answers_per_s", "whole answers, weighed, as JSON", "per_s", HIGHER, headline=True),
            Figure("open_s", "opening after a clean stop", "s"),
        ],
        full=["bench", "lookup", "--records", "10000000", "--from", "{ledger}"],
        quick=["bench", "lookup", "--records", "1000000", "--from", "{ledger}"],
        check=["bench", "lookup", "--records", "1000000"],
    ),
    Workload(
        "match",
        "A Zeek DNS log against the ledger of `ingest`",
        [Figure("lines_per_s", "lines", "per_s", HIGHER, headline=True), Figure("load_s", "fetching the keys", "s")],
        full=["bench", "match", "--records", "10000000", "--from", "{ledger}"],
        quick=None,
    ),
    Workload(
        "match-small",
        "The same against 100,000 indicators, and `grep -F -w -f` on the same log",
        [Figure("lines_per_s", "lines", "per_s", HIGHER)],
        full=["bench", "match", "--records", "100000", "--lines", "3000000"],
        quick=["bench", "match", "--records", "100000", "--lines", "1000000"],
        check=["bench", "match", "--records", "100000", "--lines", "3000000"],
        beside=[Figure("grep_ratio", "times grep", "ratio", NEUTRAL)],
    ),
    Workload(
        "policy",
        "Decisions over real values with every published warninglist, one core",
        [Figure("decisions_per_s", "decisions", "per_s", HIGHER, headline=True), Figure("match_ns", "matching one value with all lists", "ns")],
        full=["bench", "policy"],
        quick=["bench", "policy"],
        check=["bench", "policy"],
        beside=[Figure("uncached_us", "Cedar alone, one decision", "us", NEUTRAL)],
    ),
    Workload(
        "publish",
        "Our own list: read, signed, on disk",
        [Figure("lines_per_s", "lines", "per_s", HIGHER)],
        full=["bench", "publish", "--lines", "500000"],
        quick=["bench", "publish", "--lines", "200000"],
        check=["bench", "publish", "--lines", "500000"],
    ),
    Workload(
        "formats",
        "Files in from others' formats, exports out for tools, hostile texts through every writer",
        [
            Figure("list_import_per_s", "a list, imported: lines", "per_s", HIGHER, headline=True),
            Figure("stix_import_per_s", "STIX, imported: indicators", "per_s", HIGHER, headline=True),
            Figure("rpz_export_s", "RPZ, written and read back", "s"),
            Figure("nftables_export_s", "nftables sets, written and read back", "s"),
            Figure("delta_ms", "the nftables script for a change of 1,000", "ms"),
        ],
        full=["bench", "exchange"],
        quick=["bench", "exchange", "--stix", "60000", "--lines", "200000", "--values", "200000", "--hostile", "100000"],
        check=["bench", "exchange", "--stix", "100000", "--lines", "1000000", "--values", "300000", "--hostile", "10000"],
        beside=[Figure("list_read_per_s", "the list's lines read alone, one core", "per_s", NEUTRAL)],
    ),
    Workload(
        "charter",
        "A charter of 250 members, 60 circles, 5 of 9 stewards",
        [Figure("verify_ms", "verified", "ms"), Figure("apply_ms", "in force on a running node", "ms")],
        full=["bench", "charter"],
        quick=["bench", "charter"],
    ),
    Workload(
        "catchup",
        "A new node fetches everything that another process has, both on the same cores",
        [Figure("records_per_s", "records", "per_s", HIGHER, headline=True)],
        full=["bench", "catchup", "--records", "500000"],
        quick=["bench", "catchup", "--records", "200000"],
        check=["bench", "catchup", "--records", "500000"],
    ),
    Workload(
        "http",
        "The API of a running node, load on the same cores",
        [
            Figure("lookups_per_s", "look-ups by value", "per_s", HIGHER, headline=True),
            Figure("p99_ms", "a look-up, 99th percentile", "ms", headline=True),
            Figure("taxii_objects_per_s", "TAXII objects, a collection read to its end", "per_s", HIGHER, headline=True),
            Figure("decisions_first_s", "all CrowdSec decisions, the first time", "s"),
            Figure("decisions_empty_ms", "a change of decisions that is empty", "ms"),
        ],
        full=["bench", "http"],
        quick=["bench", "http", "--records", "200000", "--seconds", "5", "--decisions", "0"],
        check=["bench", "http", "--records", "300000", "--decisions", "0"],
        beside=[Figure("nginx_per_s", "nginx with a constant answer, the same load", "per_s", NEUTRAL)],
        needs={"wrk": "wrk", "nginx": "nginx-light"},
        procedure=procedures.api,
    ),
    Workload(
        "node-empty",
        "A node without records or peers, half a minute after its start",
        [Figure("rss_bytes", "memory", "memory", limit=40 << 20, headline=True)],
        full=["0"],
        quick=["0"],
        check=["0"],
        procedure=procedures.resident,
    ),
    Workload(
        "node-million",
        "A node with a million records, half a minute after its start, and after 50,000 look-ups through the API",
        [
            Figure("rss_bytes", "memory", "memory", limit=150 << 20, headline=True),
            Figure("rss_asked_bytes", "memory after the look-ups", "memory"),
        ],
        full=["1000000"],
        quick=["1000000"],
        check=["1000000"],
        procedure=procedures.resident,
    ),
    Workload(
        "peers",
        "One node behind its own publications, then with peers in another process",
        [
            Figure("rss_alone_bytes", "memory before the peers came", "memory", limit=150 << 20, headline=True),
            Figure("rss_bytes", "memory with all peers", "memory"),
        ],
        full=["bench", "peers"],
        quick=["bench", "peers", "--peers", "50", "--records", "200000"],
        check=["bench", "peers", "--peers", "50"],
    ),
    Workload(
        "sim-250",
        "250 nodes in one process, 50 ms links, 2 batches of 256 records a second",
        ARRIVAL,
        full=simulation("--nodes", "250", "--records", "10000"),
        quick=simulation("--nodes", "250", "--records", "10000"),
        check=simulation("--nodes", "250", "--records", "10000"),
        beside=LINK,
        runs=[["--seed", "1"], ["--seed", "2"], ["--seed", "3"]],
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-loss",
        "250 nodes where one segment in a hundred is lost",
        unlimited(ARRIVAL),
        full=simulation("--nodes", "250", "--records", "10000", "--loss", "1%"),
        beside=LINK,
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-hostile",
        "The same with 50 of the 250 hostile: they drop, delay, withhold, lie, equivocate",
        [*unlimited(ARRIVAL), Figure("delivered", "delivered to the honest nodes", "share", HIGHER), Figure("proved_p99_ms", "an equivocation is proved at 99 % of the nodes", "ms")],
        full=simulation("--nodes", "250", "--records", "10000", "--loss", "1%", "--hostile", "20%"),
        beside=LINK,
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-strangers",
        "20 nodes; 640 strangers knock 1,400 times a second in all",
        [*unlimited(ARRIVAL), Figure("strangers_bytes", "bytes that strangers got above the handshake", "bytes")],
        full=simulation("--nodes", "20", "--records", "10000", "--seed", "5", "--strangers", "640"),
        beside=LINK,
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-partition",
        "100 nodes, 40 of them cut off for 15 s, one segment in a hundred lost",
        [*unlimited(ARRIVAL), Figure("healed_ms", "everyone has everything, after the cut", "ms")],
        full=simulation("--nodes", "100", "--records", "10000", "--loss", "1%", "--partition", "40%:15s"),
        beside=LINK,
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-late",
        "20 nodes, three of which start when 200,000 records are published",
        [Figure("catchup_ratio", "bytes received for each byte of content", "ratio"), Figure("catchup_ms", "until they have everything", "ms")],
        full=simulation("--nodes", "20", "--records", "200000", "--batches-per-s", "50", "--late", "3"),
        procedure=procedures.simulation,
    ),
    Workload(
        "sim-hoards",
        "15 nodes, 400,000 records; three ask for everything and read nothing",
        [Figure("bytes_per_node", "memory of a node", "memory")],
        full=["sim", "--nodes", "15", "--latency-ms", "10", "--records", "400000", "--batches-per-s", "60", "--seed", "5", "--hostile", "20%", "--malice", "hoards"],
        procedure=procedures.simulation,
    ),
    Workload(
        "torture",
        "kill -9 at random points of a node's work; records lost or risen again after each",
        [
            Figure("lost", "acknowledged records lost", "count", limit=0),
            Figure("risen", "withdrawn or erased records that rose again", "count", limit=0),
            Figure("slowest_start_ms", "slowest start", "ms"),
        ],
        full=["torture", "--cycles", "100", "--seed", "2026"],
    ),
]
