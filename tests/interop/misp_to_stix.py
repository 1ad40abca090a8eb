"""Turns a feed's events into a STIX bundle with MISP's own converter: python misp_to_stix.py DIRECTORY BUNDLE."""

import json
import pathlib
import sys

from misp_stix_converter import MISPtoSTIX21Parser

feed, objects = pathlib.Path(sys.argv[1]), []
for uuid in json.loads((feed / "manifest.json").read_text()):
    parser = MISPtoSTIX21Parser()
    parser.parse_misp_event(json.loads((feed / f"{uuid}.json").read_text()))
    assert not parser.errors, parser.errors
    objects += json.loads(parser.bundle.serialize())["objects"]
bundle = {"type": "bundle", "id": "bundle--0a0a0a0a-0000-4000-8000-0000000000aa", "objects": objects}
pathlib.Path(sys.argv[2]).write_text(json.dumps(bundle))
