"""Adds the objects of a bundle to the collection of taxii_server.py: python taxii_add.py PORT FILE."""

import json
import sys
import time

from taxii2client.v21 import Collection

URL = f"http://127.0.0.1:{sys.argv[1]}/api1/collections/365fed99-08fa-4fdc-a1b3-fb247eb41d01/"
with open(sys.argv[2], encoding="utf-8") as file:
    objects = json.load(file)["objects"]
for _ in range(100):
    try:
        collection = Collection(URL, user="reader", password="only-for-tests")
        status = collection.add_objects({"objects": objects})
        break
    except OSError:
        time.sleep(0.1)
assert status.failure_count == 0, status.failures
