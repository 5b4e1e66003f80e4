"""What traffic must have cost: the contract's rules in fractions of a dollar, from the stand-ins' journals alone.

Nothing of the proxy's pricing or counting is imported. Where an attempt's usage can only be estimated, its bill is
an interval; for a model that has never reported usage the interval is a point, because the estimate is then four
characters a token.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from proxy.standins.journal import Entry
from tests.proxy.traffic import KEYS, Ask

KINDS = ("input", "cached_input", "cache_write", "output", "reasoning")
PER_TOKEN = 4  # characters, where nothing has been learned

FALLS_BACK = {"connect", "timeout", "rate_limited", "upstream_5xx", "bad_answer", "auth", "context_length"}
CALLERS = {"request", "content_filter", "context_length"}

Bill = tuple[tuple[int, int], ...]  # least and most tokens, by kind


@dataclass(frozen=True)
class Place:
    """A route of the test's config, as the oracle knows it."""

    model: str
    sends: Mapping[str, tuple[str, str]]  # name sent upstream -> endpoint's name, persona
    prompt: str = "none"
    fallback: str | None = None


@dataclass
class Attempt:
    place: Place
    route: str
    role: str
    endpoint: str
    result: str
    source: str  # upstream, estimated, none
    bill: Bill
    prompt: str


@dataclass
class Verdict:
    """What must have been booked for one request."""

    ask: Ask
    attempts: list[Attempt] = field(default_factory=list)
    outcome: str = ""


def tier_of(price: Mapping[str, Any], prompt: int) -> Mapping[str, str]:
    for above, dearer in sorted(price.get("above", {}).items(), reverse=True):
        if prompt > above:
            return {**price, **dearer}
    return price


def dollars(price: Mapping[str, Any] | None, tokens: Sequence[int]) -> list[Fraction]:
    """US$ by kind: unset cached and write prices are the input's, reasoning is the output's."""
    if price is None:
        return [Fraction(0)] * len(KINDS)
    rates = tier_of(price, sum(tokens[:3]))
    default = {"cached_input": "input", "cache_write": "input", "reasoning": "output"}
    per_million = [Fraction(rates[kind] if kind in rates else rates[default[kind]]) for kind in KINDS]
    return [rate * count / 1_000_000 for rate, count in zip(per_million, tokens, strict=True)]


def reported(usage: Any) -> list[int] | None:
    """Disjoint counts of OpenAI's usage object; None where it does not tell of prompt and completion both."""
    counts = told(usage)
    return counts if any(counts[:3]) and any(counts[3:]) else None


def told(usage: Any) -> list[int]:
    """The same, with noughts for what it does not tell; negative numbers tell nothing."""
    if not isinstance(usage, dict):
        return [0] * 5
    prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    cached = count(usage.get("prompt_tokens_details") or {}, "cached_tokens")
    reasoning = count(usage.get("completion_tokens_details") or {}, "reasoning_tokens")
    return [max(0, each) for each in (prompt - cached, cached, 0, completion - reasoning, reasoning)]


def count(holder: Mapping[str, Any], name: str) -> int:
    value = holder.get(name)
    return value if isinstance(value, int) else 0


def characters(body: Mapping[str, Any]) -> int:
    """Characters that a model reads: the messages' texts, and the keys and texts of tools."""
    return sum(len(message["content"]) for message in body["messages"]) + sum(map(size, body.get("tools", ())))


def size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + size(each) for key, each in value.items())
    if isinstance(value, list):
        return sum(map(size, value))
    return 0 if value is None else PER_TOKEN


