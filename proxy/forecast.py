"""What a request would cost, before it is sent: counted at four characters a token, for nothing is learned yet.

Output is what the request allows (`max_completion_tokens` or `max_tokens`, times `n`), and nothing where it sets no
limit: an answer's length is anybody's guess, and a guess must not look like a figure.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import orjson

from policies.facts import Facts
from proxy.meter.baseline import Learned, estimated
from proxy.meter.estimate import CHARACTERS_PER_TOKEN, tokens
from proxy.meter.usage import Usage
from proxy.retrying import PASSING, falls_back
from proxy.runtime import Model, Service, Snapshot
from proxy.upstreams.balance import SAME_UPSTREAM
from routes.chat import compose, encode
from routes.effects import Relay, Relayed
from routes.prompt import RenderError
from routes.route import MAX_ATTEMPTS, Ask, Route, flatten, run

ALWAYS: Final = 1e9  # requests a second: as many as keep a prompt in its vendor's cache


@dataclass(frozen=True, slots=True)
class Estimate:
    """Money in pico-dollars; None where a model has no price."""

    tokens: int  # of the prompt, as the decided route sends it
    output: int | None  # at most, of one attempt; None where the request sets no limit
    usd: int | None  # of one attempt by the decided route, nothing cached
    worst: int | None  # of the dearest way through endpoints and fallbacks, every attempt billed in full
    attempts: int  # on that way


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the baseline route would cost for the same request."""

    route: str | None
    cached: int | None  # with its prompt in the vendor's cache, if that is long enough to be cached
    uncached: int | None


def estimate(snapshot: Snapshot, route: Route, ask: Ask) -> Estimate:
    """Raises `RenderError` or `Unencodable` where the route's own prompt or body does."""
    usage, is_limited = measure(route, ask)
    prices = {each.name: price(snapshot, each, ask) for each in flatten(route)}
    others = {each.name: calls(snapshot, each) - 1 for each in flatten(route)}
    limit = snapshot.retries.attempts
    ways = {longest(way[:limit], limit, others, prices) for way in chains(route)}
    dearest: tuple[int, int] | None = None
    if all(prices[name] is not None for way in ways for name in way):
        dearest = max((sum(prices[name] or 0 for name in way), len(way)) for way in ways)
    return Estimate(
        tokens=usage.prompt,
        output=usage.output if is_limited else None,
        usd=prices[route.name],
        worst=dearest[0] if dearest else None,
        attempts=dearest[1] if dearest else max(map(len, ways)),
    )


def alternative(snapshot: Snapshot, service: Service, ask: Ask) -> Alternative:
    route = service.baseline
    if route is None:
        return Alternative(None, None, None)
    try:
        usage, _ = measure(route, ask)
    except RenderError:  # of that prompt only: the request itself is served
        return Alternative(route.name, None, None)
    model = model_of(snapshot, route, ask)
    found = estimated(
        Learned(),
        model.name,
        model.price,
        prompt_chars=usage.prompt * CHARACTERS_PER_TOKEN,
        static_chars=route.prompt.characters(ask.variables) if route.prompt is not None and not ask.untouched else 0,
        output_chars=usage.output * CHARACTERS_PER_TOKEN,
        rate=ALWAYS,
        ttl=model.cache_ttl,
    )
    return Alternative(route.name, found.cost, found.uncached)


def measure(route: Route, ask: Ask) -> tuple[Usage, bool]:
    """Tokens of the request as this route sends it, and whether its output has a limit."""
    sent = Facts(body=orjson.loads(encode(compose(ask, route))), headers={})
    limit = sent.max_tokens
    choices = sent.body.get("n")
    output = max(0, int(limit or 0)) * (choices if isinstance(choices, int) and choices > 0 else 1)
    return Usage(input=tokens(int(sent.prompt_tokens * CHARACTERS_PER_TOKEN)), output=output), limit is not None


def price(snapshot: Snapshot, route: Route, ask: Ask) -> int | None:
    """One attempt's cost, nothing cached; None without a price, or where the prompt cannot be rendered."""
    listed = model_of(snapshot, route, ask).price
    if listed is None:
        return None
    try:
        return listed.cost(measure(route, ask)[0]).total
    except RenderError:
        return None


def model_of(snapshot: Snapshot, route: Route, ask: Ask) -> Model:
    model = snapshot.models[route.model]
    return model.asking(ask.body["model"]) if model.forwards else model


def calls(snapshot: Snapshot, route: Route) -> int:
    """At most, of its model before the route gives up: also one more of an endpoint that may soon be well again."""
    places = Counter(endpoint.target.upstream for endpoint in snapshot.models[route.model].endpoints)
    waits = bool(snapshot.retries.pause) and not all(falls_back(route, failure) for failure in PASSING)
    return sum(SAME_UPSTREAM if waits else min(count, SAME_UPSTREAM) for count in places.values())


def chains(route: Route) -> Iterator[tuple[str, ...]]:
    """Every way through the fallbacks to its end: the routes tried, for each way in which attempts can fail."""
    causes = sorted({cause for each in flatten(route) for fallback in each.fallback for cause in fallback.on})
    for failures in product(causes, repeat=MAX_ATTEMPTS - 1):
        yield _tried(route, failures)
    if not causes:
        yield (route.name,)


def longest(
    way: tuple[str, ...], limit: int, others: Mapping[str, int], prices: Mapping[str, int | None]
) -> tuple[str, ...]:
    """The way with the attempts that are left spent on further endpoints of its models, the dearest first."""
    extra: list[str] = []
    for name in sorted(way, key=lambda name: prices[name] or 0, reverse=True):
        extra += [name] * min(others[name], limit - len(way) - len(extra))
    return (*way, *extra)


def _tried(route: Route, failures: tuple[str, ...]) -> tuple[str, ...]:
    """What `run` does when attempts fail like this."""
    tried: list[str] = []
    story = run(route, Ask({}, []))
    effect = next(story, None)
    while effect is not None:
        if not isinstance(effect, Relay):
            effect = next(story, None)
            continue
        tried.append(effect.route.name)
        failure = failures[len(tried) - 1] if len(tried) <= len(failures) else None
        try:
            effect = story.send(Relayed(failure))
        except StopIteration:
            effect = None
    return tuple(tried)
