"""Mixed traffic for the accounting tests: seeded requests, each with what it makes the stand-ins do, and a sender."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from proxy.standins.journal import Journal

KEYS = {  # secret -> key's tenant
    "sk-search-0123456789abcdef": "search",
    "sk-chat-a-0123456789abcdef": "chat",
    "sk-chat-b-0123456789abcdef": "chat",
}

SYSTEM = (
    "You are the support assistant of {company}. Classify the customer's request and answer with its JSON intent "
    "only. " + " ".join(f"Rule {n}: never promise what the shop of {n} streets cannot keep." for n in range(90))
)
PROMPT = json.dumps(  # YAML too
    {"variables": {"company": {"required": True}}, "messages": [{"system": SYSTEM.format(company="{{ company }}")}]}
)
QUESTIONS = (
    "where is my order AC-10423?",
    "I want my money back for 88123, please",
    "the cup is broken \U0001f622",
    "bitte ändern Sie meine Adresse",
    "I forgot my password",
    "cancel 1234 and 5678 and 9999",
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "strict": {"type": "boolean"}},
            },
        },
    }
]

# Faults that leave the answer whole; `{on}` is filled with the persona that is asked first.
HARMLESS = (
    "no-usage", "usage kind=negative", "usage kind=cached", "usage kind=null", "usage kind=text", "usage kind=float",
    "gzip", "crlf", "joined", "bytewise", "close", "extra-bytes", "no-done", "no-finish",
    "pings count=2 every=0.002", "idle-close", "malformed after=1 kind=json",
)  # fmt: skip
FAILING = (
    "status=429 retry-after=3", "status=500", "status=503 body=html", "status=529 body=anthropic", "status=401",
    "status=403 body=garbage", "status=400", "status=400 code=context_length_exceeded",
    "status=400 code=content_filter", "status=404", "status=302", "reset", "cut after=head", "cut after=2",
    "cut after=3 how=rst pace=0.002", "cut after=2 how=end", "error-json", "error-event",
    "error-event after=2 pace=0.01", "truncated", "wrong-type", "bad-chunk after=2", "huge-header", "huge-line",
    "malformed after=0 kind=array",
)  # fmt: skip
STALLS = ("stall after=request", "stall after=head", "stall after=2")


@dataclass(slots=True)
class Ask:
    """One request to be, and afterwards what its caller saw."""

    number: int
    policy: str
    route: str  # asked for with a header, which the config's rules obey
    secret: str
    stream: bool
    fault: str = ""  # in the stand-ins' language, without `on=`
    on: str = ""  # the persona that it is meant for; "": all
    cancel_after: int | None = None  # content events, or 0: before anything comes
    prompt: str = "none"  # exact, near: the caller's own copy of the known prompt
    fields: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    # what came of it
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    characters: int = 0  # generated ones that the caller got
    error: dict[str, Any] | None = None
    done: bool = False

    @property
    def trace(self) -> str:
        return f"00-{self.number + 1:032x}-00f067aa0ba902b7-01"

    @property
    def body(self) -> dict[str, Any]:
        fault = f" [[fault {self.fault}{f' on={self.on}' if self.on else ''}]]" if self.fault else ""
        messages: list[dict[str, Any]] = [{"role": "user", "content": self.text + fault}]
        if self.prompt != "none":
            system = SYSTEM.format(company="ACME & Söhne")
            if self.prompt == "near":
                system = system.replace("never promise", "do promise")
            messages.insert(0, {"role": "system", "content": system})
        found: dict[str, Any] = {"model": self.policy, "messages": messages, "stream": self.stream, **self.fields}
        return found | ({"pointsman": self.extras} if self.extras else {})


def draw(count: int, seed: int, routes: Sequence[tuple[str, str, str]]) -> list[Ask]:
    """So many requests. `routes`: (policy, route, the persona first asked), by which the traffic is spread."""
    chance = random.Random(seed)
    return [_ask(chance, number, *chance.choice(routes)) for number in range(count)]


def _ask(chance: random.Random, number: int, policy: str, route: str, persona: str) -> Ask:
    ask = Ask(number, policy, route, chance.choice(list(KEYS)), chance.random() < 0.5)
    ask.text = f"{chance.choice(QUESTIONS)} (request {number})"
    _shape(chance, ask)
    what = chance.random()
    if policy == "hasty":
        ask.fault, ask.on = chance.choice(STALLS), persona
    elif what < 0.2:
        ask.fault = chance.choice(HARMLESS)
    elif what < 0.45:
        ask.fault = chance.choice(FAILING)
        ask.on = persona if chance.random() < 0.8 else ""
    elif what < 0.6 and policy != "broken":
        _cancel(chance, ask)
    return ask


def _shape(chance: random.Random, ask: Ask) -> None:
    if ask.stream and chance.random() < 0.5:
        ask.fields["stream_options"] = {"include_usage": True}
    kind = chance.random()
    if kind < 0.15:
        ask.fields |= {"tools": TOOLS, "tool_choice": "required"}
    elif kind < 0.25:
        ask.fields["n"] = 2
    elif kind < 0.35:
        schema = {"type": "object", "properties": {"intent": {"type": "string"}, "order_id": {"type": "string"}}}
        ask.fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    elif kind < 0.4:
        ask.text += " word" * 6000
    if ask.policy == "support":
        ask.prompt = chance.choice(("exact", "exact", "near", "none"))
        if ask.prompt == "none":
            ask.extras = {"variables": {"company": "Initech"}}


def _cancel(chance: random.Random, ask: Ask) -> None:
    ask.fields.pop("tools", None)
    ask.fields.pop("tool_choice", None)
    ask.fault = "tokens=400 pace=0.02"
    ask.cancel_after = chance.randrange(1, 9) if ask.stream else 0
    if ask.stream and chance.random() < 0.2:
        ask.fault, ask.cancel_after = "ttft=8", 0


async def send(base_url: str, asks: Sequence[Ask], concurrency: int, journals: Sequence[Journal]) -> None:
    """Send all of them, so many at a time, and note what came back."""
    gate = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=base_url, timeout=60, limits=limits) as client:

        async def one(ask: Ask) -> None:
            async with gate:
                await (_cancelled(client, ask, journals) if ask.cancel_after == 0 else _sent(client, ask))

        await asyncio.gather(*map(one, asks))


def _request(client: httpx.AsyncClient, ask: Ask) -> httpx.Request:
    headers = {
        "authorization": f"Bearer {ask.secret}",
        "x-route": ask.route,
        "traceparent": ask.trace,
        "x-request-id": str(ask.number),
    }
    return client.build_request("POST", "/chat/completions", json=ask.body, headers=headers)


async def _cancelled(client: httpx.AsyncClient, ask: Ask, journals: Sequence[Journal]) -> None:
    """Leave once the request has been sent on, before anything has come back."""
    work = asyncio.get_running_loop().create_task(client.send(_request(client, ask)))
    while not any(entry.header("traceparent") == ask.trace for journal in journals for entry in journal):
        assert not work.done(), f"request {ask.number} was answered before its caller left"
        await asyncio.sleep(0.02)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled(), f"request {ask.number} was answered before its caller left"


async def _sent(client: httpx.AsyncClient, ask: Ask) -> None:
    answer = await client.send(_request(client, ask), stream=True)
    ask.status, ask.headers = answer.status_code, dict(answer.headers)
    try:
        if not answer.headers["content-type"].startswith("text/event-stream"):
            _read(ask, json.loads(await answer.aread()))
            ask.done = ask.error is None
            return
        events = 0
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                ask.done = True
            elif line.startswith("data: "):
                had = ask.characters
                _read(ask, json.loads(line[6:]))
                events += ask.characters > had
                if ask.cancel_after is not None and events >= ask.cancel_after:
                    return
    finally:
        await answer.aclose()


def _read(ask: Ask, found: dict[str, Any]) -> None:
    """Count what a completion or a chunk brings, and keep an error."""
    ask.error = found.get("error")
    for choice in found.get("choices", ()):
        said = choice.get("message") or choice.get("delta") or {}
        texts = [said.get("content"), said.get("refusal"), said.get("reasoning_content")]
        for call in said.get("tool_calls") or ():
            texts += [call["function"].get("name"), call["function"].get("arguments")]
        ask.characters += sum(len(text) for text in texts if text)