def up(number: Fraction) -> int:
    return -(-number.numerator // number.denominator)


# --- how attempts end

# What each fault is, for a JSON answer and for a stream; nothing: the answer is good all the same. `$`: a 2xx head
# came, so it is billed. `*`: content has gone out by then, so nothing can take over; `?`: perhaps, as the bytes came.
FAULTS: dict[str, tuple[str, str]] = {
    "status=429 retry-after=3": ("rate_limited", "rate_limited"),
    "status=500": ("upstream_5xx", "upstream_5xx"),
    "status=503 body=html": ("upstream_5xx", "upstream_5xx"),
    "status=529 body=anthropic": ("upstream_5xx", "upstream_5xx"),
    "status=401": ("auth", "auth"),
    "status=403 body=garbage": ("auth", "auth"),
    "status=400": ("request", "request"),
    "status=400 code=context_length_exceeded": ("context_length", "context_length"),
    "status=400 code=content_filter": ("content_filter", "content_filter"),
    "status=404": ("request", "request"),
    "status=302": ("bad_answer", "bad_answer"),
    "reset": ("connect", "connect"),
    "cut after=head": ("bad_answer $", "bad_answer $"),
    "cut after=2": ("bad_answer $", "bad_answer $*"),
    "cut after=3 how=rst pace=0.002": ("bad_answer $", "bad_answer $*"),
    "cut after=2 how=end": ("bad_answer $", "bad_answer $*"),
    "error-json": ("upstream_5xx", "upstream_5xx"),
    "error-event": ("upstream_5xx", "upstream_5xx"),
    "error-event after=2 pace=0.01": ("upstream_5xx", "upstream_5xx $?"),
    "truncated": ("bad_answer $", ""),
    "wrong-type": ("", "bad_answer $"),
    "bad-chunk after=2": ("bad_answer $", "bad_answer $*"),
    "huge-header": ("bad_answer", "bad_answer"),
    "huge-line": ("", "bad_answer $"),
    "malformed after=1 kind=json": ("bad_answer $", ""),
    "malformed after=0 kind=array": ("bad_answer $", ""),
    "stall after=request": ("timeout", "timeout"),
    "stall after=head": ("timeout $", "timeout $"),
    "stall after=2": ("timeout $", "timeout $*"),
}  # fmt: skip


class Oracle:
    def __init__(self, routes: Mapping[tuple[str, str], Place], entries: Iterable[Entry]) -> None:
        self.routes = routes
        self.ratios = self._ratios(entries)

    def _ratios(self, entries: Iterable[Entry]) -> Mapping[str, list[Fraction]]:
        """Prompt tokens per character that each model has reported, beside what is taken before: between their
        least and their most must lie whatever is learned from them in whatever order."""
        models = {sent: place.model for place in self.routes.values() for sent in place.sends}
        found: dict[str, list[Fraction]] = {model: [Fraction(1, PER_TOKEN)] for model in models.values()}
        for entry in entries:
            counts = reported(entry.reported)
            if counts is not None:
                found[models[entry.json["model"]]].append(Fraction(sum(counts[:3]), characters(entry.json)))
        return found

    def judge(self, ask: Ask, entries: Sequence[Entry]) -> Verdict:
        """Follow a request through its routes by the rules, holding each step against the journals."""
        verdict = Verdict(ask)
        left = list(entries)
        route: str | None = "strong" if ask.prompt == "near" else ask.route  # a nearly known prompt: the baseline
        role = "primary"
        while route is not None:
            place = self.routes[ask.policy, route]
            attempt, goes_on = self._attempt(ask, route, role, place, left)
            verdict.attempts.append(attempt)
            route = place.fallback if goes_on and len(verdict.attempts) < 3 else None
            role = "fallback"
        assert not left, f"request {ask.number}: {len(left)} calls too many"
        verdict.outcome = outcome(verdict.attempts[-1].result)
        return verdict

    def _attempt(self, ask: Ask, route: str, role: str, place: Place, left: list[Entry]) -> tuple[Attempt, bool]:
        prompt = "none" if ask.prompt == "near" else place.prompt
        if not place.sends:
            return Attempt(place, route, role, "dead", "connect", "none", NOTHING, prompt), True
        assert left, f"request {ask.number} was never sent to {place.model}"
        entry = left.pop(0)
        while entry.status is None and left and left[0].json["model"] == entry.json["model"]:
            entry = left.pop(0)  # a kept connection turned out to be closed: sent again
        endpoint, persona = place.sends[entry.json["model"]]
        struck = ask.fault if ask.on in ("", persona) else ""
        kind, marks = self._ended(ask, struck)
        committed = "*" in marks or ("?" in marks and not left)
        source, bill = ("none", NOTHING) if "$" not in marks else self._bill(ask, entry, place, kind, "*" in marks)
        attempt = Attempt(place, route, role, endpoint, kind, source, bill, prompt)
        return attempt, kind in FALLS_BACK and not committed

    def _ended(self, ask: Ask, struck: str) -> tuple[str, str]:
        """Class and marks."""
        if ask.cancel_after is not None:
            return "cancelled", "$*" if ask.cancel_after else "*"
        found = FAULTS.get(struck, ("", ""))[ask.stream] or "ok $*"
        kind, _, marks = found.partition(" ")
        return kind, marks

    def _bill(self, ask: Ask, entry: Entry, place: Place, kind: str, committed: bool) -> tuple[str, Bill]:
        counts = reported(entry.reported)
        if counts is not None and kind == "ok":
            return "upstream", tuple((each, each) for each in counts)
        prompt = characters(entry.json)
        seen = ask.characters if committed else 0
        most = entry.generated * 8 if kind == "cancelled" else seen
        ratios = self.ratios[place.model]
        # a ratio that was learned rounds to the nearest, four characters a token round up
        asked = (int(prompt * min(ratios)) if len(ratios) > 1 else up(prompt * ratios[0]), up(prompt * max(ratios)))
        if len(ratios) == 1 and committed:  # nothing was ever learned
            said = (up(Fraction(seen, PER_TOKEN)), up(Fraction(most, PER_TOKEN)))
        else:
            said = (seen // 20, max(most, entry.generated * 10, entry.bytes_sent))
        estimate = (asked, (0, 0), (0, 0), said, (0, 0))
        if kind != "ok":
            return "estimated", estimate
        known = told(entry.reported)  # of one side perhaps, which is then as reported
        exact = tuple((each, each) for each in known)
        return "estimated", (
            *(exact[:3] if any(known[:3]) else estimate[:3]),
            *(exact[3:] if any(known[3:]) else estimate[3:]),
        )


NOTHING: Bill = ((0, 0),) * len(KINDS)


def outcome(result: str) -> str:
    if result in ("ok", "cancelled"):
        return result
    return "client_error" if result in CALLERS else "upstream_error"


# --- sums

Sums = dict[frozenset[tuple[str, str]], tuple[Fraction, Fraction]]


def labels(**names: str) -> frozenset[tuple[str, str]]:
    return frozenset(names.items())


def tokens(verdicts: Iterable[Verdict]) -> Sums:
    return _sums((_who(v, a, kind), Fraction(lo), Fraction(hi)) for v, a in _billed(verdicts)
                 for kind, (lo, hi) in zip(KINDS, a.bill, strict=True))  # fmt: skip


def costs(verdicts: Iterable[Verdict], prices: Mapping[str, Any]) -> Sums:
    def rows() -> Iterator[tuple[frozenset[tuple[str, str]], Fraction, Fraction]]:
        for verdict, attempt in _billed(verdicts):
            least, most = (dollars(prices[attempt.place.model], [each[i] for each in attempt.bill]) for i in (0, 1))
            for kind, lo, hi in zip(KINDS, least, most, strict=True):
                yield _who(verdict, attempt, kind), lo, hi

    return _sums(rows())


def cost(verdict: Verdict, prices: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """US$ of all attempts of one request, least and most."""
    found = costs([verdict], prices).values()
    return sum((lo for lo, _ in found), Fraction(0)), sum((hi for _, hi in found), Fraction(0))


def requests(verdicts: Iterable[Verdict], defaults: Mapping[str, str]) -> Counter[frozenset[tuple[str, str]]]:
    found: Counter[frozenset[tuple[str, str]]] = Counter()
    for verdict in verdicts:
        last, ask = verdict.attempts[-1], verdict.ask
        rule = "default" if ask.route == defaults[ask.policy] else ask.route
        if ask.prompt == "near":
            rule = "caller-prompt-near"
        found[labels(tenant=KEYS[ask.secret], policy=ask.policy, rule=rule, route=last.route,
                     model=last.place.model, prompt=last.prompt, outcome=verdict.outcome)] += 1  # fmt: skip
    return found


def attempts(verdicts: Iterable[Verdict]) -> Counter[frozenset[tuple[str, str]]]:
    return Counter(
        labels(model=a.place.model, endpoint=a.endpoint, result=a.result) for v in verdicts for a in v.attempts
    )


def fallbacks(verdicts: Iterable[Verdict]) -> Counter[frozenset[tuple[str, str]]]:
    return Counter(
        labels(**{"policy": v.ask.policy, "from": failed.route, "to": took.route, "reason": failed.result})
        for v in verdicts
        for failed, took in zip(v.attempts, v.attempts[1:], strict=False)
    )


def _billed(verdicts: Iterable[Verdict]) -> Iterator[tuple[Verdict, Attempt]]:
    return ((v, a) for v in verdicts for a in v.attempts if a.source != "none")


def _who(v: Verdict, a: Attempt, kind: str) -> frozenset[tuple[str, str]]:
    return labels(tenant=KEYS[v.ask.secret], policy=v.ask.policy, route=a.route, model=a.place.model,
                  prompt=a.prompt, role=a.role, kind=kind, source=a.source)  # fmt: skip


def _sums(rows: Iterable[tuple[frozenset[tuple[str, str]], Fraction, Fraction]]) -> Sums:
    found: dict[frozenset[tuple[str, str]], list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for key, lo, hi in rows:
        found[key][0] += lo
        found[key][1] += hi
    return {key: (lo, hi) for key, (lo, hi) in found.items()}


def by_trace(journals: Iterable[Iterable[Entry]]) -> dict[int, list[Entry]]:
    """All calls by the number of the request that made them, in the order in which they came."""
    found: dict[int, list[Entry]] = defaultdict(list)
    for entry in sorted((e for journal in journals for e in journal), key=lambda e: e.received):
        found[int(entry.header("traceparent").split("-")[1], 16) - 1].append(entry)
    return found
