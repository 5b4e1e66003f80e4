"""A chat completion, start to end: read -> facts -> decide -> run the route -> reply -> settle the account."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from policies.decision import NOTHING_LIVE, Live
from policies.engine import decide
from policies.facts import Facts
from proxy.account import Account
from proxy.driver import drive
from proxy.errors import PointsmanError, Unavailable, UnsupportedMedia
from proxy.exchange import Exchange
from proxy.heads import Heads
from proxy.meter.baseline import Learned
from proxy.reading import parse, read, serving, unrenderable
from proxy.relay import Relaying
from proxy.runtime import Holder, Service, Snapshot
from proxy.settled import Settled, Sink
from proxy.upstreams.registry import Upstreams
from proxy.wire.error import CALLERS, error_event, reply_error, upstream_error
from routes.prompt import RenderError
from routes.route import Ask, run

# The caller's headers that models may see; everything else stays here.
FORWARDED = (b"openai-beta", b"traceparent", b"tracestate")


class Meters(Protocol):
    """What counts while a request runs."""

    def begin(self, policy: str) -> None: ...
    def end(self, policy: str) -> None: ...


class Lease(Protocol):
    """What was set aside for one request; settling returns the rest. Never waits."""

    def settle(self, settled: Settled) -> None: ...


class Ledger(Protocol):
    """The seam around dispatch: budgets will refuse or set aside here, before anything is spent."""

    async def reserve(self, account: Account) -> Lease: ...


class NoLedger:
    """No budgets: every request may run, and nothing is set aside."""

    async def reserve(self, account: Account) -> Lease:
        return self

    def settle(self, settled: Settled) -> None:
        return None


class Chat:
    """`POST /v1/chat/completions`."""

    def __init__(
        self,
        holder: Holder,
        upstreams: Upstreams,
        learned: Learned,
        meters: Meters,
        sinks: Sequence[Sink],
        ledger: Ledger | None = None,
        live: Live = NOTHING_LIVE,
    ) -> None:
        self.holder = holder
        self.upstreams = upstreams
        self.learned = learned
        self.meters = meters
        self.sinks = sinks
        self.ledger = ledger or NoLedger()
        self.live = live
        self._heads = Heads(holder.snapshot.hash)
        self._heads_of: Snapshot = holder.snapshot

    async def __call__(self, exchange: Exchange) -> None:
        snapshot = self.holder.snapshot
        account = Account(snapshot, "chat", client_id(exchange))
        lease: Lease | None = None
        outcome, error = "rejected", None
        try:
            ask, facts, service = await self._read(exchange, snapshot, account)
            decision = account.decision = decide(service.policy, facts, self.live)
            lease = await self.ledger.reserve(account)
            relaying = Relaying(
                exchange, account, decision, self.upstreams, self.learned, self.heads(snapshot), forwarded(exchange)
            )
            try:
                await drive(run(service.routes[decision.route], ask), relaying.relay)
            finally:
                relaying.close()
                if exchange.disconnected and relaying.last is not None:
                    account.close_baseline(relaying.last, self.learned)  # for what was delivered
            outcome, error = self._conclude(exchange, account, relaying)
        except RenderError as failed:
            refused = unrenderable(failed)
            error = refused.code
            reply_error(exchange, account.id, refused)
        except PointsmanError as refusal:
            error = refusal.code
            reply_error(exchange, account.id, refusal)
        except asyncio.CancelledError:
            outcome, error = self._leave(exchange, account)
        finally:
            self._settle(account, lease, outcome, exchange, error)

    # --- read

    async def _read(self, exchange: Exchange, snapshot: Snapshot, account: Account) -> tuple[Ask, Facts, Service]:
        headers = exchange.headers
        caller = account.caller = snapshot.keys.caller(headers.get(b"authorization"))
        content_type = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        if content_type != b"application/json":
            raise UnsupportedMedia(
                f"the request's content type is {content_type.decode('latin-1')[:100]!r}: send application/json"
            )
        body, extras = parse(await exchange.read())
        account.asked = body["model"]
        account.stream = body.get("stream") is True
        service = account.service = serving(snapshot, caller, body["model"])
        self.meters.begin(service.policy.name)
        reading = read(service, caller, headers, body, extras, now=account.started, request_id=account.id)
        ask, facts = reading.ask, reading.facts
        account.caller_prompt = facts.caller_prompt
        account.rate = self.learned.arrived(service.policy.name, account.t0)
        account.is_text = not facts.images
        account.variables = ask.variables
        account.session = facts.session
        account.caller_characters = int(facts.prompt_tokens * 4)
        return ask, facts, service

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
        if exchange.started:
            exchange.finish(error_event(relaying.stream, error.body()["error"]))
        else:
            reply_error(exchange, account.id, error, relaying.named())
        return ("client_error" if failed.failure in CALLERS else "upstream_error"), error.code

    def _leave(self, exchange: Exchange, account: Account) -> tuple[str, str | None]:
        """The request was cut off: the client left, or the server stops. What was used is booked all the same."""
        if exchange.disconnected:
            return "cancelled", None
        error = Unavailable("the server is shutting down", code="server_shutting_down")
        if exchange.started:
            exchange.finish(error_event(None, error.body()["error"]))
        else:
            reply_error(exchange, account.id, error)
        return "cancelled", error.code

    # --- settle

    def _settle(
        self, account: Account, lease: Lease | None, outcome: str, exchange: Exchange, error: str | None
    ) -> None:
        status = 499 if exchange.disconnected else exchange.status
        settled = account.settle(outcome, status, error)
        if account.service is not None:
            self.meters.end(account.service.policy.name)
        if lease is not None:
            lease.settle(settled)
        for sink in self.sinks:
            sink(settled)


def client_id(exchange: Exchange) -> str | None:
    """The client's own request id, for the records: cut, and only what can be printed."""
    given = exchange.headers.get(b"x-request-id")
    if given is None:
        return None
    return "".join(c for c in given.decode("latin-1")[:128] if " " <= c <= "~")


def forwarded(exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name, exchange.headers[name]) for name in FORWARDED if name in exchange.headers)
