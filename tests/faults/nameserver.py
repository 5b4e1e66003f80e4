"""A name server that can die, in the child process: what the operating system's resolver would say of names in .test.

It takes the resolver's place, not the product's: `socket.getaddrinfo` answers, hangs, or fails. An answer is used for
a fraction of a second instead of half a minute, so that a dead name server is felt within a test.
"""

import socket
import time
from typing import Any

from proxy.upstreams import address

FRESH = 0.2  # seconds an answer is used, in place of the product's 30
HANGS = 5.0  # seconds, as resolvers do before they give up

_resolve = socket.getaddrinfo
_mode = "good"


def switch(mode: str) -> None:
    """`good`, or `dead`: every look-up hangs, then fails."""
    global _mode
    _mode = mode


def install() -> None:
    socket.getaddrinfo = _answer
    address.FRESH = FRESH  # type: ignore[misc]


def _answer(host: Any, *args: Any, **options: Any) -> Any:
    if not str(host).endswith(".test"):
        return _resolve(host, *args, **options)
    if _mode != "good":
        time.sleep(HANGS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _resolve("127.0.0.1", *args, **options)
