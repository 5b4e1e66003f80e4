"""What deciding costs, in microseconds a request: `python -m tests.bench.deciding`. Facts are made anew each time, as
serving does, and the last rule or none matches, so that nothing ends early."""

import json
import timeit
from collections.abc import Callable

from policies import Decision, Facts, Policy, Rule, Split, compile_sticky, compile_when, decide, index_rules
from policies.split import Arm

BODY = {
    "model": "support",
    "messages": [
        {"role": "system", "content": "You answer questions about orders. " * 4},
        {"role": "user", "content": "Where is my order? I have been waiting for two weeks now."},
    ],
    "temperature": 0.2,
    "stream": True,
    "user": "customer-4711",
}
HEADERS = {
    b"host": b"127.0.0.1:8080",
    b"content-type": b"application/json",
    b"user-agent": b"OpenAI/Python 2.0.0",
    b"x-tier": b"bronze",
    b"x-tenant": b"tenant-999",
}
STRONG = Decision("support", "default", "strong")


def facts() -> Facts:
    return Facts(body=BODY, headers=HEADERS, tenant="search", key="search-team", now=1.7e9, request_id="req-1")


def policy(whens: list[object], *, default: Decision | Split = STRONG, indexed: bool = False) -> Policy:
    rules = tuple(
        Rule(
            f"rule-{number}", compile_when(when), Decision("support", f"rule-{number}", "tuned"), "bench.yaml", number
        )
        for number, when in enumerate(whens)
    )
    last = Rule("default", None, default, "bench.yaml", 0)
    return Policy("support", rules, last, "strong", index=index_rules(rules) if indexed else None)


def ten() -> list[object]:
    """Header, tier and size conditions as in the documents' first example, three times over and one more."""
    tiers = [{"header.x-tier": tier} for tier in ("gold", "silver", "platinum", "trial")]
    sizes = [{"any": [{"prompt_tokens": {"gt": size}}, {"tools": True}]} for size in (6000, 8000, 9000)]
    both = [{"header.x-team": team, "prompt_tokens": {"lt": 50}} for team in ("search", "mail", "maps")]
    return [*tiers, *sizes, *both]


def thousand() -> list[object]:
    """A rule for each tenant, some with a size beside it, and a few that no index helps."""
    tenants = [
        {"header.x-tenant": f"tenant-{number}"} | ({"prompt_tokens": {"gt": 6000}} if number % 3 == 0 else {})
        for number in range(980)
    ]
    return [*tenants, *({"max_tokens": {"gt": 4000 + number}} for number in range(20))]


def microseconds(act: Callable[[], object]) -> float:
    timer = timeit.Timer(act)
    number, _ = timer.autorange()
    return min(timer.repeat(5, number)) / number * 1e6


def split() -> Split:
    arms = (Arm(Decision("support", "default", "tuned", "tuned", 0.25), 0.25),
            Arm(Decision("support", "default", "strong", "strong", 0.75), 0.75))  # fmt: skip
    return Split(arms, "support/default", compile_sticky("user"))


def main() -> None:
    few, few_scanned, many = policy(ten(), indexed=True), policy(ten()), thousand()
    indexed, scanned = policy(many, indexed=True), policy(many)
    drawn = policy([], default=split())
    rows = {
        "facts alone": facts,
        "10 rules, indexed, none matches": lambda: decide(few, facts()),
        "10 rules, scanned, none matches": lambda: decide(few_scanned, facts()),
        "1000 rules, indexed, none matches": lambda: decide(indexed, facts()),
        "1000 rules, scanned, none matches": lambda: decide(scanned, facts()),
        "a split of two, by user": lambda: decide(drawn, facts()),
    }
    print(json.dumps({name: round(microseconds(act), 2) for name, act in rows.items()}, indent=2))


if __name__ == "__main__":
    main()
