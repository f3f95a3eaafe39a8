"""Whether the hub can be reached at all, so that a machine without network is told so at once and not after a minute of retries."""

from __future__ import annotations

import os
import socket
import urllib.parse
import urllib.request

ENDPOINT = "https://huggingface.co"


def hub_reachable() -> bool:
    """Whether the hub's name resolves, or a proxy will resolve it. Costs one look-up."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT)
    if urllib.request.getproxies().get(urllib.parse.urlsplit(endpoint).scheme):
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(endpoint).hostname, 443)
    except OSError:
        return False
    return True
