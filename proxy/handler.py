"""A chat completion, start to end: read -> facts -> decide -> run the route -> reply -> settle the account."""

import asyncio
from typing import Any, Protocol

import structlog

from policies.decision import NOTHING_LIVE, Live
from policies.engine import decide
from policies.facts import Facts
from proxy.account import Account
from proxy.books import Books, Lease
from proxy.driver import drive
from proxy.errors import InternalError, PointsmanError, Unavailable, UnsupportedMedia
from proxy.exchange import Exchange
from proxy.heads import Heads
from proxy.long import Long
from proxy.means import Means
from proxy.reading import examine, read, serving, unrenderable
from proxy.relay import Relaying
from proxy.runtime import Holder, Service, Snapshot
from proxy.wire.body import parse, parse_in_steps
from proxy.wire.bounds import Bounds
from proxy.wire.error import CALLERS, error_event, reply_error, upstream_error
from proxy.wire.stream import Stream
from proxy.wire.weight import Scale
from routes.prompt import RenderError
from routes.route import Ask, run

log = structlog.get_logger("pointsman")

# The caller's headers that models may see; everything else stays here.
FORWARDED = (b"openai-beta", b"traceparent", b"tracestate")


class Meters(Protocol):
    """What counts while a request runs."""

    def begin(self, policy: str) -> None: ...
    def end(self, policy: str) -> None: ...


class Ledger(Protocol):
    """The seam around dispatch: budgets will refuse or set aside here, before anything is spent."""

    async def reserve(self, account: Account) -> Lease: ...


