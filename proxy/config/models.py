"""Models and upstreams compiled: targets with their headers, endpoints with their weights, prices, timeouts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from proxy.config.document import PathKey
from proxy.config.draft import Draft
from proxy.config.schema import Connection, Model, Timeouts, Upstream
from proxy.config.schema import Endpoint as Place
from proxy.config.values import Secret, is_unknown, shown
from proxy.meter import prices
from proxy.meter.price import Price
from proxy.runtime import Endpoint
from proxy.runtime import Model as Runtime
from proxy.runtime import Timeouts as RuntimeTimeouts
from proxy.upstreams.base import TLS, Target
from routes.params import DIALECTS

REASONING: Final = 300.0  # seconds to the first content of a model that thinks, where nothing else is said
FORWARD: Final = "request@{}"  # what a model that forwards asked names to an upstream is called


def compile_models(draft: Draft, forwards: Iterable[str]) -> dict[str, Runtime]:
    """All models by name, and one for each upstream that asked names are forwarded to."""
    config = draft.config
    targets = {name: _targets(draft, name, up) for name, up in config.upstreams.items()}
    models = {name: _model(draft, name, spec, targets) for name, spec in config.models.items()}
    for at in sorted(set(forwards)):
        upstream = config.upstreams[at]
        dialect = DIALECTS[upstream.dialect or "openai"]
        limits = timeouts(draft, upstream.timeouts)
        bills = bool(upstream.bills_after_disconnect)
        endpoints = tuple(
            Endpoint(each, "", 1 / len(targets[at]), (dialect,), limits, bills_after_disconnect=bills)
            for each in targets[at]
        )
        models[FORWARD.format(at)] = Runtime(FORWARD.format(at), endpoints, None, forwards=True)
    return models


def _targets(draft: Draft, name: str, spec: Upstream) -> tuple[Target, ...]:
    """A target for each of an upstream's keys: `openai#1`, `openai#2`."""
    path: PathKey = ("upstreams", name)
    if spec.api_keys is None:
        return (target(draft, path, spec),)
    keys = [draft.secrets.get((*path, "api_keys", index)) for index in range(len(spec.api_keys))]
    return tuple(
        replace(target(draft, path, spec, secret), name=f"{name}#{number}") for number, secret in enumerate(keys, 1)
    )


def target(draft: Draft, path: PathKey, spec: Connection, secret: Secret | None = None) -> Target:
    """A server, with the headers it always gets."""
    secret = secret or draft.secrets.get((*path, "api_key"))
    headers = [(name.lower().encode(), value.encode()) for name, value in spec.headers.items()]
    if secret is not None and spec.auth in (None, "bearer"):
        headers.append((b"authorization", b"Bearer " + secret.reveal().encode()))
    elif secret is not None and spec.auth == "api-key":
        headers.append((b"api-key", secret.reveal().encode()))
    needs_httpx = spec.http2 or spec.proxy or spec.tls.certificate
    folder = Path(draft.root.place_of((*path, "tls")).file).parent
    files = {kind: str(folder / file) for kind, file in spec.tls.model_dump().items() if file is not None}
    seen = tuple(draft.files.see(Path(file)) for file in files.values())
    return Target(
        name=str(path[-1]),
        base_url=(spec.base_url or "").rstrip("/"),
        headers=tuple(headers),
        client=spec.client or ("httpx" if needs_httpx else "pool"),
        tls=TLS(**files, seen=seen),
        proxy=spec.proxy,
        http2=spec.http2,
        max_connections=spec.max_connections,
        keep_alive=spec.keep_alive,
    )


def _model(draft: Draft, name: str, spec: Model, targets: Mapping[str, tuple[Target, ...]]) -> Runtime:
    path: PathKey = ("models", name)
    if spec.endpoints is not None:
        places = spec.endpoints
        shares = _shares(places)
    else:
        places, shares = [Place(at=spec.at or name, model=spec.model)], [1.0]
    endpoints = []
    for place, share in zip(places, shares, strict=True):
        upstream = draft.config.upstreams.get(place.at) if spec.at or spec.endpoints else None
        servers = targets[place.at] if upstream else (_own_target(draft, path, spec),)
        dialect = DIALECTS[spec.dialect or (upstream.dialect if upstream else None) or "openai"]
        given = [upstream.timeouts] if upstream else []
        bills = spec.bills_after_disconnect
        if bills is None and upstream is not None:
            bills = upstream.bills_after_disconnect
        endpoints += [
            Endpoint(
                server,
                place.model or name,
                share / len(servers),
                (dialect,),
                timeouts(draft, *given, spec.timeouts, reasoning=spec.reasoning),
                place.priority,
                place.max_in_flight,
                bool(bills),
            )
            for server in servers
        ]
    price = price_of(draft, name, spec)
    return Runtime(name, tuple(endpoints), price, spec.cache_ttl, affinity=spec.affinity)


def _shares(places: Sequence[Place]) -> list[float]:
    """The weights count among the endpoints of one priority."""
    found: dict[int, list[float]] = {}
    for priority in {place.priority for place in places}:
        found[priority], _ = weights([place.weight for place in places if place.priority == priority])
    return [found[place.priority].pop(0) for place in places]


