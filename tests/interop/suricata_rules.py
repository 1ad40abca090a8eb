"""Reads rules with a parser that is not ours: python suricata_rules.py FILE. Prints how many there are."""

import sys

from suricataparser import parse_file

rules = parse_file(sys.argv[1])
with open(sys.argv[1], encoding="utf-8") as file:
    lines = [line for line in file if line.strip() and not line.startswith("#")]
assert len(rules) == len(lines), f"{len(lines)} lines, {len(rules)} rules"
assert len({rule.sid for rule in rules}) == len(rules), "a sid stands twice"
assert all(any(option.name in ("dataset", "filemd5", "filesha1", "filesha256") for option in rule.options) for rule in rules)
print(len(rules))
