"""Listeners, upstreams, models and keys: what is wrong with one server, or between two."""

import ipaddress
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final
from urllib.parse import SplitResult, urlsplit

from proxy.bodies import COPIES
from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.schema import Connection, Model
from proxy.config.values import is_unknown

# Headers that the proxy sets itself.
OURS: Final = ("host", "content-length", "transfer-encoding", "connection", "content-type")


def check_listeners(draft: Draft) -> None:
    server = draft.config.server
    if server.listen == server.admin and not server.listen.endswith(":0"):
        draft.error(("server", "admin"), "same-listener", f"`listen` and `admin` are both {server.listen}")
    if not draft.written["keys"] and not is_loopback_address(server.listen):
        message = f"without `keys`, anyone who reaches {server.listen} could spend your money"
        suggestion = "add `keys:`, or listen on 127.0.0.1"
        draft.error(("server", "listen"), "open-listener", message, suggestion)


def check_sizes(draft: Draft) -> None:
    """What holds the other must be the larger one."""
    server = draft.config.server
    for part, whole, times in (("max_body", "body_memory", COPIES), ("max_header", "max_head", 1)):
        written = [draft.root.at(("server", key)) for key in (part, whole)]
        needed, given = times * getattr(server, part), getattr(server, whole)
        if whole == "body_memory" and written[1] is None:
            continue  # as much as is needed
        if needed > given and not any(node and is_unknown(node.value) for node in written):
            message = f"`{part}` needs a `{whole}` of {needed} bytes, not {given}"
            draft.error(("server", part if written[0] else whole), "bad-size", message, f"raise `{whole}`")


