"""Which remote API to compare with: address, model, credentials, and the form of a request."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from detr_onnx.bench.hosted.proxy import Proxy
from detr_onnx.bench.hosted.responses import FLOOR
from detr_onnx.errors import DetrError

BASE_URLS = {
    "cloudflare": "https://api.cloudflare.com/client/v4",
    "huggingface": "https://router.huggingface.co/hf-inference",
}
MODELS = {"cloudflare": "@cf/facebook/detr-resnet-50", "huggingface": "facebook/detr-resnet-50"}


class RemoteApiError(DetrError):
    """The remote API cannot be reached, or refuses the token, the account or the model."""


@dataclass(frozen=True)
class RemoteApi:
    """A remote detection API.

    Attributes:
        dialect: "cloudflare" or "huggingface".
        base_url: as the SDKs take it, without a slash at the end.
        model: the API's name of the model.
        account: Cloudflare's account id.
        token: sent as a bearer token; None for a server without authentication.
        timeout_s: of each step of a request.
        proxy: that requests go through; None for none.
    """

    dialect: str
    base_url: str
    model: str
    account: str = ""
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 60
    proxy: Proxy | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def path(self) -> str:
        prefix = f"accounts/{quote(self.account, safe='')}/ai/run" if self.dialect == "cloudflare" else "models"
        return f"{urlsplit(self.base_url).path}/{prefix}/{quote(self.model, safe='@/')}"

    def request(self, image: bytes) -> tuple[bytes, dict[str, str]]:
        """Body and headers for an encoded image."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self.dialect == "cloudflare":
            return image, {"Content-Type": "application/octet-stream", **bearer}
        fields = {"inputs": base64.b64encode(image).decode(), "parameters": {"threshold": FLOOR}}
        return json.dumps(fields).encode(), {"Content-Type": "application/json", **bearer}