def _own_target(draft: Draft, path: PathKey, spec: Model) -> Target:
    own = target(draft, path, spec)
    if spec.provider is None:
        return own
    secret = draft.secrets.get((*path, "api_key"))
    provider: dict[str, object] = {"provider": spec.provider, **spec.options}
    if secret is not None:
        provider["api_key"] = secret.reveal()
    if spec.base_url is not None:
        provider["api_base"] = spec.base_url
    if spec.headers:
        provider["extra_headers"] = dict(spec.headers)
    return replace(own, client="litellm", provider=provider, headers=())


def timeouts(draft: Draft, *given: Timeouts, reasoning: bool = False) -> RuntimeTimeouts:
    """The defaults with the config's and these over them, later ones first."""
    merged: dict[str, float] = {"first_content": REASONING} if reasoning else {}
    for each in (draft.config.timeouts, *given):
        merged |= each.given()
    return RuntimeTimeouts(**merged)


def weights(written: Sequence[str | float | int | None]) -> tuple[list[float], str | None]:
    """Shares that total 1, and what is wrong with the written ones, if anything.

    All percentages (one may be `rest`), or all plain numbers, which only count beside each other, or none at all.
    """
    if all(weight is None for weight in written):
        return [1 / len(written)] * len(written), None
    if any(weight is None for weight in written):
        return [], "some endpoints have a weight and some do not"
    if all(isinstance(weight, int | float) for weight in written):
        total = sum(float(weight or 0) for weight in written)
        if total <= 0 or any(float(weight or 0) < 0 for weight in written):
            return [], "weights must be positive"
        return [float(weight or 0) / total for weight in written], None
    percents = [_percent(weight) for weight in written]
    if None in percents:
        odd = written[percents.index(None)]
        return [], f"{shown(odd)} is no weight beside percentages: write `80%`, or `rest`"
    rests = [number for number, weight in enumerate(written) if weight == "rest"]
    total_percent = sum((percent for percent in percents if percent is not None), Decimal(0))
    if len(rests) > 1:
        return [], "only one endpoint can take the `rest`"
    if rests:
        if total_percent >= 100:
            return [], f"nothing is left for `rest`: the others total {total_percent:f} %"
        percents[rests[0]] = 100 - total_percent
    elif total_percent != 100:
        return [], f"the weights total {total_percent:f} %, not 100 %"
    return [float((percent or Decimal(0)) / 100) for percent in percents], None


def _percent(weight: str | float | int | None) -> Decimal | None:
    if weight == "rest":
        return Decimal(0)
    if not isinstance(weight, str) or not weight.endswith("%"):
        return None
    try:
        percent = Decimal(weight[:-1].strip())
    except InvalidOperation:
        return None
    return percent if percent.is_finite() and 0 <= percent <= 100 else None


def price_of(draft: Draft, name: str, spec: Model) -> Price | None:
    """The price in config, else the shipped one of the model as it is called at its first endpoint."""
    if spec.price is not None:
        return prices.from_config(price_data(spec))
    if spec.provider is not None:
        return prices.shipped(spec.model or name, spec.provider)
    for at, sent in _sent_names(name, spec):
        upstream = draft.config.upstreams.get(at) if at else spec
        url = upstream.base_url if upstream else None
        vendor = prices.vendor(url) if url and not is_unknown(url) else None
        if found := prices.shipped(sent, vendor):
            return found
    return None


def _sent_names(name: str, spec: Model) -> list[tuple[str | None, str]]:
    if spec.endpoints is not None:
        return [(endpoint.at, endpoint.model or name) for endpoint in spec.endpoints]
    return [(spec.at, spec.model or name)]


def price_data(spec: Model) -> dict[str, Any]:
    """The price as `prices.from_config` reads it."""
    return spec.price.model_dump(exclude_none=True, exclude_defaults=True) if spec.price is not None else {}


def check_prices_and_weights(draft: Draft) -> None:
    """Weights, prices and timeouts: what only shows when they are worked out."""
    for name, spec in draft.config.models.items():
        path: PathKey = ("models", name)
        if spec.endpoints is not None:
            for priority in sorted({endpoint.priority for endpoint in spec.endpoints}):
                written = [endpoint.weight for endpoint in spec.endpoints if endpoint.priority == priority]
                _, wrong = weights(written)
                if wrong and not any(is_unknown(weight) for weight in written):
                    draft.error((*path, "endpoints"), "bad-weights", f"model {name!r}: {wrong}")
        try:
            price = price_of(draft, name, spec)
        except ValueError as bad:
            key, _, message = str(bad).partition(": ")
            draft.error((*path, "price", *key.split(".")), "bad-price", f"`{key}`: {message}")
            continue
        if price is None and draft.whole:
            message = f"no price is known for model {name!r}: its cost will be counted as unknown"
            suggestion = "add `price: {input: ..., output: ...}` (US$ per 1M tokens)"
            draft.warn(path, "unpriced-model", message, suggestion, key=True)
