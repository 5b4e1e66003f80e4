"""A stand-in model server: OpenAI's chat API, strict about requests, misbehaving on demand, with a journal."""

import asyncio
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import orjson
import uvloop

from proxy.standins import anthropic, dialect, faults, plan
from proxy.standins.answer import compose, draw
from proxy.standins.behaviour import BEHAVE, Behaviour, asked_in
from proxy.standins.cache import PromptCache
from proxy.standins.connection import Connection
from proxy.standins.dialect import Envelope
from proxy.standins.journal import Entry, Journal, RawHeaders
from proxy.standins.persona import INSTANT, PERSONAS, Latency, Persona
from proxy.standins.plan import Pace
from proxy.standins.request import ChatRequest, Refused, parse, read
from proxy.standins.steps import Headers, Steps
from proxy.standins.tokens import prompt_pieces

BACKLOG = 4096


class StandIn:
    """`async with StandIn("strong") as strong:` serves on the running loop, `with` in a thread of its own.

    persona: `strong`, `tuned`, or one of your own. seed: of answers and waits. latency: none by default; a
    persona's `latency` looks real. key: callers must send it, as a bearer token or `api-key`. models: the names
    served; by default any. room: entries that the journal keeps.
    """

    def __init__(
        self,
        persona: Persona | str = "strong",
        *,
        seed: int = 0,
        latency: Latency = INSTANT,
        key: str | None = None,
        models: tuple[str, ...] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_alive: float | None = None,
        room: int = 20_000,
    ) -> None:
        self.persona = PERSONAS[persona] if isinstance(persona, str) else persona
        self.seed = seed
        self.latency = latency
        self.key = key
        self.models = models
        self.host = host
        self.port = port
        self.keep_alive = keep_alive  # seconds an idle connection lives; None: as long as the peer likes
        self.journal = Journal(room)
        self.cache = PromptCache()
        self.script: deque[Behaviour | None] = deque()  # for the next chat requests, one each
        self.every: tuple[int, Behaviour] | None = None  # misbehave at each n-th request
        self.connections: set[Connection] = set()
        self._accepted = 0
        self._requests = 0
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"{self.url}/v1"

    def then(self, *behaviours: str | None) -> None:
        """Queue behaviours for the next chat requests; None and "" are good ones."""
        self.script.extend(Behaviour.parse(each) if each else None for each in behaviours)

    # serving

    async def start(self) -> None:
        sock, self._held = self._held, None
        if sock is None:
            sock = _bound(self.host, self.port)
            self.port = sock.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(self._connect, sock=sock, backlog=BACKLOG)

    def refuse(self, seconds: float | None = None) -> None:
        """Refuse new connections, for so long or until `start()`; the port stays ours, running answers go on."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        loop = asyncio.get_running_loop()
        # The listener is closed by the loop's next turn; only then may its address be bound again.
        loop.call_soon(self._hold)
        if seconds is not None:
            loop.call_later(max(seconds, 0.001), self._reopen, loop)

    def _hold(self) -> None:
        if self._server is None and self._held is None:
            self._held = _bound(self.host, self.port)

    def _reopen(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._held is not None:
            self._reopening = loop.create_task(self.start())

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._held is not None:
            self._held.close()
            self._held = None
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=f"standin-{self.persona.name}", daemon=True
        )
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        assert self._stop is not None
        assert self._thread is not None
        loop, stop = self._stop
        loop.call_soon_threadsafe(stop.set)
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            stop = asyncio.Event()
            self._stop = (asyncio.get_running_loop(), stop)
            async with self:
                started.set()
                await stop.wait()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    def _connect(self) -> Connection:
        self._accepted += 1
        return Connection(self, self._accepted)

    # answering: what connections ask

    def entry(self, connection: int, method: str, path: str, headers: RawHeaders, body: bytes) -> Entry:
        self._requests += 1
        number = self._requests
        entry = Entry(
            f"req_{self.seed:04x}{number:012x}", number, connection, method, path, headers, body, time.time()
        )
        if not path.startswith(("/journal", "/script", "/healthz")):
            self.journal.add(entry)
        return entry

    def respond(self, entry: Entry, close: bool) -> Steps:
        """The steps of the answer, framed. Never raises for what a request may contain."""
        headers = self._headers(entry)
        asked, streamed = BEHAVE, False
        try:
            steps, asked, streamed = self._route(entry, headers)
        except Refused as refused:
            steps = plan.plain(refused.status, _error(entry, refused), headers)
        return plan.faulty(steps, asked, streamed, close or asked.fault == "close")

    def after(self, entry: Entry) -> tuple[float | None, bool]:
        """What becomes of the connection: seconds after which it is closed when idle, and whether at once."""
        if not entry.behaviour:
            return self.keep_alive, False
        asked = Behaviour.parse(entry.behaviour)
        if asked.fault == "idle-close":
            wait = asked.number("ms", 0) / 1000
            return wait, False
        return self.keep_alive, asked.fault == "close"

    def _headers(self, entry: Entry) -> Headers:
        return (
            ("x-request-id", entry.id),
            ("openai-organization", "standin"),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("set-cookie", "__cf_bm=standin; path=/; HttpOnly"),
        )

    def _route(self, entry: Entry, headers: Headers) -> tuple[Steps, Behaviour, bool]:
        path, _, query = entry.path.partition("?")
        if path.endswith(("/chat/completions", "/messages")):
            _allow(entry, "POST")
            return self._chat(entry, headers)
        if path.endswith("/models"):
            _allow(entry, "GET")
            self._authorise(entry)
            return (
                plan.plain(200, dialect.models(list(self.models or (self.persona.name,)), 1_790_000_000), headers),
                BEHAVE,
                False,
            )
        return self._service(entry, path, query), BEHAVE, False

    def _service(self, entry: Entry, path: str, query: str) -> Steps:
        """What is no model server's: the journal, the script, health."""
        match entry.method, path:
            case "GET", "/healthz":
                return plan.plain(200, b'{"status": "ok"}')
            case "GET", "/journal":
                wanted = {name: int(values[0]) for name, values in parse_qs(query).items()}
                found = [each.describe() for each in self.journal if each.number > wanted.get("after", 0)]
                return plan.plain(200, orjson.dumps(found[-wanted.get("last", len(found)) :]))
            case "DELETE", "/journal":
                self.journal.clear()
                return plan.plain(200, b"{}")
            case "POST", "/script":
                self.then(*entry.body.decode("utf-8", "replace").splitlines())
                return plan.plain(200, orjson.dumps({"queued": len(self.script)}))
        raise Refused(f"Invalid URL ({entry.method} {path})", status=404)

    def _chat(self, entry: Entry, headers: Headers) -> tuple[Steps, Behaviour, bool]:
        asked = self.script.popleft() if self.script else None
        if asked is None and self.every is not None and entry.number % self.every[0] == 0:
            asked = self.every[1]
        self._authorise(entry)
        if not entry.header("content-type").startswith("application/json"):
            raise Refused("you must provide a model parameter (is the content type application/json?)")
        body = parse(entry.body)
        asked = asked or self._asked(entry, body) or BEHAVE
        entry.behaviour = str(asked)
        streamed = body.get("stream") is True
        if asked.fault == "status":
            return plan.status_answer(asked, headers), asked, streamed
        if asked.fault == "refuse":
            self.refuse(asked.number("seconds", 1))
            return iter(()), Behaviour("reset"), streamed
        request = (anthropic.read if _is_anthropic(entry) else read)(body, self.persona)
        if self.models is not None and request.model not in self.models:
            raise Refused(f"The model `{request.model}` does not exist or you do not have access to it.",
                          status=404, code="model_not_found")  # fmt: skip
        return self._answer(entry, request, asked, headers), asked, streamed

    def _answer(self, entry: Entry, request: ChatRequest, asked: Behaviour, headers: Headers) -> Steps:
        persona = self.persona
        prompt = prompt_pieces(request.body)
        if len(prompt) + (request.limit or 0) > persona.context:
            raise Refused(
                f"This model's maximum context length is {persona.context} tokens. However, your messages resulted "
                f"in {len(prompt)} tokens. Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            )
        cached = self.cache.use(request.model, prompt) if persona.caches_prompts else 0
        length = asked.count("tokens", 0) or None
        answer = compose(request, persona, self.seed, len(prompt), cached, length)
        entry.prompt, entry.cached = len(prompt), cached
        pace = Pace.of(self.latency, draw(self.seed, "wait", str(entry.number)), len(prompt) - cached, asked)
        usage = faults.reported(answer.usage(persona.details), asked) if persona.reports_usage else None
        envelope = Envelope(
            id=f"chatcmpl-{self.seed:04x}{entry.number:012x}",
            created=int(entry.received),
            model=request.model + persona.snapshot,
            fingerprint=f"fp_{persona.name}{self.seed:04x}",
            tier="default" if persona.details else None,
        )
        if _is_anthropic(entry):
            answering = anthropic.stream if request.stream else anthropic.json_answer
            return answering(envelope, answer, pace, asked, headers)
        if request.stream:
            return plan.stream(envelope, answer, usage, request.include_usage, pace, asked, headers)
        return plan.json_answer(envelope, answer, usage, pace, asked, headers)

    def _asked(self, entry: Entry, body: dict[str, Any]) -> Behaviour | None:
        """What the request itself asks for: header, then model name, then its last user message."""
        try:
            for asked in _requested(entry, body):
                if asked is not None and asked.meant_for(self.persona.name):
                    return asked
        except ValueError as wrong:
            raise Refused(str(wrong), param="x-standin", code="unknown_fault") from None
        return None

    def _authorise(self, entry: Entry) -> None:
        if self.key is None:
            return
        given = (
            entry.header("api-key")
            or entry.header("x-api-key")
            or entry.header("authorization").removeprefix("Bearer ").strip()
        )
        if not given:
            raise Refused("You didn't provide an API key. You need to provide it in an Authorization header.",
                          status=401)  # fmt: skip
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            masked = f"{given[:7]}{'*' * max(len(given) - 11, 4)}{given[-4:]}"
            raise Refused(f"Incorrect API key provided: {masked}.", status=401, code="invalid_api_key")


def _requested(entry: Entry, body: dict[str, Any]) -> Iterator[Behaviour | None]:
    header = entry.header("x-standin")
    yield Behaviour.parse(header) if header else None
    _, marked, options = body["model"].partition("?")
    yield Behaviour.parse(options) if marked else None
    messages = body.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        content = messages[-1].get("content")
        yield asked_in(content) if isinstance(content, str) else None


def _is_anthropic(entry: Entry) -> bool:
    return entry.path.partition("?")[0].endswith("/messages")


def _error(entry: Entry, refused: Refused) -> bytes:
    if _is_anthropic(entry):
        return anthropic.error(refused.status, str(refused))
    return dialect.error(refused.error)


def _allow(entry: Entry, method: str) -> None:
    if entry.method != method:
        raise Refused(f"Not allowed to {entry.method} on {entry.path}", status=405)


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock
