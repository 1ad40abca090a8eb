"""OASIS's TAXII 2.1 server with one writable collection: python taxii_server.py PORT [PAGE]. User `reader`, password `only-for-tests`."""

import json
import sys
import tempfile

COLLECTION = {
    "id": "365fed99-08fa-4fdc-a1b3-fb247eb41d01", "title": "Tests", "can_read": True, "can_write": True,
    "media_types": ["application/stix+json;version=2.1"], "objects": [], "manifest": [],
}
VERSION = "application/taxii+json;version=2.1"
DATA = {
    "/discovery": {"title": "Tests", "default": "http://localhost/api1/", "api_roots": ["http://localhost/api1/"]},
    "api1": {
        "information": {"title": "Tests", "versions": [VERSION], "max_content_length": 9765625},
        "status": [],
        "collections": [COLLECTION],
    },
}
with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as data:
    json.dump(DATA, data)
CONFIG = {
    "backend": {"module": "medallion.backends.memory_backend", "module_class": "MemoryBackend", "filename": data.name},
    "users": {"reader": "only-for-tests"},
    "taxii": {"max_page_size": int(sys.argv[2]) if len(sys.argv) > 2 else 2},
}
with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as config:
    json.dump(CONFIG, config)
sys.argv = ["medallion", "--host", "127.0.0.1", "--port", sys.argv[1], config.name]
from medallion.scripts.run import main  # noqa: E402

main()