class Chat:
    """`POST /v1/chat/completions`."""

    def __init__(
        self,
        holder: Holder,
        means: Means,
        meters: Meters,
        books: Books,
        ledger: Ledger | None = None,
        live: Live = NOTHING_LIVE,
    ) -> None:
        self.holder = holder
        self.means = means
        self.meters = meters
        self.books = books
        self.ledger = ledger  # None: every request may run, and nothing is set aside
        self.live = live
        self.long = Long()
        self._heads = Heads(holder.snapshot.hash)
        self._heads_of: Snapshot = holder.snapshot

    async def __call__(self, exchange: Exchange) -> None:
        snapshot = self.holder.snapshot
        account = Account(snapshot, "chat", client_id(exchange))
        lease: Lease | None = None
        relaying: Relaying | None = None
        begun: str | None = None  # the policy in whose gauge this request counts
        outcome, error, status = "rejected", None, 0
        try:
            ask, facts, service = await self._read(exchange, snapshot, account)
            begun = service.policy.name
            self.meters.begin(begun)
            decision = account.decision = decide(service.policy, facts, self.live)
            if self.ledger is not None:
                lease = await self.ledger.reserve(account)
            heads = self.heads(snapshot)
            relaying = Relaying(exchange, account, decision, facts, self.means, heads, forwarded(exchange))
            try:
                await drive(run(service.routes[decision.route], ask), relaying.relay, account.fell_back)
            finally:
                relaying.close()
            outcome, error = self._conclude(exchange, account, relaying)
        except RenderError as failed:
            refused = unrenderable(failed)
            error = refused.code
            self._fail(exchange, account, refused)
        except PointsmanError as refusal:
            error = refusal.code
            refusal.__traceback__ = None  # its frames hold the exchange, which may hold it
            self._fail(exchange, account, refusal)
        except asyncio.CancelledError:
            outcome, error = self._leave(exchange, account, relaying)
        except Exception as defect:  # of ours: it must cost the caller neither an answer nor the id to ask us with
            log.error("defect", id=account.id, error=type(defect).__name__, exc_info=defect)
            if relaying is not None and relaying.served:
                outcome = "ok"  # the caller has had all of it
            else:
                outcome, error, status = "upstream_error", InternalError.code, InternalError.status
                self._fail(exchange, account, InternalError(), relaying.stream if relaying is not None else None)
        finally:
            if begun is not None:
                self.meters.end(begun)
            account.finish(outcome, 499 if exchange.disconnected else exchange.status or status, error)
            if relaying is None or relaying.orphan is None:
                self.books.enter(account, lease)
            else:
                exchange.orphan = relaying.orphan  # which still has the body
                self._enter_later(relaying.orphan, account, lease, relaying)

    def _enter_later(
        self, orphan: asyncio.Task[Any], account: Account, lease: Lease | None, relaying: Relaying
    ) -> None:
        """The caller has left, its bill has not been said yet: the record waits for it."""

        def enter(_: asyncio.Task[Any]) -> None:
            if relaying.last is not None:
                account.close_baseline(relaying.last, self.means.learned)
            self.books.enter(account, lease)

        orphan.add_done_callback(enter)

    # --- read

    async def _read(self, exchange: Exchange, snapshot: Snapshot, account: Account) -> tuple[Ask, Facts, Service]:
        headers = exchange.headers
        caller = account.caller = snapshot.keys.caller(headers.get(b"authorization"), headers)
        check_content_type(headers.get(b"content-type"))
        if b"content-encoding" in headers:
            check_content_encoding(headers[b"content-encoding"])
        bounds = snapshot.bounds
        if exchange.received and exchange.pieces is None:
            body = parse(exchange.body, bounds)
        else:
            body = await self._read_large(exchange, bounds)
        extras, account.is_text = examine(body, "chat", bounds)
        account.asked = body["model"]
        account.stream = body.get("stream") is True
        service = account.service = serving(snapshot, caller, body["model"])
        ask, facts, found = read(service, caller, headers, body, extras, account.started, account.id)
        account.caller_prompt = found.result
        if service.baseline is not None:
            account.rate = self.means.learned.arrived(service.policy.name, account.t0)
        account.variables = ask.variables
        session = extras.get("session") or headers.get(b"x-session-id")
        account.session = facts.session if session else None
        account.caller_characters = int(facts.prompt_tokens * 4)
        return ask, facts, service

    async def _read_large(self, exchange: Exchange, bounds: Bounds) -> dict[str, Any]:
        """Read a body that has not all come, or was long in coming: weighed as it comes, parsed in its turn."""
        scale = Scale(bounds)
        exchange.watch = scale.feed
        pieces = await exchange.read()
        return await self.long.run(parse_in_steps(pieces, scale))

    def heads(self, snapshot: Snapshot) -> Heads:
        if self._heads_of is not snapshot:
            self._heads, self._heads_of = Heads(snapshot.hash), snapshot
        return self._heads

    # --- reply

    def _conclude(self, exchange: Exchange, account: Account, relaying: Relaying) -> tuple[str, str | None]:
        """After the last attempt: say what failed, unless it went well. Returns the outcome and the error's code."""
        failed = relaying.failed
        if relaying.served or failed is None:
            return "ok", None
        error = upstream_error(failed, relaying.retry_after)
        self._fail(exchange, account, error, relaying.stream)
        return ("client_error" if failed.failure in CALLERS else "upstream_error"), error.code

    def _leave(self, exchange: Exchange, account: Account, relaying: Relaying | None) -> tuple[str, str | None]:
        """The request was cut off: the client left, or the server stops. What was used is booked all the same."""
        if relaying is not None and relaying.served:
            return "ok", None  # the caller has had all of it
        if relaying is not None and relaying.last is not None:
            account.close_baseline(relaying.last, self.means.learned)  # for what was delivered
        if exchange.disconnected:
            return "cancelled", None
        error = Unavailable("the server is shutting down", code="server_shutting_down")
        self._fail(exchange, account, error, relaying.stream if relaying is not None else None)
        return "cancelled", error.code

    def _fail(
        self, exchange: Exchange, account: Account, error: PointsmanError, stream: Stream | None = None
    ) -> None:
        """Tell the caller: as the answer, or as the last event of one that has begun."""
        if exchange.started and stream is not None and stream.done:
            exchange.finish()  # it has had [DONE]: the answer is whole
        elif exchange.started:
            left = stream.left if stream is not None else b""
            exchange.finish(left + error_event(stream, error.body()["error"], account.id, account.asked))
        else:
            reply_error(exchange, account.id, error, self._named(account))

    def _named(self, account: Account) -> bytes:
        """The header lines of an error: what was decided, if anything was, and what the attempts cost."""
        decision, service = account.decision, account.service
        if decision is None or service is None:
            return b""
        served = account.attempts[-1].route if account.attempts else decision.route
        return self.heads(account.snapshot).failed(account, decision, service.routes[served])


def client_id(exchange: Exchange) -> str | None:
    """The client's own request id, for the records: cut, and only what can be printed."""
    given = exchange.headers.get(b"x-request-id")
    if given is None:
        return None
    return "".join(c for c in given.decode("latin-1")[:128] if " " <= c <= "~")


def check_content_type(content_type: bytes | None) -> None:
    if content_type is None or content_type == b"application/json":
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise UnsupportedMedia(
            f"the request's content type is {kind.decode('latin-1')[:100]!r}: send application/json"
        )


def check_content_encoding(encoding: bytes) -> None:
    """Compressed bodies are not taken: what they grow to is only known once they have."""
    if encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMedia(
            f"the request's content encoding is {encoding.decode('latin-1')[:100]!r}: send the body as it is"
        )


def forwarded(exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
    headers = exchange.headers
    if b"traceparent" not in headers and b"openai-beta" not in headers and b"tracestate" not in headers:
        return ()
    hop = headers.get(b"connection", b"").lower()  # what it names was meant for us alone
    return tuple((name, headers[name]) for name in FORWARDED if name in headers and name not in hop)
