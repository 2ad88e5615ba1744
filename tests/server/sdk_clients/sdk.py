"""The hosted API's Python SDK: `sdk.py URL IMAGE` prints its answers as JSON."""

import json
import sys
from pathlib import Path

import cloudflare

url, image = sys.argv[1], Path(sys.argv[2]).read_bytes()
client = cloudflare.Cloudflare(api_token="token", base_url=f"{url}/client/v4", max_retries=0, timeout=120)
MODEL = "@cf/facebook/detr-resnet-50"


def refused(model, image):
    try:
        client.ai.run(model, account_id="0123", image=image)
    except cloudflare.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.body]


def plain(items):
    return json.loads(json.dumps(items, default=lambda item: item.to_dict()))


print(
    json.dumps(
        {
            "version": cloudflare.__version__,
            "found": plain(client.ai.run(MODEL, account_id="0123", image=list(image))),
            "bad input": refused(MODEL, [300]),
            "no model": refused("@cf/other/model", [1]),
            "models": [getattr(m, "name", None) or m["name"] for m in client.ai.models.list(account_id="0123")],
            "token": client.user.tokens.verify().status,
        }
    )
)