def is_loopback_address(address: str) -> bool:
    return _is_loopback(address.rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_private(host: str) -> bool:
    """A loopback or private address, or a name that only an own network resolves."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".svc", ".lan", ".test"))


def check_connections(draft: Draft) -> None:
    for path, connection, default_client in _connections(draft):
        if connection.base_url is not None and not is_unknown(connection.base_url):
            _check_url(draft, (*path, "base_url"), connection)
        client = connection.client or default_client
        needs = {"http2": connection.http2, "proxy": connection.proxy, "tls": connection.tls.certificate}
        for key, value in needs.items():
            if value and client == "pool" and connection.client is not None:
                draft.error(
                    (*path, key), "needs-httpx", f"`{key}` does not work with `client: pool`", "use `client: httpx`"
                )
        if bool(connection.tls.certificate) != bool(connection.tls.key):
            draft.error((*path, "tls"), "missing-key", "a client certificate needs `certificate` and `key`")
        for header, value in connection.headers.items():
            _check_header(draft, (*path, "headers", header), header, value)


def _check_header(draft: Draft, path: PathKey, name: str, value: str) -> None:
    if name.lower() in OURS:
        draft.error(path, "bad-header", f"the header {name!r} is the proxy's to set", key=True)
    elif not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        draft.error(path, "bad-header", f"{name!r} cannot be a header's name", key=True)
    elif any(c < " " or c > "~" for c in value):
        draft.error(path, "bad-header", f"the value of {name!r} must be printable ASCII")


def _connections(draft: Draft) -> Iterator[tuple[PathKey, Connection, str]]:
    for name, upstream in draft.config.upstreams.items():
        yield ("upstreams", name), upstream, "pool"
    for name, model in draft.config.models.items():
        yield ("models", name), model, "litellm" if model.provider else "pool"


def _check_url(draft: Draft, path: PathKey, connection: Connection) -> None:
    def refuse(message: str, suggestion: str | None = None) -> None:
        draft.error(path, "bad-url", message, suggestion)

    assert connection.base_url is not None
    try:
        url: SplitResult = urlsplit(connection.base_url)
        host, _ = url.hostname, url.port
    except ValueError:
        return refuse("`base_url` is not a URL")
    if url.scheme not in ("http", "https") or not host:
        return refuse("`base_url` must be http://HOST... or https://HOST...")
    if url.username is not None or url.password is not None:
        return refuse("`base_url` holds a user or password", "use `api_key` or `headers`")
    if url.query or url.fragment:
        return refuse("`base_url` ends before `?` and `#`", "put an API version into the path or into `headers`")
    if any(c <= " " or c > "~" for c in connection.base_url):
        return refuse("`base_url` holds a space or a character that a URL cannot have")
    if url.path.rstrip("/").endswith(("/chat/completions", "/completions", "/responses", "/embeddings")):
        return refuse("`base_url` is the API's root", "cut the endpoint's path, as in https://api.openai.com/v1")
    has_key = connection.api_key is not None or getattr(connection, "api_keys", None) is not None
    if url.scheme == "http" and has_key and not _is_private(host):
        draft.warn(path, "insecure-url", f"the key would go to {host} in plain text", "use https://")
    return None


def check_models(draft: Draft) -> None:
    for name, model in draft.config.models.items():
        path: PathKey = ("models", name)
        if model.at is not None:
            draft.refer("upstreams", model.at, (*path, "at"), f"model {name!r}")
        _refuse_server_keys(draft, name, model)
        for index, endpoint in enumerate(model.endpoints or []):
            draft.refer("upstreams", endpoint.at, (*path, "endpoints", index, "at"), f"model {name!r}")
        if model.hedge is not None:
            refuse_lonely_hedge(draft, name, (*path, "hedge"))
        if model.options and model.provider is None:
            draft.error(
                (*path, "options"), "conflicting-keys", "`options` are LiteLLM's: they need `provider`", key=True
            )
        if str(model.options.get("ssl_verify", "")).lower() in ("false", "0", "no", "off"):
            message = "TLS to models is always verified: who answers in a model's place would get its key"
            suggestion = "for a CA of your own, name its file in the environment variable SSL_CERT_FILE"
            draft.error((*path, "options", "ssl_verify"), "unverified-tls", message, suggestion)
    if find_spec("litellm") is None:
        for name in [name for name, model in draft.config.models.items() if model.provider is not None]:
            message = f"model {name!r} is called through LiteLLM, which is not installed"
            draft.warn(("models", name, "provider"), "needs-litellm", message, "pip install 'pointsman[litellm]'")


def refuse_lonely_hedge(draft: Draft, model: str, path: PathKey) -> None:
    """A second call goes to another endpoint: there must be one."""
    spec = draft.config.models[model]
    places = [endpoint.at for endpoint in spec.endpoints] if spec.endpoints is not None else [spec.at or ""]
    upstreams = [draft.config.upstreams.get(at) for at in places]
    keys = sum(len(each.api_keys or [None]) if each is not None else 1 for each in upstreams)
    if keys < 2 and draft.whole:
        message = f"model {model!r} has one endpoint: there is no other to ask"
        draft.error(path, "lonely-hedge", message, "give it two `endpoints`, or take `hedge` away", key=True)


# What a model says only where it is reached at its own address, and where LiteLLM reaches it for us.
OF_SERVERS: Final[tuple[str, ...]] = (
    "api_key", "auth", "headers", "client", "http2", "proxy", "tls", "max_connections", "keep_alive",
)  # fmt: skip
OF_OUR_CLIENTS: Final[tuple[str, ...]] = ("auth", "client", "http2", "proxy", "tls")


def _refuse_server_keys(draft: Draft, name: str, model: Model) -> None:
    """What would be ignored must not look as if it held."""
    if model.at is not None:
        keys, why = OF_SERVERS, f"belongs to its upstream {model.at!r}"
    elif model.endpoints is not None:
        keys, why = OF_SERVERS, "belongs to the upstreams of its endpoints"
    elif model.provider is not None:
        keys, why = OF_OUR_CLIENTS, "does nothing: LiteLLM makes the connection"
    else:
        return
    for key in [key for key in keys if key in model.model_fields_set]:
        draft.error(("models", name, key), "conflicting-keys", f"`{key}` of model {name!r} {why}", key=True)


def check_keys(draft: Draft) -> None:
    seen: dict[object, int] = {}
    names: dict[str, int] = {}
    for index, key in enumerate(draft.config.keys):
        path: PathKey = ("keys", index)
        if key.name in names:
            draft.error((*path, "name"), "duplicate-name", f"the key {key.name!r} is here twice")
        names.setdefault(key.name, index)
        secret = draft.secrets.get((*path, "key"))
        if secret in seen:
            other = draft.config.keys[seen[secret]].name
            draft.error((*path, "key"), "same-key", f"{key.name!r} has the same key as {other!r}")
        if secret is not None:
            seen[secret] = index
        for number, policy in enumerate(key.policies or []):
            draft.refer("policies", policy, (*path, "policies", number), f"key {key.name!r}")
