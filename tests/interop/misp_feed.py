"""Reads a feed with PyMISP and checks each event by MISP's own schema: python misp_feed.py DIRECTORY. Prints its counts."""

import hashlib
import json
import pathlib
import sys

from pymisp import MISPEvent

feed = pathlib.Path(sys.argv[1])
manifest = json.loads((feed / "manifest.json").read_text())
attributes, hashes = 0, set()
for uuid, listed in manifest.items():
    event = MISPEvent()
    event.load_file(str(feed / f"{uuid}.json"))
    assert event.uuid == uuid and event.info == listed["info"], uuid
    assert {tag.name for tag in event.tags} == {tag["name"] for tag in listed["Tag"]}, uuid
    for attribute in event.attributes:
        parts = attribute.value.split("|") if "|" in attribute.type else [attribute.value]
        hashes |= {(hashlib.md5(part.encode()).hexdigest(), uuid) for part in parts}
        attributes += 1
listed = {tuple(line.split(",")) for line in (feed / "hashes.csv").read_text().split()}
assert listed == hashes, listed ^ hashes
print(json.dumps({"events": len(manifest), "attributes": attributes}))
