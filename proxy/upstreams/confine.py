"""httpx clients kept to what the config says: no redirects, no cookies.

A client is shared by all callers, so a cookie that a server hands one of them must not go out with the next one's
request. And httpx takes only `authorization` off a redirect to another origin: vendors' own key headers
(`x-api-key`, `api-key`) would go along to whomever a server names.
"""

import functools
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, ParamSpec, TypeVar

import httpx

P = ParamSpec("P")
Client = TypeVar("Client", httpx.AsyncClient, httpx.Client)


def no_cookies() -> CookieJar:
    """A jar that takes none and gives none."""
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))


def confined(client: Client) -> Client:
    client.follow_redirects = False
    client.cookies = no_cookies()
    return client


def confines(make: Callable[P, Any]) -> Callable[P, Any]:
    """Wrap what makes a client, once: every client that it makes is confined."""
    if hasattr(make, "__wrapped__"):
        return make

    @functools.wraps(make)
    def made(*given: P.args, **named: P.kwargs) -> Any:
        client = make(*given, **named)
        return client if client is None else confined(client)

    return made
