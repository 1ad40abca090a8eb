"""OASIS's own TAXII client reads a collection of ours to its end, page by page.

taxii_client.py URL TOKEN PER_PAGE [ADDED_AFTER]: prints what it read as JSON.
"""

import json
import sys

import stix2
from taxii2client.v21 import Server, as_pages

url, token, per_page = sys.argv[1], sys.argv[2], int(sys.argv[3])
server = Server(url, user="huecry", password=token)
root = server.default
collections = {one.title: one for one in root.collections}
read = {}
for title, collection in collections.items():
    ids, pages, kinds, revoked = [], 0, {}, []
    more = {"added_after": sys.argv[4]} if len(sys.argv) > 4 else {}
    for page in as_pages(collection.get_objects, per_request=per_page, **more):
        pages += 1
        for one in page.get("objects", []):
            # Its own library takes every object for what it says it is.
            if not one["type"].startswith("extension-"):
                stix2.parse(one, allow_custom=True)
            ids.append(one["id"])
            kinds[one["type"]] = kinds.get(one["type"], 0) + 1
            if one.get("revoked"):
                revoked.append(one["name"])
    listed = [one["id"] for page in as_pages(collection.get_manifest, per_request=per_page, **more) for one in page.get("objects", [])]
    last = ids[-1] if ids else None
    single = collection.get_object(last)["objects"][0]["id"] if last else None
    read[title] = {
        "objects": len(ids),
        "unique": len(set(ids)),
        "pages": pages,
        "kinds": kinds,
        "revoked": revoked,
        "manifest_is_the_same": listed == ids,
        "single_is_the_same": single == last,
    }
print(json.dumps({"title": server.title, "roots": len(server.api_roots), "collections": read}))
