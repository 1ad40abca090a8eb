"""Checks a bundle with OASIS's own validator and library: python stix_bundle.py FILE. Prints what it holds as JSON."""

import json
import sys

import stix2
from stix2validator import ValidationOptions, validate_file

results = validate_file(sys.argv[1], ValidationOptions(version="2.1"))
if not results.is_valid:
    errors = [str(error) for one in results.object_results for error in one.errors]
    sys.exit(f"not valid: {errors[:5]}")
with open(sys.argv[1], encoding="utf-8") as file:
    bundle = stix2.parse(file.read(), allow_custom=True)
kinds = {}
for one in bundle.objects:
    kinds[one["type"]] = kinds.get(one["type"], 0) + 1
print(json.dumps(kinds, sort_keys=True))
