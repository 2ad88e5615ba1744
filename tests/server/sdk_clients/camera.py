"""DeepStack's client, as Home Assistant's integration uses it: `camera.py URL IMAGE` prints its answers as JSON."""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from deepstack.core import DeepstackException, DeepstackObject, get_objects_summary

url, image = sys.argv[1:]
address = urlsplit(url)
client = DeepstackObject(address.hostname, address.port, timeout=120)
predictions = client.detect(Path(image).read_bytes())
try:
    client.detect(b"not an image")
    refused = None
except DeepstackException as error:
    refused = str(error)
print(json.dumps({"predictions": predictions, "summary": get_objects_summary(predictions), "refused": refused}))
