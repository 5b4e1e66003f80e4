"""The demo's callers: a believable mixture of requests, sent with the official client."""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Message = dict[str, Any]

QUESTIONS = (
    "Where is my order {order}? It was supposed to arrive on {day}.",
    "I'd like my money back for {order}, please. I was charged twice.",
    "Please cancel {order}, I ordered the wrong colour.",
    "The lamp from order {order} came with a cracked shade. What now?",
    "I moved last week. Can you send {order} to my new address?",
    "Could you send me the invoice for {order} again? My accountant needs it by {day}.",
    "How do I send back the shoes from {order}? They are the wrong size.",
    "I can't log in any more, and I need to see order {order}.",
    "Has {order} shipped yet? The tracking page has shown nothing since {day}.",
    "Do you also sell gift cards?",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
ORDER = {"type": "string", "description": "an order number, such as AC-10423"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up_order",
            "description": "Find an order and where its parcel is.",
            "parameters": {"type": "object", "properties": {"order_id": ORDER}, "required": ["order_id"]},
        },
    }
]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "intent",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"intent": {"type": "string"}, "order_id": {"type": ["string", "null"]}},
            "required": ["intent", "order_id"],
            "additionalProperties": False,
        },
    },
}

# kind -> how many of a hundred requests
MIXTURE = {"plain": 38, "stream": 20, "gold": 12, "own prompt": 12, "tools": 7, "schema": 6, "heavy": 5}
USERS = 40


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what the client's `create` takes besides the model."""

    kind: str
    messages: list[Message]
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back, as the answer's own headers tell it."""

    kind: str
    status: int  # 0: no answer at all
    route: str | None  # decided
    served_by: str | None
    seconds: float
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


def asks(seed: int, prompt: list[Message] | None = None) -> Iterator[Ask]:
    """An endless, repeatable sequence. `prompt`: what callers send who bring the long prompt themselves."""
    chance = random.Random(seed)  # noqa: S311 - a mixture, not a secret
    kinds, weights = list(MIXTURE), list(MIXTURE.values())
    while True:
        yield _ask(chance, chance.choices(kinds, weights)[0], prompt)


def first() -> Ask:
    """A plain question from a gold customer."""
    question = "Where is my order AC-10001? It was supposed to arrive on Monday."
    return Ask(
        "gold", [{"role": "user", "content": question}], headers={"x-tier": "gold"}, options={"user": "user-00"}
    )


def _ask(chance: random.Random, kind: str, prompt: list[Message] | None) -> Ask:
    order = f"AC-{chance.randrange(10_000, 99_999)}"
    question = chance.choice(QUESTIONS).format(order=order, day=chance.choice(DAYS))
    stream = kind == "stream" or chance.random() < 0.2
    messages: list[Message] = [{"role": "user", "content": question}]
    headers = {"x-tier": "gold" if kind == "gold" else chance.choice(("silver", "bronze"))}
    options: dict[str, Any] = {"user": f"user-{chance.randrange(USERS):02}"}
    match kind:
        case "own prompt" if prompt:
            messages = [*prompt, *messages]
        case "heavy":
            messages = [
                {"role": "user", "content": f"{question}\n\nHere is the whole thread:\n\n{_thread(chance, order)}"}
            ]
        case "tools":
            options["tools"] = TOOLS
        case "schema":
            options["response_format"] = SCHEMA
        case "plain" if chance.random() < 0.3:
            options["max_completion_tokens"] = 400
    return Ask(kind, messages, stream, headers, options)


def _thread(chance: random.Random, order: str) -> str:
    """A mail thread of some 28,000 characters: more than the tuned model should read."""
    mails = (
        f"> {chance.choice(DAYS)}, mail {n}: I wrote about {order} before and still have no parcel. Your last answer "
        f"said two more days; that was {chance.randrange(3, 20)} days ago. Please look into it properly this time."
        for n in range(140)
    )
    return "\n".join(mails)


async def send(client: "AsyncOpenAI", model: str, ask: Ask, variables: Mapping[str, str] | None = None) -> Outcome:
    """Send one request and read its whole answer. Never raises for what the server does."""
    import httpx
    import openai  # the demo's extra; and half a second that `--help` need not wait

    started = time.monotonic()
    extra = {"pointsman": {"variables": dict(variables)}} if variables and ask.kind != "own prompt" else None
    headers: Mapping[str, str] = {}
    status, problem = 0, None
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=ask.messages,  # type: ignore[arg-type]  # plain maps, where it wants its TypedDicts
            stream=ask.stream,
            extra_headers=ask.headers,
            extra_body=extra,
            **ask.options,
        )
        headers, status = raw.headers, raw.status_code
        answer: Any = raw.parse()
        if ask.stream:
            finished = False
            async for chunk in answer:
                finished = finished or any(choice.finish_reason for choice in chunk.choices)
            problem = None if finished else "the stream ended early"
    except openai.APIStatusError as error:
        headers, status, problem = error.response.headers, error.status_code, error.message
    except (openai.APIError, httpx.HTTPError) as error:  # the client lets httpx's through once it streams
        problem = str(error) or type(error).__name__
    return Outcome(
        ask.kind,
        status,
        headers.get("x-pointsman-route"),
        headers.get("x-pointsman-served-by"),
        time.monotonic() - started,
        problem,
    )
