"""A body as it is sent to an endpoint: under the name and in the dialect that it knows."""

from collections.abc import Mapping
from typing import Any

from proxy.reading import unsendable
from proxy.runtime import Endpoint
from routes.chat import Unencodable, encode
from routes.params import apply_all


def encoded(body: Mapping[str, Any], endpoint: Endpoint) -> bytes:
    """The body as JSON; `body` itself stays as it is, for the next call may be in another dialect.

    Raises `BadRequest` for what JSON cannot say.
    """
    own = {**body, "model": endpoint.model}
    if endpoint.dialect:
        apply_all(endpoint.dialect, own)
    try:
        return encode(own)
    except Unencodable as error:
        raise unsendable(error) from None
